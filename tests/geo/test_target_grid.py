import numpy as np
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


@pytest.mark.parametrize("metres", [50.5, 5000.0])
def test_a_pixel_larger_than_the_scene_is_refused_with_its_size(metres: float) -> None:
    with pytest.raises(GeoreferenceError, match=r"larger than the scene: a\.tif is only 50 m wide or high"):
        target_grid(METRES, None, metres, name="a.tif")


def test_a_coarser_grid_covers_the_same_ground() -> None:
    grid = target_grid(METRES, None, 2.0, name="a.tif")
    assert (grid.width, grid.height, grid.transform.a, grid.transform.e) == (50, 25, 2, -2)
    assert grid.bounds == METRES.bounds


def test_a_grid_upside_down_is_made_upright() -> None:
    flipped = Grid(METRES.crs, Affine(0.5, 0, 450_000, 0, 0.5, 29_950), 200, 100)
    assert target_grid(flipped, None, None, name="a.tif") == METRES


def east_and_south(grid: Grid) -> tuple[float, float]:
    """Degrees by which a column leads east and a row leads south, at the middle."""
    col, row = grid.width / 2, grid.height / 2
    lons, lats = grid.lonlat(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
    return lons[1] - lons[0], lats[0] - lats[2]


@pytest.mark.parametrize(("code", "x", "y"), [(2046, -96_000, 3_320_000), (22275, -280_000, 3_650_000)])
@pytest.mark.parametrize("right", [1, -1])
@pytest.mark.parametrize("down", [1, -1])
def test_systems_that_count_west_and_south_are_made_upright(
    code: int, x: float, y: float, right: int, down: int
) -> None:
    stored = Grid(CRS.from_epsg(code), Affine(0.5 * right, 0, x, 0, 0.25 * down, y), 200, 100)
    grid = target_grid(stored, None, None, name="a.tif")
    east, south = east_and_south(grid)
    assert east > 0 and south > 0
    assert (grid.width, grid.height, grid.bounds) == (200, 100, stored.bounds)
    assert (grid.transform.a, grid.transform.e) == (-0.5, 0.25)
    if (right, down) == (-1, 1):
        assert grid == stored
    coarser = target_grid(stored, None, 1.0, name="a.tif")
    assert min(east_and_south(coarser)) > 0 and (coarser.width, coarser.height) == (100, 25)


def test_a_system_whose_first_axis_counts_south_is_made_upright() -> None:
    stored = Grid(CRS.from_epsg(5513), Affine(0.5, 0, 1_058_000, 0, -0.5, 703_000), 200, 100)
    grid = target_grid(stored, None, None, name="a.tif")
    assert min(east_and_south(grid)) > 0
    assert grid.bounds == stored.bounds and (grid.width, grid.height) == (100, 200)
    north_up = Grid(stored.crs, grid.transform, 100, 200)
    assert target_grid(north_up, None, None, name="a.tif") == north_up


@pytest.mark.parametrize(("code", "x", "y"), [(2193, 1_770_000, 5_570_000), (5514, -703_000, -1_058_000)])
def test_systems_that_name_north_first_or_lie_below_zero_stay(code: int, x: float, y: float) -> None:
    stored = Grid(CRS.from_epsg(code), Affine(0.5, 0, x, 0, -0.5, y), 200, 100)
    assert target_grid(stored, None, None, name="a.tif") == stored


def test_polar_maps_keep_their_axes() -> None:
    stored = Grid(CRS.from_epsg(3031), Affine(0.5, 0, 189_000, 0, -0.5, -1_072_000), 200, 100)
    assert target_grid(stored, None, None, name="a.tif") == stored


@pytest.mark.parametrize("crs", ["EPSG:999999", "nowhere", 'LOCAL_CS["site",UNIT["metre",1]]', "EPSG:5773"])
def test_a_target_without_a_place_on_the_globe_is_refused(
    crs: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GeoreferenceError, match="is not a known reference system"):
        target_grid(METRES, crs, None, name="a.tif")
    assert capfd.readouterr().err == ""


def test_the_vertical_part_of_a_target_is_dropped() -> None:
    assert target_grid(METRES, "EPSG:32636+4979", None, name="a.tif").crs == CRS.from_epsg(32636)
