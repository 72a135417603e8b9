"""Where the pixels of one image lie, as its file says: affine transform or ground control points."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid

_GCP_TOLERANCE_PX = 0.5


def native_grid(dataset: rasterio.DatasetReader, path: Path) -> Grid:
    """The grid of an image as its file states it; in pixel coordinates where it states none.

    Raises:
        GeoreferenceError: a georeference that is incomplete or cannot be used.
    """
    crs, transform = dataset.crs, dataset.transform
    gcps, gcp_crs = dataset.gcps
    if transform == Affine.identity() and gcps and gcp_crs:
        crs, transform = gcp_crs, _fit_gcps(gcps, path)
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
    return _normalise_longitudes(grid, path) if crs.is_geographic else grid


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
