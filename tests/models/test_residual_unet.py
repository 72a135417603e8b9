"""The residual U-Net: the published counts, the decoder against a reference, the classifier at both resolutions."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from aftermap.errors import RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import ResidualUnetConfig
from aftermap.models.embedding import forward_all
from aftermap.models.growth import grow
from aftermap.models.networks.dense import count_parameters
from aftermap.models.networks.residual_unet import resampled

TINY = {"encoder_name": "resnet10t", "encoder_options": {"channels": [8, 16, 24, 32]}}
"""Stages of 64, 8, 16, 24 and 32 channels: blocks with and without an adapter."""


def built(seed=0, **values):
    torch.manual_seed(seed)
    return build_model(ResidualUnetConfig(**TINY | values))


def images(size=64, batch=2, bands=3):
    torch.manual_seed(1)
    return torch.randn(batch, 1, bands, size, size)


@pytest.mark.parametrize(
    ("values", "encoder", "decoder", "head"),
    [
        ({"encoder_name": "tresnet_m"}, 29_340_032, 32_008_640, 390),
        ({"encoder_name": "tresnet_m", "in_channels": 4}, 29_349_248, 32_008_640, 390),
        ({"encoder_name": "tresnet_l"}, 53_556_256, 45_135_716, 462),
        ({"encoder_name": "resnet34", "output_stride": 16}, 21_284_672, 2_593_312, 390),
        ({"encoder_name": "resnet50"}, 23_508_032, 40_109_248, 390),
    ],
    ids=lambda v: "-".join(map(str, v.values())) if isinstance(v, dict) else "",
)
def test_it_has_the_published_number_of_parameters(values, encoder, decoder, head):
    with torch.device("meta"):
        model = build_model(ResidualUnetConfig(**values, classes=6))
    assert [count_parameters(m) for m in (model.encoder, model.decoder, model.head)] == [
        encoder,
        decoder,
        head,
    ]


def test_tresnet_gives_the_levels_from_stride_4_on():
    with torch.device("meta"):
        model = build_model(ResidualUnetConfig(encoder_name="tresnet_m"))
    assert model.encoder.channels == [64, 128, 1024, 2048]
    assert model.encoder.strides == [4, 8, 16, 32]
    assert model.stride == 32


def test_dilation_keeps_the_deepest_stage_at_stride_16():
    model = built(output_stride=16).eval()
    assert model.encoder.strides == [2, 4, 8, 16, 16]
    assert model.stride == 16
    assert model.encoder(images(48)[:, 0])[-1].shape[-2:] == (3, 3)
    assert model(images(48)).shape == (2, 2, 48, 48)


@pytest.mark.parametrize(
    ("values", "activate"),
    [
        ({}, F.relu),
        ({"activation": "identity"}, lambda x: x),
        ({"activation": "leaky-relu"}, lambda x: torch.where(x > 0, x, 0.01 * x)),
        ({"norm": "iabn"}, lambda x: torch.where(x > 0, x, 0.01 * x)),
    ],
)
def test_the_decoder_is_the_published_one(values, activate):
    model = built(**values).double().eval()
    for module in model.decoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    stages = model.encoder(images().double()[:, 0])
    x = stages[-1]
    for block, skip in zip(model.decoder.blocks, stages[-2::-1], strict=True):
        scale = skip.shape[-1] // x.shape[-1]
        # as published: resample first, then the 1x1 convolution
        wide = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=True)
        u = F.conv2d(wide, block.reduce.weight, block.reduce.bias)
        y = torch.cat([u, skip], dim=1)
        for layer in block.convolutions:
            if isinstance(layer, nn.Conv2d):
                y = F.conv2d(y, layer.weight, padding=1)
            elif isinstance(layer, nn.BatchNorm2d):
                share = layer.weight / torch.sqrt(layer.running_var + 1e-5)
                y = (y - layer.running_mean[:, None, None]) * share[:, None, None] + layer.bias[:, None, None]
                y = activate(y)
        same = block.reduce.out_channels == skip.shape[1]
        x = y + (u if same else F.conv2d(u, block.adapter.weight, block.adapter.bias))
    torch.testing.assert_close(model.forward_features(images().double()), x)


def test_an_adapter_stands_where_the_widths_differ():
    with torch.device("meta"):
        blocks = build_model(ResidualUnetConfig(encoder_name="tresnet_m")).decoder.blocks
    widths = [
        (
            b.reduce.in_channels,
            b.reduce.out_channels,
            b.convolutions[0].in_channels,
            b.convolutions[0].out_channels,
        )
        for b in blocks
    ]
    assert widths == [(2048, 1024, 2048, 1024), (1024, 512, 640, 128), (128, 64, 128, 64)]
    assert [isinstance(b.adapter, nn.Identity) for b in blocks] == [True, False, True]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_classifying_at_full_resolution_gives_the_same_logits(mode):
    model = built(classes=4).double().train(mode == "train")
    image = images().double()
    torch.manual_seed(5)
    cheap = model(image)
    torch.manual_seed(5)  # the same dropout
    outputs = forward_all(model, image, features="embedding")
    torch.testing.assert_close(outputs.logits, cheap)
    assert outputs.features.shape == (2, 64, 64, 64)


def test_the_embedding_is_the_resampled_trunk_where_nothing_is_dropped():
    model = built().eval()
    trunk = forward_all(model, images(), features="trunk").features
    assert trunk.shape == (2, 64, 32, 32)
    wanted = F.interpolate(trunk, size=(64, 64), mode="bilinear", align_corners=True)
    assert torch.equal(forward_all(model, images(), features="embedding").features, wanted)


def test_the_trunk_comes_before_the_dropout():
    model = built().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    first, second = (forward_all(model, images(), features="trunk").features for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("scale", "student", "teacher"), [(4, 0.8912, 0.4452), (2, 0.8927, 0.4463)])
def test_dropout_leaves_a_floor_under_the_distance_of_equal_features(scale, student, teacher):
    torch.manual_seed(0)
    model = built(dropout=0.5).train()
    features = torch.ones(8, 64, 128, 128)
    size = (128 * scale, 128 * scale)
    one, two = model.embed(features[:4], size), model.embed(features[:4], size)
    still = model.eval().embed(features[:4], size)
    assert F.mse_loss(one, two).item() == pytest.approx(student, abs=0.004)
    assert F.mse_loss(one, still).item() == pytest.approx(teacher, abs=0.002)
    low = F.dropout(features, 0.5), F.dropout(features, 0.5)
    assert F.mse_loss(*low).item() == pytest.approx(2, abs=0.01)
    assert F.mse_loss(low[0], features).item() == pytest.approx(1, abs=0.01)


def test_dropout_of_whole_maps():
    model = built(dropout2d=True).train()
    embedded = model.embed(torch.ones(1, 64, 8, 8), (16, 16))
    assert set(embedded.flatten(2).mean(2).unique().tolist()) == {0.0, 2.0}
    assert embedded.flatten(2).std(2).max() < 1e-6


def test_every_parameter_has_a_gradient_through_either_way():
    for features in ("none", "embedding"):
        model = built()
        forward_all(model, images(), features=features).logits.square().mean().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_it_grows_and_keeps_what_it_knew():
    config = ResidualUnetConfig(**TINY, classes=3)
    torch.manual_seed(0)
    model = build_model(config).eval()
    nn.init.normal_(model.head.bias)
    grown, _ = grow(model, config, heads=[3], added=2)
    with torch.no_grad():
        before, after = model(images()).softmax(1), grown(images()).softmax(1)
    torch.testing.assert_close(after[:, 1:3], before[:, 1:], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after[:, [0, 3, 4]].sum(1), before[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"])
def test_other_encoders_fit(name):
    with torch.device("meta"):
        model = build_model(ResidualUnetConfig(encoder_name=name)).eval()
        assert model(torch.zeros(1, 1, 3, 224, 224)).shape == (1, 2, 224, 224)


def test_resampling_to_the_same_size_changes_nothing():
    x = torch.randn(1, 2, 5, 7)
    assert resampled(x, (5, 7)) is x


def test_tresnet_cannot_be_dilated():
    with pytest.raises(RecipeError, match=r"tresnet_m cannot be cut into stages with {'output_stride': 16}"):
        build_model(ResidualUnetConfig(output_stride=16))


def test_iabn_has_its_own_activation():
    with pytest.raises(ValidationError, match="norm iabn ends in a leaky ReLU: leave activation relu out"):
        ResidualUnetConfig(norm="iabn", activation="relu")
    card = ResidualUnetConfig(norm="iabn")
    assert ResidualUnetConfig.model_validate(card.model_dump()) == card
