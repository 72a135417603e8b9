"""Windows inside an area: side by side, around buildings, or where there is no building.

All windows count in pixels of one grid, half-open, from its upper left.
"""

import math

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.data.preparing.cut_config import CutConfig
from aftermap.geo.grid import Grid, Window

ORIGINAL_PADDING_PX = 1536
"""Source: Open Cities, third place: 1024 + 512 px of ground on every side of a building."""


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
