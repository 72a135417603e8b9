"""Ground that moved unevenly: measured where it did, left alone where it did not."""

import cv2
import numpy as np
import pytest

from aftermap.geo.alignment.local_shift import LocalShift, measure_local_shift
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import Patch

SIZE = 900
GRID = Grid.pixels(SIZE, SIZE)


def ground(seed: int) -> np.ndarray:
    """A scene with edges at many scales, uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((SIZE, SIZE), np.float32)
    for step in (6, 17, 60):
        coarse = rng.random((SIZE // step + 2, SIZE // step + 2)).astype(np.float32)
        total += cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    return (255 * total / total.max()).astype(np.uint8)


def bent(image: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The scene with its content moved right by dx and down by dy, float32 (H, W)."""
    rows, cols = np.indices(image.shape).astype(np.float32)
    return cv2.remap(image, cols - dx, rows - dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def reader(image: np.ndarray, valid: np.ndarray | None = None):
    """Reads windows as `DatePair` does, by whole pixels; beyond the scene nothing is valid."""
    whole = np.ones(image.shape, bool) if valid is None else valid

    def read(window: Window, dx: float = 0.0, dy: float = 0.0) -> Patch:
        rows = np.arange(window.row, window.row + window.height) + round(dy)
        cols = np.arange(window.col, window.col + window.width) + round(dx)
        inside = ((rows >= 0) & (rows < SIZE))[:, None] & ((cols >= 0) & (cols < SIZE))
        take = np.ix_(rows.clip(0, SIZE - 1), cols.clip(0, SIZE - 1))
        kept = inside & whole[take]
        return Patch(np.where(kept, image[take], 0)[None], kept, GRID.crop(window))

    return read


@pytest.fixture(scope="module")
def slope():
    """A displacement that grows from 0 to 5 pixels across the scene, and what is measured of it."""
    rows, cols = np.indices((SIZE, SIZE)).astype(np.float32)
    dx, dy = 5 * cols / SIZE, -3 * rows / SIZE
    pre = ground(1)
    post = bent(pre, dx, dy)
    return pre, post, dx, dy, measure_local_shift(reader(pre), reader(post), GRID.window, (0.0, 0.0))


def test_a_slope_is_measured_to_a_fraction_of_a_pixel_and_taken_out(slope):
    pre, post, dx, dy, field = slope
    assert field.applied and "rises" in field.reason
    told = field.over(GRID.window)
    inner = np.s_[150:-150, 150:-150]
    assert np.abs(told[0] - dx)[inner].mean() < 0.35 and np.abs(told[1] - dy)[inner].mean() < 0.35
    window = Window(250, 300, 256, 256)
    image = field.read(reader(post), window, 0.0, 0.0)
    here = np.s_[250:506, 300:556]
    left = np.abs(image.array[0].astype(float) - pre[here]).mean()
    assert image.valid.all() and left < 0.5 * np.abs(post[here].astype(float) - pre[here]).mean()


def test_one_translation_is_enough_where_the_ground_did_not_bend():
    pre = ground(2)
    field = measure_local_shift(reader(pre), reader(pre), GRID.window, (0.0, 0.0))
    assert not field.applied and "leaves less than" in field.reason and field.largest_px < 0.3


def test_dates_that_do_not_match_are_left_alone():
    field = measure_local_shift(reader(ground(3)), reader(ground(4)), GRID.window, (0.0, 0.0))
    assert not field.applied and "match well enough" in field.reason and field.nodes < 6


def test_a_small_overlap_is_left_alone():
    field = measure_local_shift(reader(ground(3)), reader(ground(3)), Window(0, 0, 500, 900), (0.0, 0.0))
    assert not field.applied and "too small" in field.reason


def test_pixels_without_ground_stay_so_and_lend_nothing_to_their_neighbours():
    nodes, rest = np.array([100, 500]), np.full((2, 2), 0.5, np.float32)
    field = LocalShift(nodes, nodes, rest, 0 * rest, 4, 0.5, 0.5, 0.1, 0.2, True, "")
    valid = np.ones((SIZE, SIZE), bool)
    valid[:, 120:] = False
    patch = field.read(
        reader(np.full((SIZE, SIZE), 200, np.uint8), valid), Window(100, 100, 32, 40), 0.0, 0.0
    )
    assert patch.array.shape == (1, 32, 40) and patch.array.dtype == np.uint8
    assert set(np.unique(patch.array[0][patch.valid])) == {200} and not patch.array[0][~patch.valid].any()
    assert patch.valid[:, :19].all() and not patch.valid[:, 21:].any()


def test_windows_meet_without_a_seam(slope):
    _, post, _, _, field = slope
    whole = field.read(reader(post), Window(200, 200, 128, 256), 0.0, 0.0).array[0].astype(int)
    halves = [field.read(reader(post), Window(200, 200 + c, 128, 128), 0.0, 0.0).array[0] for c in (0, 128)]
    apart = np.abs(whole - np.concatenate(halves, axis=1))  # places are rounded to 1/32 of a pixel
    assert (apart == 0).mean() > 0.98 and apart.max() <= 8
