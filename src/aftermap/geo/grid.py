"""Grids: where the pixels of an array lie on the ground, and windows into them."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from affine import Affine
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform as warp_points

_GEOD = Geod(ellps="WGS84")


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: rows `row` to `row + height`, half-open, counted from the upper left."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices, to index the last two axes of an array."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)


@dataclass(frozen=True)
class Grid:
    """Reference system, affine transform and size of an array of pixels.

    Attributes:
        crs: reference system, or None for plain images, whose coordinates are pixels (x right, y down).
        transform: maps (col, row) of pixel corners to coordinates in `crs`.
        width: columns.
        height: rows.
    """

    crs: CRS | None
    transform: Affine
    width: int
    height: int

    @classmethod
    def pixels(cls, width: int, height: int) -> "Grid":
        """The grid of an image without georeference."""
        return cls(None, Affine.identity(), width, height)

    @property
    def is_georeferenced(self) -> bool:
        """False for plain images in pixel coordinates."""
        return self.crs is not None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def window(self) -> Window:
        """The window that covers the whole grid."""
        return Window(0, 0, self.height, self.width)

    def crop(self, window: Window) -> "Grid":
        """The grid of a window; it may reach beyond this grid."""
        moved = self.transform * Affine.translation(window.col, window.row)
        return Grid(self.crs, moved, window.width, window.height)

    def shift(self, dx_px: float, dy_px: float) -> "Grid":
        """The same pixels moved by (`dx_px`, `dy_px`) along columns and rows."""
        return Grid(self.crs, self.transform * Affine.translation(dx_px, dy_px), self.width, self.height)

    @cached_property
    def corners(self) -> list[tuple[float, float]]:
        """Coordinates in `crs` of the outer corners: upper left, upper right, lower right, lower left."""
        w, h = self.width, self.height
        return [self.transform * corner for corner in ((0, 0), (w, 0), (w, h), (0, h))]

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in `crs`: the box around the corners."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def lonlat(self, cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitudes and latitudes (EPSG:4326, degrees) of pixel coordinates.

        Raises:
            ValueError: the grid has no georeference.
        """
        if self.crs is None:
            raise ValueError("a grid without georeference has no longitudes and latitudes")
        t = self.transform
        cols, rows = np.asarray(cols, float), np.asarray(rows, float)
        xs, ys = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
        lons, lats = warp_points(self.crs, CRS.from_epsg(4326), xs.ravel().tolist(), ys.ravel().tolist())
        return np.reshape(lons, cols.shape), np.reshape(lats, cols.shape)

    @cached_property
    def pixel_size_m(self) -> tuple[float, float] | None:
        """Ground length in metres of one step along columns and one along rows, at the centre; None without CRS."""
        if self.crs is None:
            return None
        c, r = self.width / 2, self.height / 2
        lons, lats = self.lonlat(np.array([c, c + 1, c]), np.array([r, r, r + 1]))
        _, _, across = _GEOD.inv(lons[0], lats[0], lons[1], lats[1])
        _, _, down = _GEOD.inv(lons[0], lats[0], lons[2], lats[2])
        return float(across), float(down)

    @cached_property
    def resolution_m(self) -> float | None:
        """Ground size of a pixel in metres (geometric mean of both directions), or None without CRS."""
        size = self.pixel_size_m
        return None if size is None else math.sqrt(size[0] * size[1])


@contextmanager
def quiet_without_georeference() -> Iterator[None]:
    """No warning of rasterio's about images that lie nowhere: here that is what was asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
