"""The area of interest: the part of a scene that is mapped."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from affine import Affine
from rasterio.features import rasterize
from rasterio.warp import transform_geom
from shapely.affinity import affine_transform, translate
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from aftermap.errors import GeoreferenceError, InputError
from aftermap.geo.grid import Grid, Window


@dataclass(frozen=True)
class Area:
    """What is mapped of a scene.

    Attributes:
        grid: the scene, cropped to the area.
        row: first row of `grid` in the scene.
        col: first column of `grid` in the scene.
        shape: the area in pixel coordinates of `grid`, or None for all of it.
    """

    grid: Grid
    row: int = 0
    col: int = 0
    shape: BaseGeometry | None = None

    def in_scene(self, window: Window) -> Window:
        """A window of `grid` as a window of the scene."""
        return Window(window.row + self.row, window.col + self.col, window.height, window.width)

    def outside(self, window: Window) -> np.ndarray:
        """Bool (height, width), True where a pixel's centre lies outside the area."""
        if self.shape is None:
            return np.zeros((window.height, window.width), bool)
        painted: np.ndarray = rasterize(
            [(self.shape, 0)],
            out_shape=(window.height, window.width),
            transform=Affine.translation(window.col, window.row),
            fill=1,
            dtype="uint8",
        )
        return painted.astype(bool)


def read_area(path: Path | None, grid: Grid) -> Area:
    """Crop a scene to the polygons of a vector file in any reference system.

    Args:
        path: the vector file; None keeps the whole scene.
        grid: the scene.

    Raises:
        InputError: the file cannot be read or holds no polygons.
        GeoreferenceError: the area does not touch the scene, or one of them has no reference system.
    """
    if path is None:
        return Area(grid)
    try:
        frame = pyogrio.read_dataframe(path, columns=[])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as error:
        raise InputError(f"cannot read the area of interest {path}: {str(error).splitlines()[0]}") from None
    if not hasattr(frame, "geometry") or frame.geometry.isna().all():
        raise InputError(f"the area of interest {path} holds no geometries: expected polygons")
    polygons = [g for g in shapely.make_valid(frame.geometry.dropna().array).tolist() if g.area > 0]
    if not polygons:
        raise InputError(f"the area of interest {path} holds no polygons")
    if not grid.is_georeferenced:
        raise GeoreferenceError(
            "the images have no georeference, so an area of interest cannot be placed on them"
        )
    if frame.crs is None:
        raise GeoreferenceError(
            f"the area of interest {path} has no reference system: write it into the file"
        )
    pixels = shapely.union_all([_to_pixels(polygon, frame.crs.to_wkt(), grid) for polygon in polygons])
    inside = shapely.intersection(shapely.make_valid(pixels), shapely.box(0, 0, grid.width, grid.height))
    if inside.area < 1:
        raise GeoreferenceError(
            f"the area of interest {path} does not touch the images: check its place and reference system"
        )
    left, top, right, bottom = inside.bounds
    col, row = math.floor(left), math.floor(top)
    window = Window(row, col, math.ceil(bottom) - row, math.ceil(right) - col)
    return Area(grid.crop(window), row, col, translate(inside, -col, -row))


def _to_pixels(polygon: BaseGeometry, crs: str, grid: Grid) -> BaseGeometry:
    """Pixel coordinates of a polygon, with more vertices: long edges bend between reference systems."""
    left, bottom, right, top = polygon.bounds
    dense = shapely.segmentize(polygon, max(right - left, top - bottom) / 64)
    moved = shape(transform_geom(crs, grid.crs, mapping(dense)))
    t = ~grid.transform
    return affine_transform(moved, [t.a, t.b, t.d, t.e, t.c, t.f])
