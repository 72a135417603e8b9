"""Heads that grow: the worked numbers, and what must stay as it was on every kind of model."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from aftermap.artefacts.store import BOX, load_model
from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import (
    CustomConfig,
    FpnEfficientnetConfig,
    SegformerConfig,
    SiameseUnetConfig,
    SmpConfig,
    TorchangeConfig,
    UnetConfig,
    Xview2UnetConfig,
)
from aftermap.models.growth import class_rows, grow, reorder, with_classes
from aftermap.models.networks.dense import DenseModel


class Linear(DenseModel):
    """A user's own model: a classifier on four bands."""

    dates, stride = 1, 1

    def __init__(self, classes, bias=True):
        super().__init__()
        self.classes = classes
        self.head = nn.Conv2d(4, classes, 1, bias=bias)

    def forward_features(self, image):
        return image[:, 0]

    def forward_head(self, features, size):
        return self.head(features)


def linear(classes=2, **arguments):
    return Linear(classes, **arguments)


def fixed():
    return Linear(2)


LINEAR = f"{__name__}:linear"
SMALL = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (8, 8, 8)}
KINDS = {
    "unet": UnetConfig(**SMALL, classes=3),
    "siamese-unet": SiameseUnetConfig(**SMALL, classes=5),
    "siamese-unet-late": SiameseUnetConfig(**SMALL, classes=5, fuse="decoder", head_stride=4),
    "xview2-unet": Xview2UnetConfig(
        encoder_name="test_resnet", dates=1, classes=2, decoder_channels=(8,) * 5
    ),
    "segformer": SegformerConfig(classes=3, decoder_channels=8),
    "smp-unet": SmpConfig(architecture="unet", encoder_name="test_resnet", classes=3),
    "smp-fpn": SmpConfig(architecture="fpn", encoder_name="test_resnet", classes=3),
    "smp-two-dates": SmpConfig(encoder_name="test_resnet", dates=2, fusion="decoder", classes=5),
    "fpn-efficientnet": FpnEfficientnetConfig(encoder_name="tf_efficientnet_b0", aspp=False),
    "custom": CustomConfig(target=LINEAR, classes=3, arguments={"classes": 3}),
}


def built(config, seed=0):
    torch.manual_seed(seed)
    model = build_model(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after some training, not at their neutral start
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name in class_rows(model, config):
        nn.init.normal_(model.state_dict()[name], std=0.3)
    return model


def images(model, config):
    torch.manual_seed(1)
    bands = 4 if isinstance(config, CustomConfig) else 3
    return torch.randn(1, model.dates, bands, 64, 64)


def of_heads(heads):
    """A classifier on 4 bands: head i has weights 0.1 k + i and biases 0.25 j + 0.5 + i."""
    weights = [(0.1 * torch.arange(4.0 * n).reshape(n, 4) + i) for i, n in enumerate(heads)]
    biases = [0.25 * torch.arange(float(n)) + 0.5 + i for i, n in enumerate(heads)]
    config = CustomConfig(target=LINEAR, classes=sum(heads), arguments={"classes": sum(heads)})
    model = build_model(config)
    model.head.weight.data = torch.cat(weights)[:, :, None, None]
    model.head.bias.data = torch.cat(biases)
    return model, config


def grown_from(heads, added, initialisation):
    model, config = of_heads(heads)
    grown, _ = grow(model, config, heads=heads, added=added, initialisation=initialisation)
    return SimpleNamespace(
        weight=grown.head.weight[:, :, 0, 0].detach(), bias=grown.head.bias.detach(), classes=grown.classes
    )


class TestWorkedInitialisations:
    @pytest.mark.parametrize("initialisation", ["background", "previous-head"])
    def test_one_class_after_the_first_step(self, initialisation):
        new = grown_from([2], 1, initialisation)
        assert new.weight[2].tolist() == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-7)
        assert new.bias.tolist() == pytest.approx([0.5, 0.75, -0.19314718], abs=1e-7)

    def test_the_previous_head_is_the_source_in_the_original(self):
        new = grown_from([2, 1], 1, "previous-head")
        assert new.weight[3].tolist() == pytest.approx([1, 1.1, 1.2, 1.3], abs=1e-6)
        assert new.bias.tolist() == pytest.approx([0.5, 0.75, 1.5, 0.80685282], abs=1e-7)

    def test_the_background_is_the_source_in_the_paper(self):
        new = grown_from([2, 1], 1, "background-rebias")
        assert new.weight[3].tolist() == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-7)
        assert new.bias.tolist() == pytest.approx([-0.19314718, 0.75, 1.5, -0.19314718], abs=1e-7)

    def test_two_classes_at_once(self):
        new = grown_from([3], 2, "background")
        assert new.weight[3:].flatten().tolist() == pytest.approx([0, 0.1, 0.2, 0.3] * 2, abs=1e-7)
        assert new.bias[3:].tolist() == pytest.approx([-0.59861229] * 2, abs=1e-7)
        assert new.bias[0] == 0.5
        both = grown_from([3], 2, "background-rebias")
        assert both.bias[[0, 3, 4]].tolist() == pytest.approx([0.5 - math.log(3)] * 3, abs=1e-7)

    @pytest.mark.parametrize(
        ("added", "initialisation", "wanted"),
        [
            (1, "background-rebias", [0.16139183, 0.53218029, 0.14503605, 0.16139183]),
            (1, "background", [0.27792830, 0.45822631, 0.12488124, 0.13896415]),
            (2, "background-rebias", [0.10759455, 0.53218029, 0.14503605, 0.10759455, 0.10759455]),
            # our notes give the third as 0.11935268; e^-0.3 / (e^0.5 + e^1 + e^-0.3 + 2 e^0.5 / 3) = 0.119352657
            (2, "background", [0.26562422, 0.43794031, 0.11935266, 0.08854141, 0.08854141]),
        ],
    )
    def test_probabilities_at_the_start_of_a_step(self, added, initialisation, wanted):
        config = CustomConfig(target=LINEAR, classes=3, arguments={"classes": 3})
        model = build_model(config).double()
        model.head.weight.data.zero_()
        model.head.bias.data = torch.tensor([0.5, 1.0, -0.3], dtype=torch.float64)
        grown, _ = grow(model, config, heads=[3], added=added, initialisation=initialisation)
        logits = grown(torch.zeros(1, 1, 4, 1, 1, dtype=torch.float64))
        assert logits.softmax(1).flatten().tolist() == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_shares_out_the_background_and_keeps_the_rest(self, kind):
        config = KINDS[kind]
        model = built(config)
        grown, _ = grow(model, config, heads=[config.classes], added=2)
        with torch.no_grad():
            before, after = (m(images(model, config)).softmax(1) for m in (model, grown))
        n = config.classes
        torch.testing.assert_close(after[:, 1:n], before[:, 1:], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(after[:, [0, n, n + 1]].sum(1), before[:, 0], rtol=1e-4, atol=1e-6)

    def test_keeps_every_other_weight_to_the_bit(self, kind):
        config = KINDS[kind]
        model = built(config)
        rows = class_rows(model, config)
        grown, grown_config = grow(model, config, heads=[config.classes], added=1, initialisation="random")
        old, new = model.state_dict(), grown.state_dict()
        assert [k for k in old if k not in rows and not torch.equal(old[k], new[k])] == []
        assert all(torch.equal(old[k], new[k][: config.classes]) for k in rows)
        assert new.keys() == build_model(grown_config).state_dict().keys()
        assert grown_config == with_classes(config, config.classes + 1)

    def test_takes_its_classes_in_another_order(self, kind):
        config = KINDS[kind]
        model = built(config)
        order = [0, *reversed(range(1, config.classes))]
        with torch.no_grad():
            wanted, found = (m(images(model, config)) for m in (model, reorder(model, config, order)))
        torch.testing.assert_close(found, wanted[:, order], rtol=1e-4, atol=1e-5)


def test_growing_twice_keeps_what_the_first_step_learned():
    config = KINDS["unet"]
    model = built(config)
    once, once_config = grow(model, config, heads=[3], added=1)
    once.head.weight.data[3] += 1.0
    twice, twice_config = grow(once, once_config, heads=[3, 1], added=2)
    assert twice.classes == twice_config.classes == 6
    assert torch.equal(twice.head.weight[:4], once.head.weight)
    assert torch.equal(twice.head.weight[4], once.head.weight[0])


def test_the_old_model_is_left_alone():
    config = KINDS["unet"]
    model = built(config)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    grown, _ = grow(model, config, heads=[3], added=1)
    for weight in grown.parameters():
        weight.data += 1
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_random_rows_follow_the_seed():
    config = KINDS["unet"]
    model = built(config)
    rows = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        rows.append(grow(model, config, heads=[3], added=1, initialisation="random")[0].head.weight[3])
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_mode_and_frozen_weights_are_kept():
    config = KINDS["unet"]
    model = built(config).train()
    model.encoder.requires_grad_(False).eval()
    grown, _ = grow(model, config, heads=[3], added=1)
    assert grown.training
    assert not any(module.training for module in grown.encoder.modules())
    assert [n for n, p in grown.named_parameters() if not p.requires_grad] == [
        n for n, _ in grown.named_parameters() if n.startswith("encoder.")
    ]


def test_heads_of_another_model_are_refused():
    config = KINDS["unet"]
    with pytest.raises(ValueError, match=r"heads \[2\] of a model with 3 channels"):
        grow(built(config), config, heads=[2], added=1)


def test_an_order_that_leaves_a_class_out_is_refused():
    config = KINDS["unet"]
    with pytest.raises(ValueError, match=r"order \[0, 2\] does not name each of 3 channels once"):
        reorder(built(config), config, [0, 2])


def test_one_logit_has_no_background():
    config = UnetConfig(**SMALL, classes=1)
    with pytest.raises(ModelError, match="one logit has no background channel"):
        grow(build_model(config), config, heads=[1], added=1)


def test_a_kind_with_five_classes_stays_so():
    with pytest.raises(ModelError, match="models of kind torchange have 5 classes, always"):
        with_classes(TorchangeConfig(), 6)


def test_a_custom_model_that_ignores_the_number_of_classes_is_refused():
    config = CustomConfig(target=f"{__name__}:fixed", classes=2)
    with pytest.raises(ModelError, match="same weights for 2 and for 3 classes"):
        grow(build_model(config), config, heads=[2], added=1)


def test_a_classifier_without_bias_grows_at_random_only():
    config = CustomConfig(target=LINEAR, classes=2, arguments={"classes": 2, "bias": False})
    model = build_model(config)
    with pytest.raises(ModelError, match=r"head\.weight comes without a bias"):
        grow(model, config, heads=[2], added=1)
    assert grow(model, config, heads=[2], added=1, initialisation="random")[0].classes == 3


def test_the_share_of_the_background_is_that_of_the_new_classes():
    new = grown_from([2], 4, "background-rebias")
    assert new.bias[0].item() == pytest.approx(0.5 - math.log(5), abs=1e-7)


def test_a_trained_damage_model_takes_a_further_class():
    box = load_model(BOX)
    model = box.model.eval()
    grown, config = grow(model, box.card.model, heads=[5], added=1)
    torch.manual_seed(0)
    image = torch.randn(1, 2, 3, 64, 64)
    with torch.no_grad():
        before, after = model(image).softmax(1), grown(image).softmax(1)
    assert config.classes == 6
    torch.testing.assert_close(after[:, 1:5], before[:, 1:], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after[:, 0], before[:, 0] / 2, rtol=1e-4, atol=1e-6)
