import math

import numpy as np
import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.data.augment import photometry as p
from aftermap.data.augment.apply import apply_to_bytes, apply_to_floats
from aftermap.data.augment.chain import Drawn, draw
from aftermap.data.augment.operations import (
    BoxBlur,
    Brightness,
    ChannelShift,
    Clahe,
    Contrast,
    Dilation,
    Elastic,
    Gamma,
    GaussianBlur,
    Grayscale,
    HsvShift,
    Noise,
    Saturation,
)

RAMP = (torch.arange(48) / 48).reshape(1, 3, 4, 4)


def one(*values):
    return torch.tensor([values], dtype=torch.float32)


# --- MetaDamageNet's published values with fixed state ---


@pytest.mark.parametrize(
    ("change", "pixel", "expected"),
    [
        (lambda i: p.shift_channels(i, one(0.01, -0.01, 0.5)), (0, 0), (0.01, 0.323333, 1.0)),
        (lambda i: p.shift_hsv(i, one(0.01, 0.01, -0.01)), (1, 2), (0.115604, 0.408672, 0.781667)),
        (lambda i: p.change_brightness(i, one(1)[0], one(0.1)[0]), (1, 2), (0.225, 0.558333, 0.891667)),
        (lambda i: p.change_contrast(i, one(1.1)[0], about_mean=False), (1, 2), (0.1375, 0.504167, 0.870833)),
        (lambda i: p.change_saturation(i, one(1.5)[0]), (1, 2), (0, 0.395833, 0.791667)),
    ],
)
def test_the_published_pixels_come_out(change, pixel, expected):
    assert change(RAMP)[0, :, pixel[0], pixel[1]].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_box_blur_is_the_published_one():
    expected = [0.069444, 0.076389, 0.097222, 0.104167]
    assert p.blur_box(RAMP)[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_dilation_is_the_published_one():
    mask = torch.zeros(1, 9, 9)
    mask[0, 4, 4], mask[0, 0, 0] = 1, 0.5
    expected = torch.zeros(1, 9, 9)
    expected[0, :3, :3] = 0.5
    expected[0, 2:7, 2:7] = 1
    assert torch.equal(p.dilate(mask, size_px=5), expected)


# --- the rest by hand ---


def test_a_dilated_mask_keeps_its_unknown_pixels():
    mask = torch.zeros(1, 5, 5, dtype=torch.int64)
    mask[0, 2, 2], mask[0, 2, 3], mask[0, 0, 0] = 1, 4, IGNORE
    grown = p.dilate(mask, size_px=3)
    assert grown[0].tolist() == [
        [IGNORE, 0, 0, 0, 0],
        [0, 1, 4, 4, 4],
        [0, 1, 4, 4, 4],
        [0, 1, 4, 4, 4],
        [0, 0, 0, 0, 0],
    ]


def test_contrast_about_the_mean_keeps_the_mean():
    image = torch.rand(2, 3, 8, 8) * 0.4 + 0.3
    out = p.change_contrast(image, torch.tensor([0.5, 1.2]), about_mean=True)
    gray = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    assert torch.allclose((out * gray).sum(1).mean((1, 2)), (image * gray).sum(1).mean((1, 2)), atol=1e-6)
    assert out[0].std() == pytest.approx(float(image[0].std()) * 0.5, rel=0.2)


def test_gamma_is_a_power():
    assert p.change_gamma(torch.full((1, 3, 1, 1), 0.25), one(0.5)[0])[0, :, 0, 0].tolist() == [0.5] * 3


def test_grey_is_the_weighted_mean_in_all_bands():
    image = torch.tensor([1.0, 0.5, 0.25]).reshape(1, 3, 1, 1)
    assert p.to_gray(image)[0, :, 0, 0].tolist() == pytest.approx([0.299 + 0.2935 + 0.0285] * 3, abs=1e-6)


def test_a_gaussian_blur_spreads_a_point_by_its_own_sigma():
    image = torch.zeros(2, 3, 9, 9)
    image[:, :, 4, 4] = 1
    out = p.blur_gaussian(image, torch.tensor([0.5, 1.0]))
    weights = [math.exp(-(k**2) / 2 / 0.5**2) for k in range(-2, 3)]
    assert out[0, 0, 4, 4] == pytest.approx((weights[2] / sum(weights)) ** 2, abs=1e-6)
    assert out[1, 0, 4, 4] < out[0, 0, 4, 4]


def test_equalising_widens_a_narrow_histogram():
    image = torch.rand(1, 3, 40, 40) * 0.1 + 0.45
    assert p.equalize(image, clip_limit=40.0, grid=2).std() > 3 * image.std()


def test_a_hue_shift_goes_round_the_circle():
    red = torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1)
    assert p.shift_hsv(red, one(1 / 3, 0, 0))[0, :, 0, 0].tolist() == pytest.approx([0, 1, 0], abs=1e-5)
    assert p.shift_hsv(red, one(-1 / 3, 0, 0))[0, :, 0, 0].tolist() == pytest.approx([0, 0, 1], abs=1e-5)


def test_no_displacement_changes_nothing():
    image = torch.rand(1, 3, 12, 10)
    assert torch.allclose(p.displace(image, torch.zeros(1, 2, 12, 10)), image, atol=1e-6)


def test_a_displacement_reads_right_and_down():
    image = torch.rand(1, 3, 12, 10)
    offset = torch.zeros(1, 2, 12, 10)
    offset[:, 0], offset[:, 1] = 2, 3
    assert torch.allclose(p.displace(image, offset)[..., :9, :8], image[..., 3:, 2:], atol=1e-5)


def test_displacements_stay_within_their_amplitude_and_smoothing_shrinks_them():
    noise = torch.rand(1, 2, 64, 64) * 2 - 1
    rough = p.displacement(noise, torch.tensor([1.2]), sigma_px=0.2)
    smooth = p.displacement(noise, torch.tensor([1.2]), sigma_px=3)
    assert rough.abs().max() <= 1.2 and rough.std() == pytest.approx(1.2 / 3**0.5, rel=0.05)
    # white noise smoothed by a Gaussian: its deviation shrinks by 2 sqrt(pi) sigma
    assert smooth.std() == pytest.approx(float(rough.std()) / (2 * math.pi**0.5 * 3), rel=0.25)


def test_displacement_sideways_can_be_switched_off():
    drawn = draw(
        [Elastic(amount_px=(3, 3), sigma_px=0, compat_rows_only=True)],
        np.random.default_rng(0),
        batch=1,
        dates=1,
    )
    rows = torch.linspace(0, 1, 16).expand(16, 16).expand(1, 1, 3, 16, 16)  # the same in every row
    out, *_ = apply_to_floats(drawn, rows, torch.zeros(1, 16, 16, dtype=torch.int64))
    assert torch.allclose(out, rows, atol=1e-5)


# --- carrying out what was drawn ---


def batch(size=24):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(4, 2, 3, size, size, generator=generator)
    return image, torch.randint(0, 5, (4, size, size), generator=generator)


def only(operation, samples, dates, *state):
    return Drawn(
        operation, np.array(samples), np.array(dates), np.tile(np.array(state, float), (len(samples), 1))
    )


def test_only_what_was_drawn_is_touched_whatever_the_others_hold():
    image, mask = batch()
    image[1:] = float("nan")
    out, labels, _ = apply_to_floats([only(Brightness(), [0], [1], 1, 0.1)], image, mask)
    assert torch.allclose(out[0, 1], (image[0, 1] + 0.1).clamp(0, 1))
    assert torch.equal(out[0, 0], image[0, 0]) and out[1:].isnan().all()
    assert torch.equal(labels, mask)


def test_the_given_batch_is_left_alone():
    image, mask = batch()
    before = image.clone(), mask.clone()
    apply_to_floats([only(Brightness(), [0], [1], 1, 0.1), only(Dilation(), [2], [0])], image, mask)
    assert torch.equal(image, before[0]) and torch.equal(mask, before[1])


ALL = [
    ChannelShift(amount=0.2),
    HsvShift(hue=0.3, saturation=0.3, value=0.3),
    Clahe(),
    Noise(std=0.3),
    BoxBlur(),
    GaussianBlur(sigma_px=(0.8, 1.2)),
    Saturation(factor=(0, 3)),
    Brightness(factor=(0.5, 2), add=(-0.5, 0.5)),
    Contrast(factor=(0.2, 3)),
    Gamma(),
    Grayscale(),
    Elastic(amount_px=(1, 3), sigma_px=1),
]


@pytest.mark.parametrize("operation", ALL, ids=lambda o: o.op)
def test_every_operation_changes_images_within_their_range(operation):
    image, mask = batch()
    drawn = draw([operation], np.random.default_rng(0), batch=4, dates=2)
    out, *_ = apply_to_floats(drawn, image, mask)
    assert out.shape == image.shape and out.min() >= 0 and out.max() <= 1 and not out.isnan().any()
    assert ((out - image).abs().amax((2, 3, 4)) > 1e-3).all()


@pytest.mark.parametrize("operation", [o for o in ALL if hasattr(o, "compat_uint8")], ids=lambda o: o.op)
def test_every_operation_with_8_bit_arithmetic_changes_the_drawn_bytes_alone(operation):
    images = np.random.default_rng(0).integers(0, 255, (3, 2, 24, 24, 3), np.uint8)
    before = images.copy()
    operation = operation.model_copy(update={"compat_uint8": True, "dates": "post"})
    rest = apply_to_bytes(draw([operation, Grayscale()], np.random.default_rng(0), batch=3, dates=2), images)
    assert {entry.operation.op for entry in rest} == {"grayscale"}
    assert np.array_equal(images[:, 0], before[:, 0])
    assert (images[:, 1] != before[:, 1]).any((1, 2, 3)).all()


def test_bytes_are_handed_over_as_blue_green_red():
    images = np.full((1, 1, 4, 4, 3), 100, np.uint8)
    apply_to_bytes([only(ChannelShift(compat_uint8=True), [0], [0], 5, -5, 3)], images)
    assert images[0, 0, 0, 0].tolist() == [105, 95, 103]


def test_noise_has_its_deviation_and_no_mean():
    image, mask = torch.full((2, 1, 3, 64, 64), 0.5), torch.zeros(2, 64, 64, dtype=torch.int64)
    out, *_ = apply_to_floats(draw([Noise(std=0.1)], np.random.default_rng(0), batch=2, dates=1), image, mask)
    assert out.std() == pytest.approx(0.1, rel=0.03) and out.mean() == pytest.approx(0.5, abs=0.003)
    assert not torch.equal(out[0], out[1])


def test_elastic_motion_takes_dates_and_mask_along():
    mask = torch.randint(0, 5, (2, 24, 24), generator=torch.Generator().manual_seed(1))
    mask[0, :4] = IGNORE
    image = (mask * 0.004)[:, None, None].expand(2, 2, 3, 24, 24)
    drawn = draw([Elastic(amount_px=(2, 2), sigma_px=0)], np.random.default_rng(0), batch=2, dates=2)
    out, labels, _ = apply_to_floats(drawn, image, mask)
    assert torch.equal(out[:, 0], out[:, 1]) and not torch.equal(labels, mask)
    assert set(labels.unique().tolist()) <= set(mask.unique().tolist())
    smooth = torch.linspace(0, 1, 24).expand(2, 2, 3, 24, 24)
    moved, *_ = apply_to_floats(drawn, smooth, mask)
    columns = (torch.linspace(0, 1, 24) * 23).round().long().expand(2, 24, 24)
    _, carried, _ = apply_to_floats(drawn, smooth, columns)
    assert (carried - moved[:, 0, 0] * 23).abs().max() <= 0.51


def test_elastic_motion_can_leave_the_mask():
    image, mask = batch()
    drawn = draw([Elastic(dates="post", compat_image_only=True)], np.random.default_rng(0), batch=4, dates=2)
    out, labels, _ = apply_to_floats(drawn, image, mask)
    assert torch.equal(labels, mask) and torch.equal(out[:, 0], image[:, 0])
    assert not torch.equal(out[:, 1], image[:, 1])
