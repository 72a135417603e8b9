"""Which windows of a large image become tiles: around buildings, on a grid, or where there is no building.

All windows count in pixels of one grid, half-open, from its upper left. The ground is divided into blocks that no
window leaves, so that tiles of different blocks (and of different resolutions in them) share no ground and can
go into different splits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from shapely.geometry.base import BaseGeometry

from aftermap.data.preparing.cut_config import LEAST_PX, CutConfig
from aftermap.data.preparing.cut_windows import building_window, building_windows, empty_windows, grid_windows
from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid, Window

_FINEST = 16
_METRES_PER_DEGREE = 111_320


@dataclass(frozen=True, slots=True)
class Cut:
    """A window that may become a tile.

    Attributes:
        window: in pixels of the resolution's grid.
        buildings: indices of the buildings that it touches.
    """

    window: Window
    buildings: np.ndarray


def scale_to(grid: Grid, resolution_m: float | None) -> tuple[float, float]:
    """Pixels of `grid` per pixel of `resolution_m` metres, along columns and rows; (1, 1) for None.

    Raises:
        GeoreferenceError: no reference system, or a resolution that fits the image's in no way.
    """
    if resolution_m is None:
        return 1.0, 1.0
    size = grid.pixel_size_m
    if size is None:
        raise GeoreferenceError(
            f"a resolution of {resolution_m:g} m is asked for, but the image has no reference system: "
            "leave the resolution out, or georeference the image"
        )
    native = math.sqrt(size[0] * size[1])
    if not resolution_m >= native / _FINEST:
        degrees = f": if these are degrees, that is about {resolution_m * _METRES_PER_DEGREE:.2g} m"
        raise GeoreferenceError(
            f"a resolution of {resolution_m:g} m is asked for, but the image has {native:.3g} m per pixel: give metres "
            f"per pixel{degrees if 0 < resolution_m < 1e-3 else ''}"
        )
    scale = resolution_m / size[0], resolution_m / size[1]
    if grid.width / scale[0] < LEAST_PX or grid.height / scale[1] < LEAST_PX:
        raise GeoreferenceError(
            f"a resolution of {resolution_m:g} m is asked for, but the image is only {grid.width * size[0]:.4g} x "
            f"{grid.height * size[1]:.4g} m: give metres per pixel, such as {native:.2g}"
        )
    return scale


def grid_at(grid: Grid, resolution_m: float | None) -> Grid:
    """The same ground in pixels of `resolution_m` metres, square at its centre; the grid itself for None.

    Raises:
        GeoreferenceError: see `scale_to`.
    """
    if resolution_m is None:
        return grid
    across, along = scale_to(grid, resolution_m)
    # A sliver of a pixel at the far edges is given up, so that all pixels lie inside the image.
    width, height = math.floor(grid.width / across + 1e-6), math.floor(grid.height / along + 1e-6)
    return Grid(grid.crs, grid.transform @ Affine.scale(across, along), width, height)


def plan_cuts(
    shapes: Sequence[BaseGeometry] | np.ndarray,
    grid: Grid,
    config: CutConfig,
    *,
    block_px: tuple[float, float] | None = None,
) -> list[Cut]:
    """The windows of one resolution, those with buildings first where empty ones are limited.

    Args:
        shapes: buildings in pixels of `grid`.
        grid: of the resolution.
        config: what to cut.
        block_px: width and height of a block in pixels of `grid`; by default `block_tiles` tiles.
    """
    if config.compat_every_building:
        return [
            Cut(building_window(shape, grid, padding_px=config.padding_px), np.array([index]))
            for index, shape in enumerate(shapes)
        ]
    outlines = np.asarray(shapes, dtype=object)
    tree = shapely.STRtree(outlines)
    side = (float(config.block_tiles * config.size_px),) * 2 if block_px is None else block_px
    blocks = list(_blocks(grid, side, config.size_px))
    rng = np.random.default_rng(config.seed)
    empty: list[Window] = []
    match config.by:
        case "grid":
            windows = [w for block in blocks for w in grid_windows(block, config.size_px, config.overlap_px)]
        case "building":
            windows = _around_buildings(outlines, blocks, config, rng)
            if config.max_empty_ratio:
                empty = [w for block in blocks for w in empty_windows(tree, block, config, rng)]
        case "empty":
            windows = [w for block in blocks for w in empty_windows(tree, block, config, rng)]
    cuts = [*_touched(tree, windows), *_touched(tree, empty)]
    if config.max_tiles is not None:
        cuts = [cuts[index] for index in rng.permutation(len(cuts))]
    if config.max_empty_ratio is None:
        return cuts
    full = [cut for cut in cuts if len(cut.buildings)]
    rest = [cut for cut in cuts if not len(cut.buildings)]
    return [*full, *(rest[index] for index in rng.permutation(len(rest)))]


def _around_buildings(
    outlines: np.ndarray, blocks: list[Window], config: CutConfig, rng: np.random.Generator
) -> list[Window]:
    boxes = shapely.bounds(outlines).reshape(-1, 4)
    tree = shapely.STRtree(outlines)
    windows: list[Window] = []
    for block in blocks:
        touched = np.sort(tree.query(_box(block), predicate="intersects"))
        windows += building_windows(boxes[touched], block, config, rng)
    return windows


def _touched(tree: shapely.STRtree, windows: list[Window]) -> list[Cut]:
    """The windows with the buildings that share more than an outline with them."""
    if not windows:
        return []
    boxes = np.array([_box(window) for window in windows], dtype=object)
    owner, building = tree.query(boxes, predicate="intersects")
    inner = ~shapely.touches(boxes[owner], tree.geometries[building])
    owner, building = owner[inner], building[inner]
    order = np.lexsort((building, owner))
    limits = np.searchsorted(owner[order], np.arange(1, len(windows)))
    return [Cut(w, b) for w, b in zip(windows, np.split(building[order], limits), strict=True)]


def _box(window: Window) -> BaseGeometry:
    return shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)


def _blocks(grid: Grid, side: tuple[float, float], size_px: int) -> Iterator[Window]:
    """Parts of the grid; the last of a row or column takes a rest that is smaller than a tile."""
    cols, rows = (
        _edges(length, step, size_px) for length, step in zip((grid.width, grid.height), side, strict=True)
    )
    for top, bottom in rows:
        for left, right in cols:
            yield Window(top, left, bottom - top, right - left)


def _edges(length: int, step: float, size_px: int) -> list[tuple[int, int]]:
    # Lines between blocks fall between pixels of other resolutions: the pixel on a line belongs to neither block.
    number = 1
    if step > 0:
        number = max(1, math.floor(length / step + 1e-9))
        number += length - number * step >= size_px
    starts = [math.ceil(step * index - 1e-6) for index in range(number)]
    ends = [math.floor(step * (index + 1) + 1e-6) for index in range(number - 1)]
    return list(zip(starts, [*ends, length], strict=True))
