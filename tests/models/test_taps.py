import pytest
import torch
from torch import nn

from aftermap.errors import RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import (
    SegformerConfig,
    SiameseUnetConfig,
    SmpConfig,
    UnetConfig,
    Xview2UnetConfig,
)
from aftermap.models.networks.dense import DenseModel
from aftermap.models.taps import feature_channels, tapped

SMALL = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (16, 16, 16)}
XVIEW2 = {"encoder_name": "test_resnet", "decoder_channels": (16, 16, 16, 16, 16)}


def images(dates, size=32, samples=2):
    return torch.randn(samples, dates, 3, size, size, generator=torch.Generator().manual_seed(0))


class Headless(DenseModel):
    dates, classes, stride = 1, 1, 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward_features(self, image):
        return image[:, 0, :1] * self.weight

    def forward_head(self, features, size):
        return features


@pytest.mark.parametrize(
    ("config", "calls"),
    [
        (SiameseUnetConfig(**SMALL), 1),
        (SiameseUnetConfig(fuse="decoder", **SMALL), 1),
        (Xview2UnetConfig(**XVIEW2), 2),
        (SegformerConfig(dates=2, classes=5), 1),
        (SmpConfig(architecture="fpn", encoder_name="resnet18", dates=2, classes=5), 1),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_one_forward_gives_each_dates_features_as_the_encoder_alone_would(config, calls):
    torch.manual_seed(0)
    model = build_model(config).eval()
    both = images(2, size=64)
    with torch.no_grad():
        plain = model(both)
        with tapped(model) as tap:
            logits = model(both)
        alone = [model.encoder(both[:, date])[-1] for date in range(2)]
    assert tap.calls == calls and torch.equal(logits, plain)
    caught = tap.features(len(both))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(caught, alone, strict=True))


def test_features_of_one_date_are_one_map():
    model = build_model(UnetConfig(**SMALL)).eval()
    with tapped(model) as tap:
        model(images(1))
    (found,) = tap.features(2)
    assert found.shape == (2, model.encoder.channels[-1], 32 // model.stride, 32 // model.stride)


def test_features_keep_their_graph():
    model = build_model(SiameseUnetConfig(**SMALL))
    with tapped(model) as tap:
        model(images(2))
    sum(f.sum() for f in tap.features(2)).backward()
    assert all(p.grad is not None for p in model.encoder.body.conv1.parameters())


def test_the_tap_is_gone_after_the_block_even_after_an_error():
    model = build_model(UnetConfig(**SMALL))
    with pytest.raises(ZeroDivisionError), tapped(model) as tap:
        raise ZeroDivisionError
    model(images(1))
    assert tap.calls == 0


def test_wrappers_are_seen_through():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, image):
            return self.module(image)

    model = Wrapper(build_model(UnetConfig(**SMALL)).eval())
    with tapped(model) as tap:
        model(images(1))
    assert tap.calls == 1


def test_features_under_autocast_have_its_precision():
    model = build_model(UnetConfig(**SMALL)).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16), tapped(model) as tap:
        model(images(1))
    assert tap.features(2)[0].dtype == torch.bfloat16


def test_a_model_without_an_encoder_is_refused():
    with pytest.raises(RecipeError, match="Headless has no encoder"), tapped(Headless()):
        pass


@pytest.mark.parametrize(
    ("config", "channels"),
    [
        (SiameseUnetConfig(**SMALL), 48),
        (Xview2UnetConfig(**XVIEW2), 96),
        (SegformerConfig(), 256),
        (SmpConfig(architecture="dpt", encoder_name="vit_tiny_patch16_224", classes=2), 192),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_the_width_of_features_is_found_without_touching_the_model(config, channels):
    model = build_model(config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert feature_channels(model) == channels
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
