import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin

from aftermap.geo.grid import Grid
from aftermap.geo.resample import moved, reduce_blocks, warp


def scene(dtype, largest):
    rng = np.random.default_rng(0)
    array = (rng.random((3, 24, 36)) * largest).astype(dtype)
    valid = rng.random((24, 36)) > 0.4
    array[:, ~valid] = 0
    return array, valid


@pytest.mark.parametrize(
    ("dtype", "largest"), [("uint8", 255), ("int16", 30_000), ("uint32", 4e9), ("float32", 1)]
)
@pytest.mark.parametrize("step", [2, 4, 6])
def test_a_block_is_the_mean_of_its_valid_pixels(dtype, largest, step):
    array, valid = scene(dtype, largest)

    means, kept = reduce_blocks(array, valid, step, mean=True)

    for row in range(24 // step):
        for col in range(36 // step):
            block = np.s_[row * step : (row + 1) * step, col * step : (col + 1) * step]
            seen = array[:, *block][:, valid[block]].astype(np.float64)
            expected = seen.mean(axis=1) if seen.size else np.zeros(3)
            if np.dtype(dtype).kind in "iu":
                expected = np.rint(expected)
            np.testing.assert_allclose(means[:, row, col], expected, rtol=1e-6)
            assert kept[row, col] == (valid[block].mean() >= 0.5)


def test_large_blocks_of_16_bit_values_do_not_overflow():
    array = np.full((1, 512, 512), 65_535, np.uint16)

    means, _ = reduce_blocks(array, np.ones((512, 512), bool), 256, mean=True)

    assert (means == 65_535).all()


@settings(max_examples=40)
@given(
    st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    st.floats(0.02, 0.98),
    st.floats(0.02, 0.98),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.integers(0, 9),
)
def test_what_lies_beside_the_pixels_is_interpolated_as_gdal_does(dtype, down, right, holes, seed):
    rng = np.random.default_rng(seed)
    high = {"uint8": 255, "float32": 1}.get(dtype, 30_000)
    array = (rng.random((2, 33, 41)) * high).astype(dtype)
    valid = rng.random((33, 41)) >= holes
    array[:, ~valid] = 0
    source = Grid(CRS.from_epsg(32615), from_origin(300_000, 4_100_000, 0.5, 0.5), 41, 33)
    target = Grid(source.crs, source.shift(right, down).transform, 40, 32)
    expected, kept = warp(array, valid, source, target, "bilinear", (1, 1))

    pixels, mask = moved(array, valid, down, right)

    assert pixels.dtype == array.dtype
    if abs(down - 0.5) > 0.01 and abs(right - 0.5) > 0.01:  # else two neighbours are the nearest
        assert (mask == kept).all()
    both = mask & kept
    apart = np.abs(pixels[:, both].astype(float) - expected[:, both].astype(float))
    assert apart.max(initial=0) <= (1e-5 if dtype == "float32" else 1)
    assert (apart >= 1).mean() < 0.02 if apart.size else True


def test_a_quarter_between_two_pixels_is_a_quarter_of_both():
    array = np.array([[[0, 100, 200], [40, 140, 240]]], np.uint8)
    pixels, mask = moved(array, np.ones((2, 3), bool), 0.25, 0.5)
    assert pixels.tolist() == [[[60, 160]]] and mask.all()


def test_pixels_without_ground_give_nothing_to_their_neighbours():
    array = np.array([[[0, 100], [0, 200]]], np.uint8)
    valid = np.array([[False, True], [False, True]])
    pixels, mask = moved(array, valid, 0.25, 0.75)
    assert pixels.tolist() == [[[125]]] and mask.all()
    pixels, mask = moved(array, valid, 0.25, 0.25)
    assert pixels.tolist() == [[[0]]] and not mask.any()
