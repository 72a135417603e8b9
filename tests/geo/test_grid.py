import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin

from aftermap.geo.grid import Grid, Window

UTM = CRS.from_epsg(32615)
GRID = Grid(UTM, from_origin(500000, 4104000, 0.5, 0.5), 40, 20)


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 50), st.integers(1, 50), st.integers(0, 9))
def test_a_crop_of_a_crop_is_the_crop_at_the_sum(row, col, height, width, step):
    twice = GRID.crop(Window(row, col, 60, 60)).crop(Window(step, step, height, width))
    once = GRID.crop(Window(row + step, col + step, height, width))
    assert twice.transform.almost_equals(once.transform, 1e-6)
    assert twice.shape == once.shape == (height, width)


def test_bounds_hold_all_corners_of_a_rotated_grid():
    grid = Grid(UTM, Affine.rotation(45), 10, 10)
    diagonal = 10 * math.sqrt(2)
    assert grid.bounds == pytest.approx((-diagonal / 2, 0, diagonal / 2, diagonal))


def test_a_shift_moves_the_grid_by_pixels():
    assert GRID.shift(2, -3).transform == from_origin(500001, 4104001.5, 0.5, 0.5)


def test_the_resolution_is_metres_on_the_ground():
    assert GRID.resolution_m == pytest.approx(0.5 / 0.9996, rel=1e-4)
    assert Grid.pixels(4, 4).resolution_m is None


def test_pixels_in_degrees_are_oblong_away_from_the_equator():
    grid = Grid(CRS.from_epsg(4326), from_origin(10, 60, 1e-5, 1e-5), 10, 10)
    across, down = grid.pixel_size_m
    assert across == pytest.approx(
        0.558, abs=0.001
    )  # one degree: 55 800 m along, 111 412 m across the parallel
    assert down == pytest.approx(1.114, abs=0.001)


def test_longitudes_and_latitudes_of_pixels_keep_their_shape():
    lons, lats = GRID.lonlat(np.zeros((2, 3)), np.zeros((2, 3)))
    assert lons.shape == lats.shape == (2, 3)
    np.testing.assert_allclose(lons, -93.0, atol=1e-9)
    with pytest.raises(ValueError, match="no longitudes"):
        Grid.pixels(4, 4).lonlat(np.zeros(1), np.zeros(1))
