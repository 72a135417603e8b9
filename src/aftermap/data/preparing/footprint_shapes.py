"""Footprints as labels of an image, read into its pixels."""

from pathlib import Path

import geopandas
import numpy as np
import shapely

from aftermap.geo.grid import Grid
from aftermap.geo.polygons import to_pixels
from aftermap.geo.vectors import read_footprints


def footprints_in_pixels(footprints: Path | geopandas.GeoDataFrame, grid: Grid) -> np.ndarray:
    """Building outlines (N,) in pixels of `grid`, those that lie nowhere on it left out.

    Args:
        footprints: a vector file (or `FILE:LAYER`), or a frame of polygons in any reference system (none: its own).
        grid: of the image.

    Raises:
        FootprintError: no usable polygons, or none that lies on the image, with the likely reason.
    """
    if isinstance(footprints, geopandas.GeoDataFrame):
        frame = footprints
        if frame.crs is not None and grid.crs is not None:
            frame = frame.to_crs(grid.crs.to_wkt())
    else:
        frame = read_footprints(footprints, grid=grid, named=False)
    shapes = np.array([to_pixels(shape, grid) for shape in frame.geometry if shape is not None], dtype=object)
    if not len(shapes):
        return shapes
    on_image: np.ndarray = shapely.intersects(shapes, shapely.box(0, 0, grid.width, grid.height))
    kept: np.ndarray = shapes[on_image]
    return kept
