"""Footprints as labels of an image: read into its pixels, and, where they do not fit it, why not."""

from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from aftermap.errors import FootprintError
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import read_footprints, to_pixels


def footprints_in_pixels(footprints: Path | geopandas.GeoDataFrame, grid: Grid) -> np.ndarray:
    """Building outlines (N,) in pixels of `grid`, those that lie nowhere on it left out.

    Args:
        footprints: a vector file, or a frame of polygons in any reference system (none: already in that of `grid`).
        grid: of the image.

    Raises:
        FootprintError: no usable polygons, or none that lies on the image, with the likely reason.
    """
    if isinstance(footprints, geopandas.GeoDataFrame):
        frame = footprints
        if frame.crs is not None and grid.crs is not None:
            frame = frame.to_crs(grid.crs.to_wkt())
    else:
        try:
            frame = read_footprints(footprints, grid=grid)
        except FootprintError as error:
            raise FootprintError(_reason(footprints, grid) or str(error)) from None
    shapes = np.array([to_pixels(shape, grid) for shape in frame.geometry if shape is not None], dtype=object)
    if not len(shapes):
        return shapes
    on_image: np.ndarray = shapely.intersects(shapes, shapely.box(0, 0, grid.width, grid.height))
    kept: np.ndarray = shapes[on_image]
    return kept


def _reason(path: Path, grid: Grid) -> str | None:
    """What is odd about the coordinates of a file that does not fit the image; None where nothing is."""
    try:
        info = pyogrio.read_info(path, force_total_bounds=True)
        crs = CRS.from_user_input(info["crs"]) if info["crs"] else None
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, CRSError, ValueError):
        return None
    bounds = info["total_bounds"]
    if bounds is None or grid.crs is None or crs is None or not np.isfinite(bounds).all():
        return None
    left, bottom, right, top = bounds
    in_degrees = max(abs(left), abs(right)) <= 360 and max(abs(bottom), abs(top)) <= 90
    span = f"x {left:.6g} to {right:.6g}, y {bottom:.6g} to {top:.6g}"
    name = crs.name if crs.to_epsg() is None else f"EPSG:{crs.to_epsg()}"
    if crs.is_projected and in_degrees:
        return (
            f"{path} says that its coordinates are metres ({name}), but they look like degrees ({span}): set its "
            "reference system right, such as with 'ogr2ogr -a_srs EPSG:4326'"
        )
    if crs.is_geographic and not in_degrees:
        fits = shapely.box(left, bottom, right, top).intersects(shapely.box(*grid.bounds))
        image = grid.crs.to_string()[:20]
        cause = (
            "a GeoJSON without reference system counts as degrees: " if info["driver"] == "GeoJSON" else ""
        )
        advice = (
            f"they fit the image's, so set 'ogr2ogr -a_srs {image}'"
            if fits
            else "set the one that they are in with 'ogr2ogr -a_srs'"
        )
        return f"{path} counts as degrees ({name}), but its numbers are too large for that ({span}): {cause}{advice}"
    return None
