import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin
from scipy import ndimage
from textures import texture

from aftermap.geo.alignment.align import _median, gradient_field, measure_shift, phase_shift
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import Patch

GRID = Grid(CRS.from_epsg(32615), from_origin(367000, 4104000, 0.5, 0.5), 320, 320)
shifts = st.floats(-6, 6)


def displaced(image, dx, dy):
    """The image with its content moved right by dx and down by dy (cubic splines)."""
    return np.stack([ndimage.shift(band.astype(float), (dy, dx), order=3, mode="mirror") for band in image])


def reader(pre, post, valid=None):
    """A pair in memory; the second date is resampled bilinearly, as a warp would."""
    valid = np.ones(pre.shape[1:], bool) if valid is None else valid

    def first(window: Window):
        rows, cols = window.slices
        return Patch(pre[:, rows, cols], valid[rows, cols], GRID.crop(window))

    def second(window: Window, dx: float, dy: float):
        rows, cols = window.slices
        moved = (
            post
            if dx == dy == 0
            else np.stack([ndimage.shift(b, (-dy, -dx), order=1, mode="mirror") for b in post])
        )
        return Patch(moved[:, rows, cols], valid[rows, cols], GRID.crop(window))

    return first, second


def other_sensor(image, seed):
    """Another gain and gamma, other blur and noise."""
    rng = np.random.default_rng(seed)
    image = 255 * (np.clip(image, 0, 255) / 255) ** 0.7 * 0.8 + 20
    return np.stack([cv2.GaussianBlur(band, (0, 0), 0.7) for band in image]) + rng.normal(0, 3, image.shape)


@given(shifts, shifts)
@settings(max_examples=12)
def test_shifts_of_one_patch_are_recovered_to_a_fraction_of_a_pixel(dx, dy):
    image = texture(160, 160, seed=3).astype(float)
    crop = Window(16, 16, 128, 128)
    valid = np.ones((128, 128), bool)
    fields = [
        gradient_field(Patch(pixels[(slice(None), *crop.slices)], valid, GRID.crop(crop)))
        for pixels in (image, displaced(image, dx, dy))
    ]
    found_dx, found_dy, peak = phase_shift(fields[0], fields[1], 24)
    assert abs(found_dx - dx) < 0.2 and abs(found_dy - dy) < 0.2
    assert peak > 10


@pytest.mark.parametrize(("dx", "dy"), [(3.0, -2.0), (0.5, 0.5), (-7.3, 4.6), (11.0, 0.0)])
def test_the_shift_between_two_sensors_is_measured_within_015_px_and_removed(dx, dy):
    pre = texture(320, 320, seed=1).astype(float)
    post = other_sensor(displaced(pre, dx, dy), seed=2)
    shift = measure_shift(*reader(pre, post), GRID.window, GRID)
    assert abs(shift.dx_px - dx) < 0.15 and abs(shift.dy_px - dy) < 0.15
    assert shift.applied
    assert shift.agreement_after > shift.agreement_before + 0.005
    assert shift.spread_px < 0.3
    assert shift.dx_m == pytest.approx(dx / 2, abs=0.1)  # 0.5 m pixels


def test_dates_that_already_fit_are_left_alone():
    pre = texture(320, 320, seed=1).astype(float)
    shift = measure_shift(*reader(pre, other_sensor(pre, seed=2)), GRID.window, GRID)
    assert not shift.applied
    assert abs(shift.dx_px) < 0.1 and abs(shift.dy_px) < 0.1
    assert "needs no correction" in shift.reason


@pytest.mark.parametrize("seed", range(4))
def test_unrelated_images_have_no_shift(seed):
    pre, post = (texture(320, 320, seed=s).astype(float) for s in (seed, seed + 100))
    shift = measure_shift(*reader(pre, post), GRID.window, GRID)
    assert not shift.applied
    assert shift.patches == 0
    assert "too different" in shift.reason


def test_white_noise_has_no_shift():
    rng = np.random.default_rng(0)
    pre, post = rng.normal(128, 30, (2, 3, 320, 320))
    assert not measure_shift(*reader(pre, post), GRID.window, GRID).applied


def test_flat_images_have_no_shift():
    flat = np.full((3, 320, 320), 90.0)
    shift = measure_shift(*reader(flat, flat), GRID.window, GRID)
    assert (shift.applied, shift.patches) == (False, 0)
    assert "only 0 patches hold enough data and structure" in shift.reason


def test_a_change_of_half_the_scene_does_not_mislead():
    pre = texture(320, 320, seed=1).astype(float)
    post = displaced(pre, 2.5, -1.5)
    post[:, :, 160:] = texture(320, 160, seed=9)
    shift = measure_shift(*reader(pre, post), GRID.window, GRID)
    assert shift.applied
    assert (shift.dx_px, shift.dy_px) == (pytest.approx(2.5, abs=0.15), pytest.approx(-1.5, abs=0.15))


def test_empty_areas_are_no_structure():
    """A common edge of the data does not move with the content, so it must not vote for no shift."""
    pre = texture(320, 320, seed=1).astype(float)
    post = displaced(pre, 4, 3)
    valid = np.ones((320, 320), bool)
    valid[:, 300:] = valid[:20] = False
    pre, post = pre * valid, post * valid
    shift = measure_shift(*reader(pre, post, valid), GRID.window, GRID)
    assert (shift.dx_px, shift.dy_px) == (pytest.approx(4, abs=0.15), pytest.approx(3, abs=0.15))


def test_opposite_shifts_in_two_halves_are_not_averaged():
    pre = texture(320, 320, seed=1).astype(float)
    post = np.concatenate([displaced(pre, 9, 0)[:, :, :160], displaced(pre, -9, 0)[:, :, 160:]], axis=2)
    shift = measure_shift(*reader(pre, post), GRID.window, GRID)
    if shift.applied:
        assert shift.agreement_after > shift.agreement_before
    assert abs(shift.dx_px) > 8 or not shift.applied


def test_an_overlap_too_small_to_measure_says_so():
    image = texture(320, 320).astype(float)
    shift = measure_shift(*reader(image, image), Window(0, 0, 40, 300), GRID)
    assert (shift.applied, shift.patches) == (False, 0)
    assert shift.reason == "the overlap of 300 x 40 px is too small to measure a shift"


@given(shifts, shifts, st.integers(0, 1000))
@settings(max_examples=6)
def test_an_applied_shift_never_lowers_the_agreement(dx, dy, seed):
    pre = texture(320, 320, seed=seed).astype(float)
    rng = np.random.default_rng(seed)
    post = displaced(pre, dx, dy) + rng.normal(0, rng.uniform(0, 60), pre.shape)
    shift = measure_shift(*reader(pre, post), GRID.window, GRID)
    assert not shift.applied or shift.agreement_after >= shift.agreement_before + 0.005


@pytest.mark.parametrize("count", [1, 2, 5, 8, 1001, 1002])
def test_a_median_is_that_of_numpy(count):
    values = np.round(np.random.default_rng(count).random(count, np.float32), 2)  # many are equal
    assert _median(values) == float(np.median(values))
