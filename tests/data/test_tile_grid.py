import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.preparing.tile_grid import compat_starts, compat_windows, isaid_starts, starts, windows


@settings(max_examples=150)
@given(length=st.integers(1, 500), tile=st.integers(1, 120), share=st.floats(0, 1, exclude_max=True))
def test_every_pixel_lies_in_a_tile(length, tile, share):
    overlap = int(share * tile)
    covered = np.zeros(length, bool)
    firsts = starts(length, tile, overlap)
    for first in firsts:
        assert 0 <= first <= max(length - tile, 0)
        covered[first : first + tile] = True
    assert covered.all()
    assert firsts == sorted(set(firsts))


@settings(max_examples=60)
@given(length=st.integers(2, 400), tile=st.integers(2, 100), share=st.floats(0, 0.9))
def test_neighbours_share_at_least_the_overlap(length, tile, share):
    overlap = int(share * tile)
    firsts = starts(length, tile, overlap)
    assert all(b - a <= tile - overlap for a, b in itertools.pairwise(firsts))


def test_tiles_of_a_potsdam_image():
    assert starts(6000, 512, 112) == [*range(0, 5488, 400), 5488]
    assert len(windows(6000, 6000, 512, 112)) == 225


def test_a_small_image_is_one_tile_of_its_size():
    (window,) = windows(30, 40, 64, 8)
    assert (window.row, window.col, window.height, window.width) == (0, 0, 30, 40)


@pytest.mark.parametrize(("length", "tile", "overlap"), [(0, 8, 0), (8, 0, 0), (8, 8, 8), (8, 8, -1)])
def test_sizes_that_make_no_grid(length, tile, overlap):
    with pytest.raises(ValueError, match="expected an overlap from 0"):
        starts(length, tile, overlap)


class TestTheOriginal:
    """Section 22.7 of our notes, computed with the original's functions."""

    @pytest.mark.parametrize(
        ("overlap", "expected"),
        [
            (0, [0, *range(494, 4995, 500), 5488]),
            (12, [0, *range(494, 4995, 500), 5488]),
            (64, [0, *range(437, 5058, 462), 5488]),
            (112, [0, *range(344, 5145, 400), 5488]),
            (128, [0, *range(344, 5145, 400), 5488]),
            (256, [0, *range(136, 5357, 261), 5488]),
        ],
    )
    def test_a_potsdam_image(self, overlap, expected):
        assert compat_starts(6000, 512, overlap) == expected

    @pytest.mark.parametrize(
        ("overlap", "expected"),
        [(0, [0, 22, 47, 68]), (4, [1, 35, 68]), (12, [0, 14, 34, 54, 68])],
    )
    def test_a_small_image(self, overlap, expected):
        assert compat_starts(100, 32, overlap) == expected

    @pytest.mark.parametrize(
        ("size", "overlap", "rows", "cols"),
        [
            ((2569, 1919), 0, [0, 388, 817, 1246, 1675, 2057], [0, 464, 944, 1407]),
            ((2569, 1919), 12, [173, 1030, 1887], [0, 320, 704, 1088, 1407]),
        ],
    )
    def test_a_vaihingen_image_has_rows_counted_by_its_width(self, size, overlap, rows, cols):
        found = compat_windows(*size, 512, overlap)
        assert sorted({w.row for w in found}) == rows
        assert sorted({w.col for w in found}) == cols
        assert len(found) == len(rows) * len(cols)

    @pytest.mark.parametrize(
        ("size", "tile", "overlap", "axis", "expected", "uncovered"),
        [
            ((2569, 1919), 512, 12, 0, [173, 1030, 1887], 1033),
            ((2569, 1919), 512, 112, 0, [66, 709, 1352, 1995], 521),
            ((1783, 2995), 512, 12, 1, [244, 1243, 2242], 1459),
            ((100, 60), 32, 4, 0, [9, 59], 36),
        ],
    )
    def test_stripes_lie_in_no_tile(self, size, tile, overlap, axis, expected, uncovered):
        firsts = sorted({(w.row, w.col)[axis] for w in compat_windows(*size, tile, overlap)})
        covered = np.zeros(size[axis], bool)
        for first in firsts:
            covered[first : first + tile] = True
        assert firsts == expected
        assert int((~covered).sum()) == uncovered

    def test_an_image_of_one_tile_is_refused(self):
        with pytest.raises(ValueError, match="expected more than one tile of 32"):
            compat_windows(20, 32, 32)

    @pytest.mark.parametrize(
        ("size", "tile", "overlap", "rows", "cols"),
        [
            ((6000, 6000), 512, 0, 12, 12),
            ((6000, 6000), 512, 12, 12, 12),
            ((6000, 6000), 512, 64, 13, 13),
            ((6000, 6000), 512, 112, 15, 15),
            ((6000, 6000), 512, 128, 15, 15),
            ((6000, 6000), 512, 256, 23, 23),
            ((2569, 1919), 512, 0, 6, 4),
            ((2569, 1919), 512, 12, 3, 5),
            ((2569, 1919), 512, 112, 4, 6),
            ((1783, 2995), 512, 12, 5, 3),
            ((100, 60), 32, 4, 2, 3),
        ],
    )
    def test_grids_have_their_rows_and_columns(self, size, tile, overlap, rows, cols):
        found = compat_windows(*size, tile, overlap)
        assert len({w.row for w in found}) == rows
        assert len({w.col for w in found}) == cols
        assert len(found) == rows * cols

    @pytest.mark.parametrize(
        ("size", "tile", "overlap", "uncovered"),
        [((100, 100), 32, 0, 0), ((100, 100), 32, 4, 4), ((100, 100), 32, 12, 0), ((6000, 6000), 512, 12, 0)],
    )
    def test_square_images_too_may_lose_pixels(self, size, tile, overlap, uncovered):
        firsts = {w.row for w in compat_windows(*size, tile, overlap)}
        covered = {pixel for first in firsts for pixel in range(first, first + tile)}
        assert len(set(range(size[0])) - covered) == uncovered

    @pytest.mark.parametrize(
        ("length", "expected"),
        [
            (800, [0, 288]),
            (960, [0, 448]),
            (1000, [0, 448, 488]),
            (4000, [*range(0, 3137, 448), 3488]),
            (5000, [*range(0, 4481, 448), 4488]),
            (513, [0, 1]),
        ],
    )
    def test_isaid(self, length, expected):
        assert isaid_starts(length, 512, 64) == expected
