from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from aftermap.geo.grid import Grid, Window
from aftermap.inference.tiling import Axis, Band, Sample, padded, predict_parts, predict_rows


class Local:
    """Two classes from the mean of the first band over both dates and a square around each pixel."""

    multiple = 32

    def __init__(self, reach: int = 0) -> None:
        self.reach = reach
        self.calls: list[tuple[int, ...]] = []

    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        self.calls.append(images.shape)
        value = images[:, :, 0].astype(np.float32).mean(axis=1) / 255
        size = (1, 2 * self.reach + 1, 2 * self.reach + 1)
        # like a convolution, it sees zeros beyond the window
        smooth = uniform_filter(value, size=size, mode="constant") if self.reach else value
        return np.stack([1 - smooth, smooth], axis=1)


def reader(images: np.ndarray, missing: np.ndarray | None = None) -> Callable[[Window], Sample]:
    """Windows of an in-memory scene (T, C, H, W)."""
    gaps = np.zeros(images.shape[-2:], np.uint8) if missing is None else missing

    def read(window: Window) -> Sample:
        rows, cols = window.slices
        part = images[:, :, rows, cols]
        assert part.shape[-2:] == (window.height, window.width), "the window reaches beyond the scene"
        hole = gaps[rows, cols]
        return Sample(part, np.repeat((hole == 0)[None], len(images), axis=0), hole)

    return read


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, 3, height, width), dtype=np.uint8)


def run(
    images: np.ndarray, predictor: Local, missing: np.ndarray | None = None, **options: int
) -> list[Band]:
    grid = Grid.pixels(images.shape[-1], images.shape[-2])
    return list(predict_rows(reader(images, missing), predictor, grid, **options))


def joined(bands: list[Band]) -> np.ndarray:
    return np.concatenate([band.probabilities for band in bands], axis=1)


lengths = st.integers(1, 700)
windows = st.sampled_from([(96, 16), (128, 16), (128, 32), (256, 32), (160, 0)])


@given(lengths, windows)
def test_weights_along_an_axis_sum_to_one_up_to_both_ends(length: int, window: tuple[int, int]) -> None:
    axis = Axis.plan(length, window_px=window[0], halo_px=window[1])
    total = np.zeros(axis.starts[-1] + axis.size)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        total[start : start + axis.size] += weights
    np.testing.assert_allclose(total[:length], 1, atol=1e-6)


@given(lengths, windows)
def test_windows_are_multiples_of_the_stride_and_overlap_by_two_halos(
    length: int, window: tuple[int, int]
) -> None:
    axis = Axis.plan(length, window_px=window[0], halo_px=window[1])
    steps = np.diff(axis.starts)
    assert axis.size % 32 == 0 and axis.size <= max(window[0], 32)
    assert all(start % 32 == 0 for start in axis.starts)
    assert (steps <= axis.size - 2 * window[1]).all() and (steps > 0).all()
    assert length <= axis.starts[-1] + axis.size < length + 32


@given(lengths, st.sampled_from([(128, 32), (256, 32)]))
def test_the_outer_half_of_the_halo_has_no_weight_inside_the_scene(
    length: int, window: tuple[int, int]
) -> None:
    axis = Axis.plan(length, window_px=window[0], halo_px=window[1])
    half = window[1] // 2
    assert (axis.weights[1:, :half] == 0).all()
    assert (axis.weights[:-1, axis.size - half :] == 0).all()


def test_1024_px_are_covered_by_three_windows_of_384() -> None:
    axis = Axis.plan(1024, window_px=512, halo_px=32)
    assert (axis.starts, axis.size) == ((0, 320, 640), 384)


def test_a_window_too_small_for_its_halo_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 96 px"):
        Axis.plan(500, window_px=64, halo_px=32)


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(1, 200), st.sampled_from([(96, 16), (128, 16)]))
def test_bands_follow_each_other_and_cover_every_row(
    height: int, width: int, window: tuple[int, int]
) -> None:
    bands = run(scene(height, width), Local(), window_px=window[0], halo_px=window[1])
    assert bands[0].row == 0 and bands[-1].stop == height
    assert all(a.stop == b.row for a, b in pairwise(bands))
    assert joined(bands).shape == (2, height, width)


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(1, 200))
def test_a_constant_stays_constant(height: int, width: int) -> None:
    images = np.full((2, 3, height, width), 51, np.uint8)
    result = joined(run(images, Local(), window_px=96, halo_px=16))
    np.testing.assert_allclose(result[1], 0.2, atol=1e-6)


def test_streaming_equals_one_window_over_the_whole_scene() -> None:
    images = scene(333, 257)
    whole = joined(run(images, Local(reach=8), window_px=512, halo_px=16))
    tiled = joined(run(images, Local(reach=8), window_px=96, halo_px=16))
    assert (
        np.abs(whole - tiled)[:, :-32, :-32].max() < 1e-5
    )  # the last rows and columns differ by their padding


def test_the_result_does_not_depend_on_the_window_size() -> None:
    images = scene(320, 256)
    results = [joined(run(images, Local(reach=8), window_px=w, halo_px=16)) for w in (96, 128, 192, 512)]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-5)


@pytest.mark.parametrize("batch", [2, 3, 100])
def test_the_result_does_not_depend_on_the_batch(batch: int) -> None:
    images = scene(200, 300)
    one = joined(run(images, Local(reach=4), window_px=96, halo_px=16))
    np.testing.assert_array_equal(
        joined(run(images, Local(reach=4), window_px=96, halo_px=16, batch=batch)), one
    )


@pytest.mark.parametrize("finished", [1, 2, 4])
def test_a_run_resumed_after_a_band_gives_the_same_bits(finished: int) -> None:
    images = scene(400, 130)
    bands = run(images, Local(reach=8), window_px=96, halo_px=16)
    rest = run(images, Local(reach=8), window_px=96, halo_px=16, start_row=bands[finished].row)
    assert [band.row for band in rest] == [band.row for band in bands[finished:]]
    np.testing.assert_array_equal(joined(rest), joined(bands[finished:]))


def test_missing_pixels_come_out_as_zeros_with_their_code() -> None:
    images, missing = scene(150, 150), np.zeros((150, 150), np.uint8)
    missing[40:60, 100:] = 2
    bands = run(images, Local(), missing, window_px=96, halo_px=16)
    np.testing.assert_array_equal(np.concatenate([band.missing for band in bands]), missing)
    assert (joined(bands)[:, missing == 2] == 0).all()
    np.testing.assert_allclose(joined(bands).sum(axis=0)[missing == 0], 1, atol=1e-6)


def test_windows_without_any_data_are_not_run() -> None:
    images, missing = scene(96, 500), np.zeros((96, 500), np.uint8)
    missing[:, 96:] = 1
    predictor = Local()
    run(images, predictor, missing, window_px=96, halo_px=16)
    assert (
        sum(shape[0] for shape in predictor.calls) == 2
    )  # the one left of column 96, and the one that straddles it


def test_a_scene_without_any_data_yields_only_codes() -> None:
    images, missing = scene(200, 60), np.full((200, 60), 1, np.uint8)
    predictor = Local()
    bands = run(images, predictor, missing, window_px=96, halo_px=16)
    assert predictor.calls == [] and bands[-1].stop == 200
    assert all((band.missing == 1).all() and band.probabilities.shape[0] == 0 for band in bands)


def test_what_is_held_does_not_grow_with_height() -> None:
    sizes = [
        max(b.missing.shape[0] for b in run(scene(h, 40), Local(), window_px=96, halo_px=16))
        for h in (320, 960)
    ]
    assert sizes[0] == sizes[1]


def blended(images: np.ndarray, missing: np.ndarray, window_px: int, halo_px: int) -> np.ndarray:
    """What `predict_rows` gives, with the whole scene held: every window times its weights, added row by row."""
    height, width = missing.shape
    rows, cols = (Axis.plan(length, window_px=window_px, halo_px=halo_px) for length in (height, width))
    total = np.zeros((2, rows.starts[-1] + rows.size, cols.starts[-1] + cols.size), np.float32)
    for row, down in zip(rows.starts, rows.weights, strict=True):
        for col, across in zip(cols.starts, cols.weights, strict=True):
            here = slice(row, row + rows.size), slice(col, col + cols.size)
            if not missing[here].all():
                shown = padded(images[:, :, *here], rows.size, cols.size)
                total[:, *here] += Local().predict(shown[None])[0] * (down[:, None] * across)
    total = total[:, :height, :width]
    total[:, missing != 0] = 0
    return total


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 260),
    st.integers(1, 260),
    st.sampled_from([(96, 16), (128, 32), (96, 0), (192, 64)]),
    st.integers(1, 3),
    st.lists(st.integers(0, 8), min_size=4, max_size=4),
)
def test_parts_are_what_the_whole_scene_would_be_bit_for_bit(
    height: int, width: int, window: tuple[int, int], batch: int, gap: list[int]
) -> None:
    images, missing = scene(height, width), np.zeros((height, width), np.uint8)
    missing[gap[0] * 30 : gap[1] * 60, gap[2] * 30 : gap[3] * 60] = 1
    grid, options = Grid.pixels(width, height), {"window_px": window[0], "halo_px": window[1]}
    whole = np.full((2, height, width), np.nan, np.float32)
    right = 0
    for part in predict_parts(reader(images, missing), Local(), grid, batch=batch, **options):
        assert part.col == right
        rows, cols = slice(part.row, part.stop), slice(part.col, part.col + part.missing.shape[1])
        right = cols.stop % width
        whole[:, rows, cols] = part.probabilities if len(part.probabilities) else 0
        np.testing.assert_array_equal(part.missing, missing[rows, cols])
    np.testing.assert_array_equal(whole, blended(images, missing, *window))


def test_only_what_windows_share_is_held_of_a_wide_scene() -> None:
    widest = max(
        part.missing.shape[1]
        for part in predict_parts(
            reader(scene(96, 900)), Local(), Grid.pixels(900, 96), window_px=96, halo_px=16
        )
    )
    assert widest <= 96
