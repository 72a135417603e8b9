"""How the pixels of two grids relate: shared lattices, extents and scales."""

import math

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform as warp_points
from shapely import Polygon

from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.opening.limits import GDAL_ERRORS, GDAL_OPTIONS, one_line

ALIGNED_PX = 0.01
"""Pixels may lie this far from a common lattice and still be copied instead of resampled."""

_MARGIN_PX = 4


def pixel_extent(grid: Grid, base: Grid) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) of `grid` in pixels of `base`, or None where it cannot be projected there."""
    cols, rows = _to_pixels(grid, base, 21)
    if not cols.size:
        return None
    return float(cols.min()), float(rows.min()), float(cols.max()), float(rows.max())


def _to_pixels(grid: Grid, base: Grid, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates in `base` of a lattice of points over `grid` (those that have any)."""
    cols, rows = np.meshgrid(np.linspace(0, grid.width, number), np.linspace(0, grid.height, number))
    xs, ys = grid.transform * (cols.ravel(), rows.ravel())
    return points_to_pixels(xs, ys, grid.crs, base)


def pixel_outline(grid: Grid, base: Grid) -> Polygon | None:
    """Outline of `grid` in pixels of `base`, or None where it cannot be projected there."""
    along = np.linspace(0, 1, 21)
    cols = np.concatenate([along, np.ones(21), along[::-1], np.zeros(21)]) * grid.width
    rows = np.concatenate([np.zeros(21), along, np.ones(21), along[::-1]]) * grid.height
    xs, ys = grid.transform * (cols, rows)
    cols, rows = points_to_pixels(xs, ys, grid.crs, base)
    if cols.size < 4:
        return None
    outline = Polygon(np.column_stack([cols, rows]))
    return outline if outline.is_valid else outline.convex_hull


def points_to_pixels(
    xs: np.ndarray, ys: np.ndarray, crs: CRS | None, base: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (columns, rows) in `base` of coordinates in `crs`; points that have none are left out.

    Raises:
        GeoreferenceError: no transformation between the reference systems is known.
    """
    if crs is not None and base.crs is not None and crs != base.crs:
        try:
            with rasterio.Env(**GDAL_OPTIONS):
                moved = warp_points(crs, base.crs, xs.tolist(), ys.tolist())
        except GDAL_ERRORS as error:
            raise GeoreferenceError(
                f"no transformation from {short_name(crs)} to {short_name(base.crs)}: {one_line(error)}"
            ) from None
        xs, ys = np.asarray(moved[0]), np.asarray(moved[1])
    finite = np.isfinite(xs) & np.isfinite(ys)
    cols, rows = ~base.transform * (xs[finite], ys[finite])
    return np.asarray(cols), np.asarray(rows)


def short_name(crs: CRS) -> str:
    """A reference system's code, or the start of its definition, for messages."""
    return str(crs.to_string())[:40]


def lattice_offset(grid: Grid, base: Grid, *, flips: bool = True) -> tuple[int, int, int, int] | None:
    """Where `grid` starts on the lattice of `base`, if its pixels are pixels of that lattice.

    Returns:
        (row, col, down, right): `down` and `right` are -1 where the axis is mirrored, then `row` and `col` count
        from the far side. None where the pixels do not coincide.
    """
    if grid.crs != base.crs:
        return None
    m = ~base.transform * grid.transform
    right, down = round(m.a), round(m.e)
    if abs(right) != 1 or abs(down) != 1 or (not flips and (right, down) != (1, 1)):
        return None
    across, along = max(grid.width, 1), max(grid.height, 1)
    drift = max(abs(m.a - right) * across, abs(m.d) * across, abs(m.e - down) * along, abs(m.b) * along)
    col, row = round(m.c), round(m.f)
    if drift > ALIGNED_PX or abs(m.c - col) > ALIGNED_PX or abs(m.f - row) > ALIGNED_PX:
        return None
    return row, col, down, right


def lattice_shift(grid: Grid, base: Grid) -> tuple[float, float] | None:
    """(row, col) where `grid` starts, in pixels of `base`, if its pixels have their size and directions; else None."""
    if grid.crs != base.crs:
        return None
    m = ~base.transform * grid.transform
    across, along = max(grid.width, 1), max(grid.height, 1)
    drift = max(abs(m.a - 1) * across, abs(m.d) * across, abs(m.e - 1) * along, abs(m.b) * along)
    return None if drift > ALIGNED_PX else (m.f, m.c)


def pixels_per_pixel(grid: Grid, base: Grid) -> tuple[float, float]:
    """Pixels of `base` per pixel of `grid`, along columns and rows of `base`, at the centre of `base`.

    It depends on the size of the target's pixels and not on its place, so every window is filtered alike.
    """
    x, y = base.transform * (base.width / 2, base.height / 2)
    if grid.crs is not None and base.crs is not None and grid.crs != base.crs:
        moved = warp_points(base.crs, grid.crs, [x], [y])
        x, y = moved[0][0], moved[1][0]
    t = grid.transform
    xs, ys = np.array([x, x + t.a, x + t.b]), np.array([y, y + t.d, y + t.e])
    cols, rows = points_to_pixels(xs, ys, grid.crs, base)
    if cols.size < 3:
        return 1.0, 1.0
    across = math.hypot(cols[1] - cols[0], cols[2] - cols[0])
    along = math.hypot(rows[1] - rows[0], rows[2] - rows[0])
    return across, along


def source_window(grid: Grid, base: Grid) -> Window | None:
    """The part of `base` that a warp onto `grid` needs, or None."""
    extent = pixel_extent(grid, base)
    if extent is None:
        return None
    scale = pixels_per_pixel(grid, base)
    wide, high = _MARGIN_PX + 2 * math.ceil(scale[0]), _MARGIN_PX + 2 * math.ceil(scale[1])
    left, top = max(0, math.floor(extent[0]) - wide), max(0, math.floor(extent[1]) - high)
    right, bottom = (
        min(base.width, math.ceil(extent[2]) + wide),
        min(base.height, math.ceil(extent[3]) + high),
    )
    if left >= right or top >= bottom:
        return None
    return Window(top, left, bottom - top, right - left)


def snap(window: Window, step: int) -> Window:
    """The smallest window around `window` whose edges are multiples of `step`."""
    row, col = window.row // step * step, window.col // step * step
    bottom = math.ceil((window.row + window.height) / step) * step
    right = math.ceil((window.col + window.width) / step) * step
    return Window(row, col, bottom - row, right - col)
