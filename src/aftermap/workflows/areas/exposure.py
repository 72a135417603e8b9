"""Rasters of the user summed by area, such as people. Needs `exactextract` (extra `areas`).

`exactextract` weighs every pixel by the share of it that lies in an area. It takes coordinates as they come, so areas are
brought into the raster's reference system here.
"""

import math
import re
import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from pyproj import CRS

from aftermap.errors import DataWarning, GeoreferenceError, InputError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import RasterSource
from aftermap.wording import counted
from aftermap.workflows.areas.basis import between

_STEPS = 32
_MOST_PIXELS = 100_000_000
_COVERED = 0.999


def sum_by_area(frame: geopandas.GeoDataFrame, path: Path) -> tuple[str, np.ndarray]:
    """The sum of a raster's first band over each area.

    Args:
        frame: areas; those without geometry get none.
        path: a raster in any reference system whose axes run north and east there. Pixels without data count nothing.

    Returns:
        A name for the column, from the file's, and the sums, NaN where the raster has no data in an area.

    Raises:
        InputError: the raster cannot be read, has no reference system, is turned, or lies elsewhere.
    """
    source = RasterSource.open(path, bands=(1,), nodata="declared")
    if source.grid.crs is None:
        raise GeoreferenceError(f"{path} has no georeference, so nothing of it can be summed by area")
    t = source.grid.transform
    if t.b or t.d:
        raise GeoreferenceError(
            f"{path} is turned against its reference system: warp it upright, such as with 'gdalwarp'"
        )
    crs = CRS.from_wkt(source.grid.crs.to_wkt())
    shapes = _placed(frame, crs)
    window = _window(shapes, source.grid)
    if window is None:
        raise InputError(f"{path} does not touch any area: it is of another place")
    if window.height * window.width > _MOST_PIXELS:
        raise InputError(
            f"{path} has {window.height * window.width / 1e6:.0f} megapixels on the areas, more than "
            f"{_MOST_PIXELS / 1e6:.0f}: make it coarser"
        )
    try:
        patch = source.read(source.grid.crop(window), "nearest")
    finally:
        source.close()
    values = np.where(patch.valid, patch.array[0].astype(float), np.nan)
    values[~np.isfinite(values)] = np.nan
    grid = patch.grid
    if grid.transform.e > 0:
        values = values[::-1]
    if grid.transform.a < 0:
        values = values[:, ::-1]
    left, bottom, right, top = grid.bounds
    known = np.flatnonzero(~shapely.is_missing(shapes))
    areas = geopandas.GeoDataFrame({"row": known}, geometry=shapes[known], crs=crs)
    raster = NumPyRasterSource(
        np.ascontiguousarray(values), left, bottom, right, top, nodata=math.nan, srs_wkt=crs.to_wkt()
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Spatial reference system")
        found = exact_extract(raster, areas, ["sum", "count"], include_cols=["row"], output="pandas")
    sums, share = np.full(len(frame), np.nan), np.zeros(len(frame))
    cell = abs(grid.transform.a * grid.transform.e)
    rows = found["row"].to_numpy()
    sums[rows] = np.where(found["count"].to_numpy() > 0, found["sum"].to_numpy(float), np.nan)
    share[rows] = found["count"].to_numpy() * cell / shapely.area(shapes[rows])
    partly = int((share[known] < _COVERED).sum())
    if partly:
        warnings.warn(
            f"{path.name} has no data in a part of {partly} of {counted(len(known), 'area')}: what lies there is not in "
            "the sums",
            DataWarning,
            stacklevel=2,
        )
    return column_name(path), sums


def column_name(path: Path) -> str:
    """What a column of sums of a raster is called."""
    return re.sub(r"\W+", "_", path.stem).strip("_").lower()[:40] or "raster"


def _placed(frame: geopandas.GeoDataFrame, crs: CRS) -> np.ndarray:
    """The areas in the raster's system, with corners along their edges, which bend between systems."""
    shapes: np.ndarray = frame.geometry.to_numpy().copy()
    source = CRS(frame.crs)
    if source == crs:
        return shapes
    west, south, east, north = shapely.bounds(shapes).T
    longest = np.nan_to_num(np.maximum(east - west, north - south) / _STEPS, nan=1.0)
    fine = shapely.segmentize(shapes, np.maximum(longest, 1e-9))
    there = between(source, crs)
    placed: np.ndarray = shapely.transform(fine, there.transform, interleaved=False)
    return placed


def _window(shapes: np.ndarray, grid: Grid) -> Window | None:
    """The pixels around all areas; None where there are none."""
    bounds: Any = shapely.total_bounds(shapes)
    if not np.isfinite(bounds).all():
        return None
    west, south, east, north = bounds.tolist()
    corners = [
        ~grid.transform * corner for corner in ((west, south), (east, north), (west, north), (east, south))
    ]
    cols, rows = zip(*corners, strict=True)
    left, top = max(math.floor(min(cols)), 0), max(math.floor(min(rows)), 0)
    right, bottom = min(math.ceil(max(cols)), grid.width), min(math.ceil(max(rows)), grid.height)
    return Window(top, left, bottom - top, right - left) if left < right and top < bottom else None
