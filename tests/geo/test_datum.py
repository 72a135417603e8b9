import pytest
from affine import Affine
from rasterio.crs import CRS

from aftermap.geo.datum import doubt_between
from aftermap.geo.grid import Grid

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
