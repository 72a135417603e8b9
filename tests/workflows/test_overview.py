"""The whole map in small is gathered from windows, to the same picture however they are cut."""

from pathlib import Path

import numpy as np
import pytest

from aftermap.geo.grid import Grid, Window
from aftermap.inference.tiling import Sample
from aftermap.workflows.mapping.overview import Overview, block_middles, block_px

HEIGHT, WIDTH = 41, 53


def scene(seed: int = 0) -> Sample:
    draw = np.random.default_rng(seed)
    images = draw.integers(1, 256, (2, 3, HEIGHT, WIDTH)).astype(np.uint8)
    valid = np.ones((2, HEIGHT, WIDTH), bool)
    valid[0, 10:22, 7:30] = False
    valid[1, draw.random((HEIGHT, WIDTH)) < 0.02] = False
    images *= valid[:, None]
    return Sample(images, valid, np.zeros((HEIGHT, WIDTH), np.uint8))


def part(whole: Sample, window: Window) -> Sample:
    rows, cols = window.slices
    return Sample(whole.images[..., rows, cols], whole.valid[..., rows, cols], whole.missing[rows, cols])


def never(window: Window) -> Sample:
    raise AssertionError(f"{window} was read again")


def test_blocks_are_the_means_of_their_valid_pixels() -> None:
    pixels = np.array([[10, 20, 0, 0], [30, 41, 0, 8], [5, 5, 200, 200], [5, 6, 200, 203]], np.uint8)
    valid = np.array([[1, 1, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]], bool)
    overview = Overview(Grid.pixels(4, 4), 4)
    overview.add(Window(0, 0, 4, 4), Sample(pixels[None, None], valid[None], np.zeros((4, 4), np.uint8)))
    (image,), (seen,) = overview.finished(never)
    # 101 / 4 = 25.25; one pixel of four is too little; 21 / 4 = 5.25; 803 / 4 = 200.75
    np.testing.assert_array_equal(image[0] * seen, [[25, 0], [5, 201]])
    np.testing.assert_array_equal(seen, [[True, False], [True, True]])


@pytest.mark.parametrize("pixels", [HEIGHT * WIDTH, 600, 250, 100])
def test_windows_in_any_cut_give_the_picture_of_the_whole(pixels: int) -> None:
    grid, whole = Grid.pixels(WIDTH, HEIGHT), scene()
    at_once, in_parts = Overview(grid, pixels), Overview(grid, pixels)
    at_once.add(grid.window, whole)
    for row in (0, 8, 19, 24):
        for col in (0, 11, 30):
            window = Window(row, col, min(19, HEIGHT - row), min(27, WIDTH - col))
            in_parts.add(window, part(whole, window))
    expected, found = at_once.finished(never), in_parts.finished(lambda window: part(whole, window))
    for one, other in zip([*expected[0], *expected[1]], [*found[0], *found[1]], strict=True):
        np.testing.assert_array_equal(one, other)


def test_pictures_in_files_are_those_in_memory_and_leave_no_file(tmp_path: Path) -> None:
    grid, whole = Grid.pixels(WIDTH, HEIGHT), scene(2)
    held, filed = Overview(grid, 600), Overview(grid, 600)
    filed.keep_in(tmp_path)
    for row in (0, 20):
        window = Window(row, 0, min(20, HEIGHT - row), WIDTH)
        for overview in (held, filed):
            overview.add(window, part(whole, window))
            overview.rest()
    again = [each.finished(lambda window: part(whole, window))[0] for each in (held, filed)]
    np.testing.assert_array_equal(*again)
    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_run_has_read_is_read_once_more() -> None:
    grid, whole, read = Grid.pixels(WIDTH, HEIGHT), scene(1), []

    def again(window: Window) -> Sample:
        read.append(window)
        return part(whole, window)

    at_once, resumed = Overview(grid, 300), Overview(grid, 300)
    at_once.add(grid.window, whole)
    rest = Window(20, 0, HEIGHT - 20, WIDTH)
    resumed.add(rest, part(whole, rest))
    for one, other in zip(at_once.finished(never)[0], resumed.finished(again)[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert sum(window.height for window in read) <= HEIGHT


def test_the_blocks_are_as_few_as_asked_for_and_have_a_middle() -> None:
    grid = Grid.pixels(4096, 3906)
    assert (block_px(grid, 16_000_000), block_px(grid, 8_000_000), block_px(grid, 1_000_000)) == (1, 2, 4)
    np.testing.assert_array_equal(block_middles(10, 4), [2, 6, 9])
