"""Which windows of a large image become tiles: around buildings, on a grid, or where there is no building.

All windows count in pixels of one grid, half-open, from its upper left. The ground is divided into blocks that no
window leaves, so that tiles of different blocks (and of different resolutions in them) share no ground and can
go into different splits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from affine import Affine
from pydantic import Field, PositiveFloat, model_validator
from shapely.geometry.base import BaseGeometry

from aftermap.config import Config
from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid, Window

ORIGINAL_PADDING_PX = 1536
"""Source: Open Cities, third place: 1024 + 512 px of ground on every side of a building."""

_FINEST = 16
_LEAST_PX = 16
_METRES_PER_DEGREE = 111_320


class CutConfig(Config):
    """How an image is cut into tiles.

    Attributes:
        by: `building`: windows in which every building lies whole (those larger than a tile in parts), few of them
            over the same ground. `grid`: side by side. `empty`: side by side where no building is near.
        size_px: width and height of a tile; at the image's edges, and where the image is smaller, tiles are smaller.
        resolutions: metres per pixel, each a set of tiles of its own; empty for the image's own pixels.
        padding_px: `building`: ground kept around a building where the tile has room for it.
        jitter_px: `building`: windows are moved at random by up to so much, as far as their buildings stay inside.
        overlap_px: `grid`: how far neighbours overlap inside a block.
        margin_px: `empty`: no building may come nearer to the tile.
        max_tiles: at most so many per image and resolution, drawn at random.
        max_empty_ratio: tiles without building per tile with buildings, at most. `grid`: all by default.
            `building`: none by default, else as many empty areas are added.
        min_valid: tiles with a smaller share of pixels that hold data (of a whole tile) are left out.
        min_building: tiles with buildings on a smaller share of their pixels are left out.
        block_tiles: side of a block in tiles of the coarsest resolution; 0 for one block over everything.
        mask: pixels whose centre lies in a building, or all that a building touches.
        seed: of every draw.
        compat_every_building: the original's way in place of all the above: one window per building, whatever
            others hold, see `building_window`; the mask `all-touched` and then resized with the image, which makes
            it grey at other scales.
        compat_scales: with it, pixels of the image per pixel of a tile, each a set of tiles of its own.
        compat_top_left: with it, keep only the upper left `size_px` of each window.
    """

    by: Literal["building", "grid", "empty"] = "grid"
    size_px: int = Field(512, ge=_LEAST_PX)
    resolutions: tuple[float, ...] = ()
    padding_px: int | None = Field(None, ge=0)
    jitter_px: int = Field(0, ge=0)
    overlap_px: int = Field(0, ge=0)
    margin_px: int = Field(16, ge=0)
    max_tiles: int | None = Field(None, ge=1)
    max_empty_ratio: float | None = Field(None, ge=0)
    min_valid: float = Field(0.5, ge=0, le=1)
    min_building: float = Field(0.0, ge=0, le=1)
    block_tiles: int = Field(2, ge=0)
    mask: Literal["pixel-centre", "all-touched"] = "pixel-centre"
    seed: int = Field(0, ge=0)
    compat_every_building: bool = False
    compat_scales: tuple[PositiveFloat, ...] = (1.0, 2.0, 0.5)
    compat_top_left: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "CutConfig":
        if self.compat_every_building and self.resolutions:
            raise ValueError(
                "compat_every_building cuts at compat_scales, not at resolutions: leave them out"
            )
        for key, way in (("overlap_px", "grid"), ("jitter_px", "building"), ("margin_px", "empty")):
            if getattr(self, key) != type(self).model_fields[key].default and self.by != way:
                raise ValueError(f"{key} is for tiles by {way}, these are by {self.by}: leave it out")
        if self.padding_px is not None and self.by != "building" and not self.compat_every_building:
            raise ValueError(f"padding_px is for tiles by building, these are by {self.by}: leave it out")
        for key in ("compat_scales", "compat_top_left"):
            if getattr(self, key) != type(self).model_fields[key].default and not self.compat_every_building:
                raise ValueError(f"{key} goes with compat_every_building alone: leave it out, or give both")
        if self.overlap_px >= self.size_px:
            raise ValueError(
                f"tiles of {self.size_px} px cannot overlap by {self.overlap_px} px: take less than their size"
            )
        return self


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
    if grid.width / scale[0] < _LEAST_PX or grid.height / scale[1] < _LEAST_PX:
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


def building_window(shape: BaseGeometry, grid: Grid, *, padding_px: int | None = None) -> Window:
    """The original's window of one building: the pixels that its bounding box touches, padded, cut at the image's edge.

    Args:
        shape: the building in pixels of `grid`.
        grid: the image's own.
        padding_px: on every side; 1536 as in the original by default.

    Source: Open Cities, third place, `dataset.py`.
    """
    padding = ORIGINAL_PADDING_PX if padding_px is None else padding_px
    left, top, right, bottom = shape.bounds
    first_col, first_row = max(0, math.floor(left) - padding), max(0, math.floor(top) - padding)
    end_col = min(grid.width, math.ceil(right) + padding)
    end_row = min(grid.height, math.ceil(bottom) + padding)
    return Window(first_row, first_col, max(0, end_row - first_row), max(0, end_col - first_col))


def grid_windows(area: Window, size_px: int, overlap_px: int = 0) -> list[Window]:
    """Windows side by side over `area`, row by row; the last ones end with it and may be smaller."""
    step = size_px - overlap_px
    rows, cols = (_starts(length, size_px, step) for length in (area.height, area.width))
    return [
        Window(
            area.row + row, area.col + col, min(size_px, area.height - row), min(size_px, area.width - col)
        )
        for row in rows
        for col in cols
    ]


def building_windows(
    boxes: np.ndarray, area: Window, config: CutConfig, rng: np.random.Generator
) -> list[Window]:
    """Few windows inside `area` so that each box lies whole in at least one of them.

    From the top down: of some windows that hold the first box not yet in one, the one with most others that are not,
    moved to their middle. Windows that later ones have made superfluous are taken away again.

    Args:
        boxes: (N, 4) left, top, right, bottom in pixels; parts outside `area` do not count.
        area: which no window leaves.
        config: size, padding and jitter.
        rng: of the jitter.
    """
    size = min(config.size_px, area.width), min(config.size_px, area.height)
    pieces = _pieces(boxes, area, size, config.padding_px or 0)
    pieces = pieces[np.lexsort((pieces[:, 0], pieces[:, 1]))]
    pending = np.ones(len(pieces), bool)
    windows: list[Window] = []
    held: list[np.ndarray] = []
    for index, piece in enumerate(pieces):
        if not pending[index]:
            continue
        best = np.array([index])
        for corner in _corners_around(piece, size):
            inside = _inside(pieces, corner, size)
            fresh = inside[pending[inside]]
            best = fresh if len(fresh) > len(best) else best
        low, high = pieces[best, :2].min(axis=0), pieces[best, 2:].max(axis=0)
        window = _centred(low, high, size, area, config.jitter_px, rng)
        windows.append(window)
        held.append(_inside(pieces, np.array([window.col, window.row]), size))
        pending[held[-1]] = False
    times = np.bincount(np.concatenate(held), minlength=len(pieces)) if held else np.zeros(0, int)
    kept = np.ones(len(windows), bool)
    for number in sorted(range(len(windows)), key=lambda number: len(held[number])):
        if (times[held[number]] > 1).all():
            kept[number] = False
            times[held[number]] -= 1
    return [window for window, keep in zip(windows, kept, strict=True) if keep]


def empty_windows(
    tree: shapely.STRtree, area: Window, config: CutConfig, rng: np.random.Generator
) -> list[Window]:
    """Windows of full size inside `area` that lie at least `margin_px` from every building and share no pixels.

    Args:
        tree: the buildings in pixels.
        area: which no window leaves.
        config: size and margin.
        rng: of the order in which places are tried.
    """
    wide, high = min(config.size_px, area.width), min(config.size_px, area.height)
    across, along = max(1, wide // 2), max(1, high // 2)
    rows = np.arange(0, area.height - high + 1, along)
    cols = np.arange(0, area.width - wide + 1, across)
    places = np.array([(row, col) for row in range(len(rows)) for col in range(len(cols))]).reshape(-1, 2)
    top, left = area.row + rows[places[:, 0]], area.col + cols[places[:, 1]]
    margin = config.margin_px
    grown = shapely.box(left - margin, top - margin, left + wide + margin, top + high + margin)
    free = np.ones(len(places), bool)
    free[tree.query(grown, predicate="intersects")[0]] = False
    taken = np.zeros((len(rows) + 1, len(cols) + 1), bool)
    windows = []
    for number in rng.permutation(np.flatnonzero(free)):
        row, col = places[number]
        if taken[row : row + 2, col : col + 2].any():
            continue
        taken[row : row + 2, col : col + 2] = True
        windows.append(Window(int(top[number]), int(left[number]), high, wide))
    return sorted(windows, key=lambda window: (window.row, window.col))


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


def _starts(length: int, size_px: int, step: int) -> range:
    return range(0, max(1, length - size_px + step), step)


def _pieces(boxes: np.ndarray, area: Window, most: tuple[int, int], padding: int) -> np.ndarray:
    """Boxes cut to `area`, padded where that fits a window, and those larger than a window cut into parts."""
    low, high = np.array([area.col, area.row]), np.array([area.col + area.width, area.row + area.height])
    size = np.array(most)
    pieces = []
    for box in boxes:
        start, end = np.maximum(np.floor(box[:2]), low), np.minimum(np.ceil(box[2:]), high)
        if (end <= start).any():
            continue
        room = np.clip((size - (end - start)) // 2, 0, padding)
        start, end = np.maximum(start - room, low), np.minimum(end + room, high)
        number = np.ceil((end - start) / size).astype(int)
        steps = (end - start) / number
        for down in range(number[1]):
            for right in range(number[0]):
                part = start + np.floor(steps * (right, down))
                last = np.minimum(start + np.ceil(steps * (right + 1, down + 1)), part + size)
                pieces.append([*part, *last])
    return np.array(pieces, float).reshape(-1, 4)


def _corners_around(piece: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Upper left corners (15, 2) of windows that hold a piece: it lies at their top, or higher up, from left to right."""
    room = np.array(size) - (piece[2:] - piece[:2])
    shares = np.array([(x, y) for y in (0, 0.25, 0.5) for x in (0, 0.25, 0.5, 0.75, 1)])
    corners: np.ndarray = np.ceil(piece[:2] - shares * room)
    return corners


def _inside(pieces: np.ndarray, corner: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Indices of the pieces, sorted by their tops, that lie whole in a window."""
    first, last = np.searchsorted(pieces[:, 1], (corner[1], corner[1] + size[1]))
    part = pieces[first:last]
    end = corner + size
    found: np.ndarray = first + np.flatnonzero(
        (part[:, 0] >= corner[0]) & (part[:, 2] <= end[0]) & (part[:, 3] <= end[1])
    )
    return found


def _centred(
    low: np.ndarray,
    high: np.ndarray,
    size: tuple[int, int],
    area: Window,
    jitter: int,
    rng: np.random.Generator,
) -> Window:
    """The window of `size` in the middle of a box, moved at random and into `area`, never off the box."""
    slack = np.array(size) - (high - low)
    offset = np.floor(slack / 2)
    if jitter:
        offset = offset + rng.integers(-jitter, jitter, size=2, endpoint=True)
    corner = low - np.clip(offset, 0, slack)
    first = np.array([area.col, area.row])
    room = np.array([area.width, area.height]) - np.array(size)
    corner = np.clip(corner, first, first + room)
    return Window(int(corner[1]), int(corner[0]), size[1], size[0])
