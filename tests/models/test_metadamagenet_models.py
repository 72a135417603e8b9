"""MetaDamageNet's U-Nets: counts (section 4.6), module values (14.2) and whole-model values (14.3)."""

import pytest
import torch

from aftermap.models.build import build_model
from aftermap.models.networks.dense import count_parameters
from aftermap.models.networks.xview2 import ConvRelu, DecoderStep, Scse, doubled
from aftermap.models.weights.published import PUBLISHED, original_shapes
from published_fills import fill_pair, filled, golden_fill, golden_input, published_model

COUNTS = {
    # encoder, decoder, localization, damage, state entries of the trunk
    "resnet34": (21_284_672, 4_443_440, 25_728_161, 25_728_597, 234),
    "seresnext50": (25_510_896, 9_048_832, 34_559_761, 34_560_053, 400),
    "dpn92": (34_979_392, 12_429_343, 47_408_768, 47_409_060, 613),
    "senet154": (113_039_984, 11_834_672, 124_874_705, 124_875_141, 1160),
    "efficientunet-b0": (3_595_388, 3_289_488, 6_884_925, 6_885_361, 415),
    "efficientunet-b0-scse": (3_595_388, 3_308_472, 6_903_909, 6_904_345, 435),
    "efficientunet-wide-se-b0": (6_730_688, 3_289_488, 10_020_225, 10_020_661, 415),
    "efficientunet-b0-big": (3_595_388, 6_950_400, 10_545_853, 10_546_433, 415),
    "efficientunet-b4": (16_742_216, 3_830_928, 20_573_193, 20_573_629, 761),
    "efficientunet-b4-scse": (16_742_216, 3_849_912, 20_592_177, 20_592_613, 781),
    "efficientunet-b4-big": (16_742_216, 7_814_400, 24_556_681, 24_557_261, 761),
}
FEATURES = {
    "resnet34": 25_728_112,
    "seresnext50": 34_559_728,
    "dpn92": 47_408_735,
    "senet154": 124_874_656,
    "efficientunet-b0": 6_884_876,
    "efficientunet-b0-scse": 6_903_860,
    "efficientunet-wide-se-b0": 10_020_176,
    "efficientunet-b4": 20_573_144,
    "efficientunet-b4-scse": 20_592_128,
}


@pytest.mark.parametrize("family", COUNTS)
def test_every_network_has_the_published_parameters(family):
    with torch.device("meta"):
        single, double = (
            build_model(PUBLISHED[f"metadamagenet-{family}-{role}"].config)
            for role in ("localization", "damage")
        )
    encoder, decoder, localization, damage, _ = COUNTS[family]
    assert (count_parameters(single.encoder), count_parameters(single.decoder)) == (encoder, decoder)
    assert (count_parameters(single), count_parameters(double)) == (localization, damage)
    assert FEATURES.get(family, encoder + decoder) == encoder + decoder


@pytest.mark.parametrize("family", COUNTS)
def test_every_checkpoint_has_the_published_entries_with_the_trunk_first(family):
    keys = list(original_shapes(f"metadamagenet-{family}-damage"))
    assert sum(key.startswith("unet.") for key in keys) == COUNTS[family][-1]
    assert keys[-2:] == ["res.weight", "res.bias"]
    assert keys[0].startswith("unet.conv6.")
    assert keys.index("unet.conv10." + decoder_end(keys)) < min(
        i for i, key in enumerate(keys) if key.startswith("unet.conv1.")
    )


def decoder_end(keys):
    return next(key for key in keys if key.startswith("unet.conv10.")).removeprefix("unet.conv10.")


SCSE = {
    "fc1.weight": "squeeze.weight",
    "fc1.bias": "squeeze.bias",
    "fc2.weight": "excite.weight",
    "fc2.bias": "excite.bias",
    "spatial_se.0.weight": "spatial.weight",
}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norm_relu(original, ours):
    """Names of one convolution with batch normalisation."""
    pairs = {f"{original}layer.0.{part}": f"{ours}0.{part}" for part in ("weight", "bias")}
    return pairs | {f"{original}layer.1.{part}": f"{ours}1.{part}" for part in NORM}


def wave(function, step, *shape):
    count = torch.Size(shape).numel()
    return function(step * torch.arange(count, dtype=torch.float64)).float().reshape(shape)


@pytest.fixture
def z():
    return wave(torch.sin, 0.3, 1, 32, 3, 3)


@pytest.fixture
def coarse():
    return wave(torch.sin, 0.3, 1, 8, 2, 2)


@pytest.fixture
def skip():
    return wave(torch.cos, 0.2, 1, 4, 4, 4)


def test_the_fill_has_the_stated_values():
    values = golden_fill({"fc1.weight": (1, 3)})["fc1.weight"] * 3**0.5
    assert values[0].tolist() == pytest.approx([0.38558215, 0.28261633, 1.40343589], abs=1e-6)


@torch.no_grad()
def test_scse_that_adds_has_the_published_values(z):
    module = filled(Scse(32, merge="add"), SCSE, golden_fill)
    y = module(z)
    assert count_parameters(module) == 194
    assert float(y.sum()) == pytest.approx(8.376300, abs=1e-5)
    assert y[0, :3, 1, 1].tolist() == pytest.approx([0.779862, -0.634581, 0.263912], abs=1e-6)
    assert float(y[0, -1, -1, -1]) == pytest.approx(-0.803667, abs=1e-6)


@torch.no_grad()
def test_scse_that_concatenates_has_the_channel_half_first(z):
    y = filled(Scse(32, merge="concat"), SCSE, golden_fill)(z)
    assert y.shape == (1, 64, 3, 3)
    assert float(y[:, :32].sum()) == pytest.approx(6.598838, abs=1e-5)
    assert float(y[:, 32:].sum()) == pytest.approx(1.777461, abs=1e-5)
    assert y[0, :3, 1, 1].tolist() == pytest.approx([0.410534, -0.362048, 0.140461], abs=1e-6)


def test_scse_counts_its_parameters_as_published():
    counts = [count_parameters(Scse(c, merge="add")) for c in (320, 160, 96, 64)]
    assert counts == [13_460, 3_530, 1_350, 644]


@torch.no_grad()
def test_a_decoder_step_with_normalisation_has_the_published_values(coarse, skip):
    names = norm_relu("conv1.", "conv1.") | norm_relu("conv2.", "conv2.")
    module = filled(DecoderStep(8, 4, 16, norm=True), names, golden_fill)
    y = module(coarse, skip)
    assert count_parameters(module) == 4_128
    assert y.shape == (1, 16, 4, 4)
    assert float(y.sum()) == pytest.approx(40.413437, abs=1e-5)
    assert y[0, :4, 1, 2].tolist() == pytest.approx([0.342458, 0.319725, 0, 0.406078], abs=1e-6)


@torch.no_grad()
def test_a_gated_decoder_step_has_the_published_values(coarse, skip):
    names = norm_relu("conv1.", "conv1.") | norm_relu("conv2.0.", "conv2.")
    names |= {f"conv2.1.{original}": f"scse.{ours}" for original, ours in SCSE.items()}
    module = filled(DecoderStep(8, 4, 16, scse="add", norm=True), names, golden_fill)
    y = module(coarse, skip)
    assert count_parameters(module) == 4_193
    assert float(y.sum()) == pytest.approx(34.190086, abs=1e-5)
    assert y[0, :4, 1, 2].tolist() == pytest.approx([0.006823, 0, 0, 0.016068], abs=1e-6)


@torch.no_grad()
def test_the_last_decoder_step_has_the_published_values(coarse):
    module = filled(ConvRelu(8, 4, norm=True), norm_relu("conv.", ""), golden_fill)
    y = module(doubled(coarse))
    assert y.shape == (1, 4, 4, 4)
    assert float(y.sum()) == pytest.approx(9.557605, abs=1e-5)
    assert y[0, :, 1, 2].tolist() == pytest.approx([0.140459, 0, 0, 0], abs=1e-6)


FORWARD = {
    # localization: mean, std, [0, 0:2], [31, 40]; damage: mean, std, five channels at [31, 40]
    "resnet34": (
        [0.5505, 0.1319, 0.10551, 0.13754, 0.58837],
        [0.0555, 0.1857, 0.42514, 0.18602, 0.19189, -0.14833, -0.12767],
    ),
    "senet154": (
        [0.0924, 0.0305, 0.02052, 0.02482, 0.10332],
        [0.0627, 0.1192, 0.10094, 0.14772, 0.10404, 0.05467, -0.08676],
    ),
    "seresnext50": (
        [-0.0126, 0.1825, 0.03965, 0.09815, -0.10795],
        [0.0654, 0.2776, 0.21023, -0.13483, 0.11155, 0.48847, -0.31643],
    ),
    "dpn92": (
        [0.0216, 0.0750, 0.02743, 0.01422, -0.05271],
        [0.0343, 0.2022, -0.07406, -0.10180, 0.10485, 0.43604, -0.28369],
    ),
    "efficientunet-b0": (
        [0.1933, 0.0302, 0.25643, 0.26040, 0.22227],
        [0.0752, 0.2420, 0.18122, 0.33215, -0.27765, 0.27566, -0.18872],
    ),
    "efficientunet-b0-scse": (
        [0.2078, 0.0214, 0.25793, 0.20816, 0.22812],
        [0.1397, 0.2830, 0.11900, 0.58115, -0.15989, 0.39343, -0.18676],
    ),
    "efficientunet-wide-se-b0": (
        [0.1933, 0.0302, 0.25651, 0.26042, 0.22226],
        [0.0754, 0.2420, 0.18138, 0.33249, -0.27727, 0.27561, -0.18835],
    ),
    "efficientunet-b4": (
        [0.2678, 0.0274, 0.24514, 0.21924, 0.24126],
        [0.1661, 0.2208, 0.22518, 0.51042, -0.05286, 0.25935, -0.09517],
    ),
}


@pytest.mark.parametrize("family", FORWARD)
@torch.no_grad()
def test_both_networks_give_the_originals_values(family):
    localization, damage = fill_pair(f"metadamagenet-{family}", golden_fill)
    x = golden_input()
    y = published_model(f"metadamagenet-{family}-localization", localization)(x[:, :1])[0]
    found = [y.mean(), y.std(), *y[0, 0, :2], y[0, 31, 40]]
    assert [float(v) for v in found] == pytest.approx(FORWARD[family][0], abs=2e-4)
    y = published_model(f"metadamagenet-{family}-damage", damage)(x)[0]
    found = [y.mean(), y.std(), *y[:, 31, 40]]
    assert [float(v) for v in found] == pytest.approx(FORWARD[family][1], abs=2e-4)
