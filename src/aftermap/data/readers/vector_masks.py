"""One vector file for many georeferenced images: which footprints lie on which image, in its pixels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas
import numpy as np
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from aftermap.errors import FootprintError
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import to_pixels
from aftermap.geo.vectors import read_footprints

_DEGREES = "EPSG:4326"


def place_footprints(path: Path, grids: Mapping[str, Grid]) -> dict[str, tuple[BaseGeometry, ...]]:
    """Read a vector file once and tell which footprints touch which image.

    Args:
        path: a vector file of polygons in any reference system, or `FILE:LAYER`.
        grids: georeferenced, by the image's name; their reference systems may differ.

    Returns:
        By name the footprints in pixel coordinates of the image (x = column, y = row), which may reach beyond it; none
        for images without a footprint.

    Raises:
        FootprintError: the file cannot be read, or holds no usable polygon, or none that lies on any image.
    """
    outlines = {name: shapely.Polygon(np.column_stack(_lonlat(grid))) for name, grid in grids.items()}
    frame = read_footprints(path, grid=_around(list(outlines.values())), named=False)
    tree = shapely.STRtree(np.array(list(outlines.values()), dtype=object))
    touching, image = tree.query(frame.geometry.to_numpy(), predicate="intersects")
    if not len(image):
        spans = [_span(shapely.total_bounds(list(shapes))) for shapes in (frame.geometry, outlines.values())]
        raise FootprintError(
            f"{path}: no footprint lies on any of the {len(grids)} images: they span {spans[0]}, the images {spans[1]}"
        )
    found: dict[str, tuple[BaseGeometry, ...]] = {}
    projected: dict[str, np.ndarray] = {}
    for number, (name, grid) in enumerate(grids.items()):
        assert grid.crs is not None
        system = grid.crs.to_wkt()
        if system not in projected:
            projected[system] = _project(frame, grid.crs)
        mine = projected[system][np.sort(touching[image == number])]
        found[name] = tuple(to_pixels(shape, grid) for shape in mine)
    return found


def count_inside(shapes: Sequence[BaseGeometry], *, height: int, width: int) -> int:
    """How many shapes in pixel coordinates have their centroid inside an image, so that none counts in its neighbour."""
    centres = shapely.get_coordinates(shapely.centroid(list(shapes)))
    inside = ((centres >= 0) & (centres < (width, height))).all(axis=1)
    return int(inside.sum())


def _project(frame: geopandas.GeoDataFrame, crs: CRS) -> np.ndarray:
    with transforming():
        projected: np.ndarray = frame.geometry.set_crs(_DEGREES).to_crs(crs.to_wkt()).to_numpy()
    return projected


def _lonlat(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    w, h = grid.width, grid.height
    return grid.lonlat(np.array([0, w, w, 0], float), np.array([0, 0, h, h], float))


def _around(outlines: Sequence[shapely.Polygon]) -> Grid:
    """A grid of one pixel around all images, in degrees."""
    left, bottom, right, top = shapely.total_bounds(outlines)
    return Grid(
        CRS.from_string(_DEGREES), Affine(right - left, 0, left, 0, bottom - top, top), width=1, height=1
    )


def _span(bounds: np.ndarray) -> str:
    left, bottom, right, top = bounds
    return f"lon {left:.4f} to {right:.4f}, lat {bottom:.4f} to {top:.4f}"
