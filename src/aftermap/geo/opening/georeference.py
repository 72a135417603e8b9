"""Where the pixels of one image lie, as its file says: affine transform or ground control points."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import WktVersion

from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid
from aftermap.geo.lattice import short_name
from aftermap.geo.opening.limits import GDAL_ERRORS, GDAL_OPTIONS, one_line

_GCP_TOLERANCE_PX = 0.5


def native_grid(dataset: rasterio.DatasetReader, path: Path) -> Grid:
    """The grid of an image as its file states it; in pixel coordinates where it states none.

    Raises:
        GeoreferenceError: a georeference that is incomplete or cannot be used.
    """
    crs, transform = horizontal(dataset.crs, path), dataset.transform
    if crs is None and dataset.crs is not None:
        return Grid.pixels(dataset.width, dataset.height)
    gcps, gcp_crs = dataset.gcps
    if transform == Affine.identity() and gcps and gcp_crs:
        crs, transform = horizontal(gcp_crs, path), _fit_gcps(gcps, path)
    elif transform == Affine.identity() and dataset.rpcs is not None:
        raise GeoreferenceError(
            f"{path} is located by a sensor model (RPC) only: orthorectify it with 'gdalwarp -rpc'"
        )
    if crs is None and transform == Affine.identity():
        return Grid.pixels(dataset.width, dataset.height)
    if crs is None:
        raise GeoreferenceError(
            f"{path} has a geotransform but no reference system: assign it with 'gdal_edit.py -a_srs EPSG:...'"
        )
    if transform == Affine.identity():
        raise GeoreferenceError(
            f"{path} names the reference system {crs.to_string()[:40]} but no place in it: assign its geotransform"
        )
    if transform.is_degenerate:
        raise GeoreferenceError(f"{path} has a geotransform without area: {tuple(transform)[:6]}")
    grid = Grid(crs, transform, dataset.width, dataset.height)
    _check_place(grid, path)
    return _normalise_longitudes(grid, path) if crs.is_geographic else grid


def horizontal(crs: CRS | None, name: Path | str) -> CRS | None:
    """The horizontal part of a reference system; None for local ones, which have no place on the globe.

    Raises:
        GeoreferenceError: a system that GIS files cannot hold, such as a rotated pole.
    """
    return None if crs is None else _horizontal(crs.to_wkt(version=WktVersion.WKT2_2019), str(name))


@lru_cache(maxsize=256)
def _horizontal(wkt: str, name: str) -> CRS | None:
    with rasterio.Env(**GDAL_OPTIONS):
        system = pyproj.CRS.from_wkt(wkt)
        if len(system.axis_info) == 3 and not system.is_geocentric:
            system = system.to_2d()
        if system.is_engineering or system.is_vertical:
            return None
        if system.is_geocentric or system.type_name.startswith("Derived"):
            raise GeoreferenceError(
                f"{name} is in {system.name}, a {system.type_name}, which GIS layers cannot be in: reproject it with "
                "'gdalwarp -t_srs EPSG:4326' or to its UTM zone"
            )
        code = system.to_epsg()
        return CRS.from_epsg(code) if code is not None else CRS.from_wkt(system.to_wkt())


def _check_place(grid: Grid, path: Path) -> None:
    """Refuse a grid whose middle has no longitude and latitude."""
    assert grid.crs is not None
    try:
        with rasterio.Env(**GDAL_OPTIONS):
            place = np.array(grid.lonlat(np.array([grid.width / 2]), np.array([grid.height / 2])))
        reason = "" if np.isfinite(place).all() else "none is known"
    except GDAL_ERRORS as error:
        reason = one_line(error)[:80]
    if reason:
        x, y = grid.transform * (grid.width / 2, grid.height / 2)
        raise GeoreferenceError(
            f"{path} lies at {x:.10g}, {y:.10g} in {short_name(grid.crs)}, which has no place on the globe ({reason}): "
            "its reference system or geotransform is wrong"
        )


def _fit_gcps(gcps: list[rasterio.control.GroundControlPoint], path: Path) -> Affine:
    """Least-squares affine through ground control points."""
    if len(gcps) < 3:
        raise GeoreferenceError(f"{path} has {len(gcps)} ground control points, expected at least 3")
    pixels = np.array([[p.col, p.row, 1.0] for p in gcps])
    places = np.array([[p.x, p.y] for p in gcps])
    origin = places.mean(axis=0)
    solution, _, rank, _ = np.linalg.lstsq(pixels, places - origin, rcond=None)
    if rank < 3:
        raise GeoreferenceError(
            f"{path}: its ground control points lie on one line, expected them spread out"
        )
    (a, d), (b, e), (c, f) = solution
    transform = Affine(a, b, c + origin[0], d, e, f + origin[1])
    if transform.is_degenerate:
        raise GeoreferenceError(f"{path}: its ground control points span no area")
    back = ~transform
    residual = max(np.hypot(*np.subtract(back * (p.x, p.y), (p.col, p.row))) for p in gcps)
    if residual > _GCP_TOLERANCE_PX:
        raise GeoreferenceError(
            f"{path}: its ground control points do not fit one affine transform (residual {residual:.1f} px): "
            "rectify it with gdalwarp"
        )
    return transform


def _normalise_longitudes(grid: Grid, path: Path) -> Grid:
    """Bring a geographic grid into -180..180 degrees, or refuse what cannot be brought there."""
    left, bottom, right, top = grid.bounds
    turns = 360.0 * np.floor((left + 180.0) / 360.0)
    # Up to half a pixel of tolerance: global grids often end at 180 plus rounding.
    slack = abs(grid.transform.a) / 2
    if right - turns > 180.0 + slack:
        raise GeoreferenceError(
            f"{path} crosses the antimeridian ({left:.4f} to {right:.4f} degrees): reproject it to a projected "
            "reference system such as its UTM zone"
        )
    if bottom < -90.0 - slack or top > 90.0 + slack:
        raise GeoreferenceError(
            f"{path} reaches latitudes {bottom:.4f} to {top:.4f}, which {grid.crs} does not have: "
            "its reference system is probably wrong"
        )
    if not turns:
        return grid
    moved = Affine.translation(-turns, 0) * grid.transform
    return Grid(grid.crs, moved, grid.width, grid.height)
