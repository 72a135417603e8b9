"""The area of interest: the part of a scene that is mapped."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.features import rasterize
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

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


BLOCK_MARGIN_PX = 256
"""What a block of rows shares with the next one, to either side: more than a building and what a model sees around it."""


def block_of(grid: Grid, number: int, count: int) -> Area:
    """A block of rows of a scene, with a margin that its neighbours have too.

    Args:
        grid: the scene.
        number: which block, from 0.
        count: how many there are.
    """
    first, last = grid.height * number // count, grid.height * (number + 1) // count
    margin = min(BLOCK_MARGIN_PX, (last - first) // 2)
    top, bottom = max(first - margin, 0), min(last + margin, grid.height)
    return Area(grid.crop(Window(top, 0, bottom - top, grid.width)), top)


def read_area(path: Path | None, grid: Grid) -> Area:
    """Crop a scene to the polygons of a vector file in any reference system.

    Args:
        path: the vector file, or `FILE:LAYER`; None keeps the whole scene.
        grid: the scene.

    Raises:
        InputError: the file cannot be read or holds no polygons.
        GeoreferenceError: the area does not touch the scene, or one of them has no reference system.
    """
    if path is None:
        return Area(grid)
    from aftermap.geo.vectors import read_area_of_interest

    inside = read_area_of_interest(path, grid=grid)
    left, top, right, bottom = inside.bounds
    col, row = math.floor(left), math.floor(top)
    window = Window(row, col, math.ceil(bottom) - row, math.ceil(right) - col)
    return Area(grid.crop(window), row, col, translate(inside, -col, -row))
