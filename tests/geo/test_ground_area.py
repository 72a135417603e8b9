import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from shapely import box

from aftermap.geo.grid import Grid
from aftermap.geo.ground_area import row_areas_m2
from aftermap.geo.polygons import area_m2, from_pixels


def total(grid: Grid) -> float:
    areas = row_areas_m2(grid)
    assert areas is not None and areas.shape == (grid.height,)
    return float(areas.sum() * grid.width)


@pytest.mark.parametrize(
    "grid",
    [
        Grid(CRS.from_epsg(32632), Affine(0.6, 0, 465_000, 0, -0.6, 5_250_000), 800, 600),
        Grid(CRS.from_epsg(4326), Affine(5e-6, 0, 8.5, 0, -5e-6, 47.4), 500, 900),
        Grid(CRS.from_epsg(3857), Affine(0.3, 0, -10_500_000, 0, -0.3, 4_450_000), 640, 480),
        Grid(CRS.from_epsg(32660), Affine(2, 0.5, 710_000, 0.5, -2, -1_800_000), 256, 256),
    ],
    ids=["utm", "degrees", "mercator", "turned"],
)
def test_pixels_add_up_to_the_area_of_their_outline(grid: Grid) -> None:
    outline = from_pixels(box(0, 0, grid.width, grid.height), grid)
    assert total(grid) == pytest.approx(area_m2(outline, grid.crs), rel=2e-6)


def test_rows_near_the_pole_are_smaller() -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(0.1, 0, 0, 0, -0.1, 80), 10, 200)
    areas = row_areas_m2(grid)
    middle = grid.crop(grid.window)
    assert (np.diff(areas) > 0).all()
    outline = from_pixels(box(0, 0, 10, 200), middle)
    assert areas.sum() * 10 == pytest.approx(area_m2(outline, grid.crs), rel=2e-3)


def test_a_plain_image_has_no_area() -> None:
    assert row_areas_m2(Grid.pixels(10, 10)) is None
