import warnings
from pathlib import Path

import geopandas
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.errors import DataWarning
from aftermap.geo.datum import doubt_between
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import area_m2
from aftermap.geo.vectors import read_area_of_interest, read_buildings

DEGREES = CRS.from_epsg(4326)


def near(lon: float, lat: float) -> Grid:
    return Grid(DEGREES, Affine(1e-5, 0, lon, 0, -1e-5, lat), 10, 10)


@pytest.mark.parametrize(
    ("code", "lon", "lat", "metres", "grid"),
    [
        (26715, -94.35, 37.95, 7.0, "us_noaa_conus.tif"),  # NAD27
        (4301, 139.75, 35.65, 9.0, None),  # Tokyo
        (23032, 9.05, 45.05, 2.0, None),  # ED50
        (27700, -1.0, 52.0, 2.0, "uk_os_OSTN15_NTv2_OSGBtoETRS.tif"),
    ],
)
def test_old_datums_are_told_with_their_metres(
    code: int, lon: float, lat: float, metres: float, grid: str | None
) -> None:
    doubt = doubt_between(CRS.from_epsg(code), DEGREES, near(lon, lat))
    assert doubt is not None and doubt.metres is not None
    if not doubt.grids and grid is not None:
        pytest.skip("the grids of the shift are installed here")
    assert doubt.metres == metres
    assert (grid in doubt.grids) if grid else doubt.better_m is None
    assert f"may be off by up to {metres:g} m" in str(doubt)
    assert grid is None or "PROJ_NETWORK=ON gdalwarp" in str(doubt)


@pytest.mark.parametrize(
    ("code", "lon", "lat"),
    [(32615, -94.35, 37.95), (26915, -94.35, 37.95), (25832, 9.0, 50.0), (2193, 174.0, -41.0)],
)
def test_modern_systems_are_not_doubted(code: int, lon: float, lat: float) -> None:
    assert doubt_between(CRS.from_epsg(code), DEGREES, near(lon, lat)) is None
    assert doubt_between(DEGREES, CRS.from_epsg(code), near(lon, lat)) is None


def test_two_systems_of_one_datum_are_not_doubted() -> None:
    assert doubt_between(CRS.from_epsg(26715), CRS.from_epsg(4267), near(-94.35, 37.95)) is None


def test_a_shift_of_which_nothing_is_known_is_told() -> None:
    doubt = doubt_between(CRS.from_epsg(4047), DEGREES, near(9.0, 45.0))
    assert doubt is not None and doubt.metres is None
    assert "may be off by an unknown amount" in str(doubt)


def write_box(path: Path, lon: float, lat: float, crs: str) -> Path:
    shape = shapely.box(lon, lat - 1e-4, lon + 1e-4, lat)
    geopandas.GeoSeries([shape], crs=4326).to_crs(crs).to_file(path)
    return path


@pytest.mark.filterwarnings("ignore:Best transformation")  # of the test's own geopandas
@pytest.mark.parametrize(("code", "metres"), [("EPSG:26715", 7), ("EPSG:4267", 7)])
def test_footprints_and_areas_in_another_datum_are_told_of_with_metres_and_remedy(
    tmp_path: Path, code: str, metres: int
) -> None:
    grid = near(-94.35, 37.95)
    path = write_box(tmp_path / "old.gpkg", -94.35, 37.95, code)
    told = rf"old\.gpkg: brought from NAD27 to WGS 84, coordinates may be off by up to {metres} m: .*gdalwarp"
    for read in (read_buildings, read_area_of_interest):
        with pytest.warns(DataWarning, match=told):
            read(path, grid=grid)


def test_vectors_of_the_same_datum_and_modern_ones_are_not_doubted_and_pyproj_is_silent(
    tmp_path: Path,
) -> None:
    grid = Grid(CRS.from_epsg(26715), Affine(1, 0, 381_000, 0, -1, 4_201_000), 200, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        path = tmp_path / "same.gpkg"
        shape = shapely.box(381_020, 4_200_900, 381_060, 4_200_950)
        geopandas.GeoSeries([shape], crs="EPSG:26715").to_file(path)
        (read,) = read_buildings(path, grid=grid).frame.geometry
        assert area_m2(read, grid.crs) == pytest.approx(2000, rel=0.01)
        place = near(-94.35, 37.95)
        modern = write_box(tmp_path / "modern.gpkg", -94.35, 37.95, "EPSG:26915")
        assert len(read_buildings(modern, grid=place).frame) == 1
