"""Two siamese U-Nets as one: what is fused, where each begins, and that both learn."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from aftermap.config import build_config
from aftermap.errors import ModelError, RecipeError
from aftermap.models.build import build_model, without_weights
from aftermap.models.configs import LateFusionConfig, SiameseUnetConfig
from aftermap.models.growth import grow
from aftermap.models.weights.transfer import transfer_trunk

SMALL = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (16, 16, 16)}
OTHER = SiameseUnetConfig(**SMALL | {"decoder_channels": (8, 8, 8)}, fold=2, head_stride=2)


def images(side=64):
    return torch.randn(2, 2, 3, side, side, generator=torch.Generator().manual_seed(0))


def fused(**keys):
    torch.manual_seed(1)
    return build_model(LateFusionConfig(**SMALL | {"second": OTHER} | keys)).eval()


@torch.no_grad()
def test_buildings_are_a_weighted_mean_and_degrees_a_geometric_one():
    same = SiameseUnetConfig(**SMALL)
    model = fused(second=same, second_share=0.25)
    torch.manual_seed(1)
    first = build_model(same).eval()
    first.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("second.")})
    one, two = first(images()).softmax(1), model.second(images()).softmax(1)
    found = model(images()).softmax(1)
    building = 0.75 * (1 - one[:, 0]) + 0.25 * (1 - two[:, 0])
    torch.testing.assert_close(1 - found[:, 0], building)
    shares = (one[:, 1:] * two[:, 1:]).sqrt()
    shares /= shares.sum(1, keepdim=True)
    torch.testing.assert_close(found[:, 1:], building[:, None] * shares)


@torch.no_grad()
def test_the_second_sees_images_at_its_size():
    model = fused(second_scale=0.75)
    seen = []
    model.second.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert model.stride == 4 * model.second.stride
    side = 2 * model.stride
    assert model(images(side)).shape == (2, 5, side, side)
    assert seen == [(4, 3, side * 3 // 4, side * 3 // 4)]


def test_the_first_grows_from_a_model_and_the_second_from_a_file(tmp_path):
    torch.manual_seed(2)
    parent, other = build_model(SiameseUnetConfig(**SMALL)), build_model(OTHER)
    save_file({k: v.half() for k, v in other.state_dict().items()}, tmp_path / "model.safetensors")
    model = fused(second_weights=tmp_path / "model.safetensors")
    report = transfer_trunk(parent, model)
    assert all(name.startswith("second.") for name in report.kept)
    assert not report.reshaped
    assert not report.unused
    own, expected = model.second.state_dict(), other.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[name].half(), expected[name].half()) for name in own)


def test_a_file_of_another_network_is_refused(tmp_path):
    save_file({"head.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="does not fit the second network"):
        fused(second_weights=tmp_path / "other.safetensors")


def test_a_copy_without_weights_asks_for_no_file(tmp_path):
    config = LateFusionConfig(
        **SMALL | {"second": OTHER},
        second_weights=tmp_path / "gone.safetensors",
        encoder_weights=tmp_path / "gone",
    )
    bare = without_weights(config)
    assert bare.second_weights is None
    build_model(bare)


def test_both_learn():
    model = fused(second_scale=0.5).train()
    side = model.stride * 2
    image = images(side)
    mask = torch.zeros(2, side, side, dtype=torch.int64)
    mask[:, 8:24, 8:24], mask[:, 30:50, 30:50] = 1, 4
    image[:, 1] += (mask == 4)[:, None] * 3.0
    image[:, 0] += (mask > 0)[:, None] * 3.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(image), mask)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in (model.head.weight, model.second.head.weight)
    )


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"second_scale": 0.7}, "whole eighths"),
        ({"second": {"classes": 4}}, "4 classes of 3 bands"),
        ({"second_share": 1.0}, "second_share"),
    ],
)
def test_networks_that_do_not_fit_are_refused(keys, told):
    with pytest.raises(RecipeError, match=told):
        build_config(LateFusionConfig, {"kind": "late-fusion"} | keys)


def test_it_does_not_grow_by_classes():
    config = LateFusionConfig(**SMALL | {"second": OTHER})
    with pytest.raises(ModelError, match="always"):
        grow(build_model(config), config, heads=[5], added=1)
