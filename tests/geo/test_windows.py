import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.geo.windows import blend_weights, cover

scenes = st.tuples(st.integers(1, 150), st.integers(1, 150), st.integers(0, 9), st.integers(1, 40)).map(
    lambda t: (t[0], t[1], 4 * t[2] + t[3], t[2])
)


@given(scenes)
@settings(max_examples=60, deadline=None)
def test_cores_partition_the_scene(scene):
    height, width, size, halo = scene
    hits = np.zeros((height, width), int)
    for tile in cover(height, width, size=size, halo=halo):
        hits[tile.core.slices] += 1
    assert (hits == 1).all()


@given(scenes)
@settings(max_examples=60, deadline=None)
def test_weights_of_overlapping_windows_sum_to_one_at_every_pixel(scene):
    height, width, size, halo = scene
    total = np.zeros((height + 4 * size, width + 4 * size))
    for tile in cover(height, width, size=size, halo=halo):
        row, col = tile.padded.row + 2 * size, tile.padded.col + 2 * size
        total[row : row + size, col : col + size] += blend_weights(tile, height, width)
    inside = np.zeros(total.shape, bool)
    inside[2 * size : 2 * size + height, 2 * size : 2 * size + width] = True
    np.testing.assert_allclose(total[inside], 1, atol=1e-6)
    assert (total[~inside] == 0).all()


def test_tiles_come_in_row_order_with_a_halo_on_every_side():
    tiles = cover(10, 20, size=12, halo=2)
    assert [(t.core.row, t.core.col, t.core.height, t.core.width) for t in tiles] == [
        (0, 0, 8, 8), (0, 8, 8, 8), (0, 16, 8, 4), (8, 0, 2, 8), (8, 8, 2, 8), (8, 16, 2, 4),
    ]  # fmt: skip
    assert [(t.padded.row, t.padded.col) for t in tiles[:2]] == [(-2, -2), (-2, 6)]
    assert {(t.padded.height, t.padded.width) for t in tiles} == {(12, 12)}


def test_weights_ramp_linearly_across_an_overlap():
    first, second = cover(4, 16, size=8, halo=2)[:2]
    assert first.padded.row == -2
    rows = slice(2, 6)
    np.testing.assert_allclose(blend_weights(first, 4, 16)[rows][0], [0, 0, 1, 1, 0.875, 0.625, 0.375, 0.125])
    np.testing.assert_allclose(blend_weights(second, 4, 16)[rows][0][:4], [0.125, 0.375, 0.625, 0.875])


@pytest.mark.parametrize(("size", "halo"), [(7, 2), (8, -1), (0, 0)])
def test_windows_that_would_overlap_three_times_are_refused(size, halo):
    with pytest.raises(ValueError, match="halo"):
        cover(10, 10, size=size, halo=halo)
