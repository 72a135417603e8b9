"""More bands than pretrained weights know: every band of every pixel where it belongs."""

import pytest
import torch
from torch.nn import functional as F

from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import ResidualUnetConfig, UnetConfig
from aftermap.models.networks.bands import create_banded, widened
from aftermap.models.weights.pretrained import create_timm, pretrained_normalisation


def folded(image):
    """(B, C, H, W) in blocks of 4 x 4, the bands of one pixel side by side, as TResNet's stem sees it."""
    batch, bands, height, width = image.shape
    blocks = image.view(batch, bands, height // 4, 4, width // 4, 4).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(batch, 16 * bands, height // 4, width // 4)


def stem(pixels=16, seed=0):
    torch.manual_seed(seed)
    return torch.randn(8, 3 * pixels, 3, 3, dtype=torch.float64)


def pixels_of(bands=3, seed=1):
    torch.manual_seed(seed)
    return torch.rand(2, bands, 32, 32, dtype=torch.float64)


class TestFoldingStem:
    def test_an_empty_band_changes_nothing(self):
        image = pixels_of()
        four = torch.cat([image, torch.zeros_like(image[:, :1])], dim=1)
        wide = F.conv2d(folded(four), widened(stem(), 4))
        torch.testing.assert_close(wide, F.conv2d(folded(image), stem()))

    def test_a_fourth_band_is_seen_as_red_is(self):
        image = pixels_of(4)
        red_only = torch.cat([image[:, 3:], torch.zeros_like(image[:, :2])], dim=1)
        wide = F.conv2d(folded(image), widened(stem(), 4))
        torch.testing.assert_close(wide, F.conv2d(folded(image[:, :3]) + folded(red_only), stem()))

    def test_each_pixel_keeps_its_own_bands(self):
        weight = torch.arange(48.0).reshape(1, 48, 1, 1)
        wide = widened(weight, 5).flatten().reshape(16, 5)
        for o in range(16):
            assert wide[o].tolist() == [3 * o, 3 * o + 1, 3 * o + 2, 3 * o, 3 * o]

    def test_the_original_puts_the_first_sixteen_channels_behind_all(self):
        weight = torch.arange(48.0).reshape(1, 48, 1, 1)
        wide = widened(weight, 4, compat_band_order=True).flatten().tolist()
        assert wide == [*range(48), *range(16)]

    def test_the_originals_order_answers_something_else(self):
        image = pixels_of(4)
        right, original = (
            F.conv2d(folded(image), widened(stem(), 4, compat_band_order=quirk)) for quirk in (False, True)
        )
        assert (original - right).norm() / right.norm() > 0.5


def test_a_plain_convolution_gets_a_copy_of_red():
    weight = torch.arange(3.0).reshape(1, 3, 1, 1)
    assert widened(weight, 5).flatten().tolist() == [0, 1, 2, 0, 0]
    assert torch.equal(widened(weight, 5, compat_band_order=True), widened(weight, 5))


def test_a_further_band_can_start_as_the_mean():
    weight = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    assert widened(weight, 4, "mean").flatten().tolist() == [1, 2, 6, 3]


def test_timms_way_repeats_and_scales():
    weight = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    assert widened(weight, 4, "timm").flatten().tolist() == [0.75, 1.5, 4.5, 0.75]


def test_channels_that_are_not_of_three_bands_are_refused():
    with pytest.raises(ModelError, match="on 4 channels does not look at 3 bands"):
        widened(torch.zeros(1, 4, 1, 1), 5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "resnet10t.pth"
    torch.save(create_timm("resnet10t").state_dict(), path)
    return path


def first(model):
    return model.encoder.body.state_dict()["conv1.0.weight"]


def test_a_residual_unet_takes_a_weight_file_with_a_fourth_band(weights):
    common = {"encoder_name": "resnet10t", "encoder_weights": weights}
    three, four = (build_model(ResidualUnetConfig(**common, in_channels=n)) for n in (3, 4))
    assert torch.equal(first(four)[:, :3], first(three))
    assert torch.equal(first(four)[:, 3], first(three)[:, 0])
    name = "layer4.0.conv1.weight"
    assert torch.equal(four.encoder.body.state_dict()[name], three.encoder.body.state_dict()[name])


def test_a_unet_takes_them_as_timm_does_unless_told_otherwise(weights):
    common = {"encoder_name": "resnet10t", "encoder_weights": weights, "in_channels": 4}
    theirs = create_timm("resnet10t", in_channels=4, weights=weights, features_only=True)
    assert torch.equal(first(build_model(UnetConfig(**common))), theirs.state_dict()["conv1.0.weight"])
    red = first(build_model(UnetConfig(**common, extra_bands="red")))
    assert torch.equal(red[:, 3], red[:, 0])


def test_folded_images_are_seen_by_the_mean_of_each_block(weights):
    common = {"encoder_name": "resnet10t", "encoder_weights": weights, "in_channels": 4, "extra_bands": "red"}
    common["decoder_channels"] = (8,) * 6
    plain, fold = (first(build_model(UnetConfig(**common, fold=n))) for n in (1, 2))
    for pixel in range(4):
        torch.testing.assert_close(fold[:, 4 * pixel : 4 * pixel + 4], plain / 4)


def test_weights_that_have_the_bands_already_are_taken_as_they_are(tmp_path):
    torch.manual_seed(4)
    source = create_timm("resnet10t", in_channels=4, features_only=True)
    torch.save(source.state_dict(), tmp_path / "four.pth")
    made = create_banded(
        "resnet10t", in_channels=4, weights=tmp_path / "four.pth", features_only=True
    ).state_dict()
    assert all(torch.equal(made[name], value) for name, value in source.state_dict().items())


def test_tresnet_wants_values_from_0_to_1():
    assert pretrained_normalisation("tresnet_m") == ((0, 0, 0), (255, 255, 255))


def test_a_resnet_wants_the_statistics_of_imagenet():
    mean, std = pretrained_normalisation("resnet34")
    assert mean == pytest.approx((123.675, 116.28, 103.53))
    assert std == pytest.approx((58.395, 57.12, 57.375))


def test_an_encoder_without_published_statistics_is_named():
    with pytest.raises(ModelError, match="no normalisation of encoder no_such_net"):
        pretrained_normalisation("no_such_net")
