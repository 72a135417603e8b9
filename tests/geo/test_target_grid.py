import pytest
from affine import Affine
from rasterio.crs import CRS

from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid
from aftermap.geo.target_grid import target_grid

METRES = Grid(CRS.from_epsg(32636), Affine(0.5, 0, 450_000, 0, -0.5, 30_000), 200, 100)
DEGREES = Grid(CRS.from_epsg(4326), Affine(5e-6, 0, 32.6, 0, -5e-6, 0.26), 200, 100)


def test_metres_on_a_geographic_grid_are_refused_with_the_degrees_to_pass() -> None:
    with pytest.raises(
        GeoreferenceError, match=r"0\.5 would be degrees in EPSG:4326: pass degrees such as 4\.5e-06"
    ):
        target_grid(DEGREES, None, 0.5, name="a.tif")


def test_degrees_on_a_projected_grid_are_refused_with_the_metres_to_pass() -> None:
    with pytest.raises(
        GeoreferenceError, match=r"4\.5e-06 would be metres in EPSG:32636: pass metres such as 0\.5"
    ):
        target_grid(METRES, None, 4.5e-6, name="a.tif")


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan")])
def test_a_resolution_that_is_no_size_is_refused(size: float) -> None:
    with pytest.raises(GeoreferenceError, match="is not a size"):
        target_grid(METRES, None, size, name="a.tif")


def test_a_coarser_grid_covers_the_same_ground() -> None:
    grid = target_grid(METRES, None, 2.0, name="a.tif")
    assert (grid.width, grid.height, grid.transform.a, grid.transform.e) == (50, 25, 2, -2)
    assert grid.bounds == METRES.bounds


def test_a_grid_upside_down_is_made_upright() -> None:
    flipped = Grid(METRES.crs, Affine(0.5, 0, 450_000, 0, 0.5, 29_950), 200, 100)
    assert target_grid(flipped, None, None, name="a.tif") == METRES
