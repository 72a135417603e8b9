"""How far building outlines lie beside the houses of an image, block by block, and whether moving them helps.

Outlines from other imagery lie some pixels beside this one, and by other amounts in the next street. Every outline is
moved over the image, and how strong the edges are across it is noted for each shift. Around every node of a grid the
notes of the buildings nearby are added up, in four groups of buildings; the best shift of the sum is the node's. Each
group judges the shifts that the other three choose: where these do not meet its edges better, outlines stay as given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.geo.alignment.edges import edge_field
from aftermap.geo.grid import Window
from aftermap.geo.raster import Patch

SPACING_PX = 192
"""Between nodes."""

MOST_NODES = 64
"""Along the longer side of a scene; in large ones they lie further apart."""

REACH_PX = 12
REACH_M = 8.0
MOST_REACH_PX = 24
"""Shifts are looked for up to so far along each axis: 8 m, but 12 px at least and 24 px at most."""

FARTHEST_PX = 3.0
"""A node farther than this from the median of itself and its neighbours has found something else."""

MIN_SHIFT_PX = 0.5
"""Below this outlines are as good as they were given."""

MIN_GAIN = 0.03
"""Of the fit as given, that the buildings which took no part have to gain around a node."""

SURE = 2.0
"""Standard errors that the gain over the whole scene has to exceed."""

_GROUPS = 4
_LEAST_BUILDINGS = 8.0  # around a node, each counted by how near it lies
_MOST_POINTS = 32  # of an outline
_STEP_PX = 2  # between shifts that are tried: edges are blurred, so what lies between follows from these
_FINER = 4  # of the step, by cubic interpolation
_TILE_PX = 1024
_SPREAD = np.array([0.7548776662466927, 0.5698402909980532])  # evenly over a square (Roberts 2018, R2)
_NEIGHBOURS = 0.7  # nodes, standard deviation of what a node takes from those around it

ReadImage = Callable[[Window], Patch]
"""Reads a window of the image."""


@dataclass(frozen=True)
class FootprintShifts:
    """How far outlines have to move.

    Attributes:
        dx_px: pixels right, (n,), of each outline; 0 where it stays.
        dy_px: pixels down, (n,).
        moved: bool (n,), whether it lies in a block that is moved.
        blocks: how many blocks held buildings enough to be measured. moved_blocks: how many are moved.
        median_px: length of the shifts of moved outlines, median; None where none is. largest_px: the longest.
        fit_before: how strong edges are across the outlines, 0 to 1, at buildings that took no part in the choice.
        fit_after: the same once they are moved.
        reason: why they are moved or not, in words.
    """

    dx_px: np.ndarray
    dy_px: np.ndarray
    moved: np.ndarray
    blocks: int
    moved_blocks: int
    median_px: float | None
    largest_px: float | None
    fit_before: float | None
    fit_after: float | None
    reason: str

    def as_dict(self) -> dict[str, object]:
        """What the report says of it."""
        names = (
            "blocks",
            "moved_blocks",
            "median_px",
            "largest_px",
            "fit_before",
            "fit_after",
            "reason",
        )
        return {"moved": int(self.moved.sum()), **{name: getattr(self, name) for name in names}}


def measure_footprint_shifts(
    outlines: Sequence[BaseGeometry],
    read: ReadImage,
    size: tuple[int, int],
    *,
    resolution_m: float | None = None,
) -> FootprintShifts:
    """Measure the shift of every block of outlines, and decide where to take it out.

    Args:
        outlines: in pixel coordinates of the scene.
        read: reads the image, or the probability of buildings, on the scene's grid.
        size: rows and columns of the scene.
        resolution_m: metres per pixel.
    """
    reach = REACH_PX if resolution_m is None else math.ceil(REACH_M / resolution_m)
    reach = min(max(reach, REACH_PX), MOST_REACH_PX)
    shapes = np.array(outlines, dtype=object)
    centres = shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2)
    spacing = max(SPACING_PX, math.ceil(max(size) / MOST_NODES))
    nodes = _Nodes(size, spacing, reach - reach % _STEP_PX)
    for row in range(0, size[0], _TILE_PX):
        for col in range(0, size[1], _TILE_PX):
            tile = Window(row, col, min(_TILE_PX, size[0] - row), min(_TILE_PX, size[1] - col))
            here = np.flatnonzero(
                (centres[:, 0] >= col)
                & (centres[:, 0] < col + tile.width)
                & (centres[:, 1] >= row)
                & (centres[:, 1] < row + tile.height)
            )
            if len(here):
                known, surfaces = _surfaces(shapes[here], read, tile, size, reach - reach % _STEP_PX)
                nodes.add(here[known], centres[here[known]], surfaces)
    return nodes.judged(centres)


class _Nodes:
    """What the outlines around each node say of each shift, by group of buildings.

    Args:
        size: rows and columns of the scene.
        spacing: between nodes, pixels.
        reach: longest shift along an axis, a multiple of the step.
    """

    def __init__(self, size: tuple[int, int], spacing: int, reach: int) -> None:
        self._spacing, self._reach = spacing, reach
        self._shape = tuple(max(1, math.ceil(length / spacing)) + 1 for length in size)
        side = 2 * reach // _STEP_PX + 1
        self._sums = np.zeros((_GROUPS, *self._shape, side, side), np.float32)
        self._weights = np.zeros((_GROUPS, *self._shape), np.float32)

    def add(self, rows: np.ndarray, centres: np.ndarray, surfaces: np.ndarray) -> None:
        """Add buildings: their rows in the table (n,), centres (n, 2) and fit at every shift (n, S, S)."""
        group = rows % _GROUPS
        for (i, j), weight in self._around(centres):
            np.add.at(self._sums, (group, i, j), weight[:, None, None] * surfaces)
            np.add.at(self._weights, (group, i, j), weight)

    def judged(self, centres: np.ndarray) -> FootprintShifts:
        """The shifts of outlines with these centres (n, 2)."""
        sums, weights = _pooled(self._sums), _pooled(self._weights)
        measured = weights.sum(axis=0) >= _LEAST_BUILDINGS
        if not measured.any():
            return _stay(len(centres), 0, "too few outlines show edges in the image")
        blocks = int(measured.sum())
        centre = self._reach // _STEP_PX
        still = self._sums[..., centre, centre]  # each building once: the groups share no building
        best: tuple[float, np.ndarray, np.ndarray] | None = None
        for choose in (self._one, self._field):
            gains = np.zeros(still.shape)
            for group in range(_GROUPS):
                others = [other for other in range(_GROUPS) if other != group]
                shift = choose(sums[others].sum(axis=0), weights[others].sum(axis=0))
                gains[group] = self._at(self._sums[group], shift) - still[group]
            if best is None or gains.sum() > best[0]:
                best = float(gains.sum()), gains, choose(sums.sum(axis=0), weights.sum(axis=0))
        assert best is not None
        _, gains, field = best
        fit, weight = float(still.sum()), float(self._weights.sum())
        samples = gains[self._weights > 0]
        error = float(samples.std(ddof=1) * math.sqrt(len(samples))) if len(samples) > 1 else 0.0
        gain = float(gains.sum())
        fits = {"fit_before": round(fit / weight, 4), "fit_after": round((fit + gain) / weight, 4)}
        if gain < max(MIN_GAIN * fit, SURE * error):
            told = f"outlines would not meet the edges of the image better once moved ({gain / fit:+.1%})"
            return _stay(len(centres), blocks, told, **fits)
        near, nearby = _pooled(gains.astype(np.float32)), _pooled(still)
        helps = (near.sum(axis=0) >= MIN_GAIN * nearby.sum(axis=0)) & ((near > 0).sum(axis=0) >= _GROUPS - 1)
        helps &= measured & (np.hypot(*field) >= MIN_SHIFT_PX)
        return self._moving(centres, field, helps, blocks, fit / weight, gain / fit)

    def _moving(
        self,
        centres: np.ndarray,
        field: np.ndarray,
        helps: np.ndarray,
        blocks: int,
        fit: float,
        gain: float,
    ) -> FootprintShifts:
        total, moving = np.zeros((2, len(centres))), np.zeros(len(centres))
        for (i, j), weight in self._around(centres):
            share = weight * helps[i, j]
            total += share * field[:, i, j]
            moving += share
        moved = moving >= 0.5
        if not moved.any():
            return _stay(len(centres), blocks, "no block of outlines is surely better once moved")
        dx, dy = np.where(moved, total / np.maximum(moving, 1e-9), 0.0)
        lengths = np.hypot(dx, dy)[moved]
        return FootprintShifts(
            dx,
            dy,
            moved,
            blocks,
            int(helps.sum()),
            round(float(np.median(lengths)), 2),
            round(float(lengths.max()), 2),
            round(fit, 4),
            round(fit * (1 + gain), 4),
            f"outlines that took no part in the choice meet edges better by {gain:.1%}",
        )

    def _around(self, centres: np.ndarray) -> list[tuple[tuple[np.ndarray, np.ndarray], np.ndarray]]:
        """The four nodes around each building (row, column), and how near it lies to each; these sum to one."""
        col, row = (centres / self._spacing).T
        row, col = np.clip(row, 0, self._shape[0] - 1), np.clip(col, 0, self._shape[1] - 1)
        top = np.minimum(row.astype(int), self._shape[0] - 2)
        left = np.minimum(col.astype(int), self._shape[1] - 2)
        down, right = row - top, col - left
        return [
            ((top, left), (1 - down) * (1 - right)),
            ((top, left + 1), (1 - down) * right),
            ((top + 1, left), down * (1 - right)),
            ((top + 1, left + 1), down * right),
        ]

    def _field(self, sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The shift (dx, dy) of every node, (2, N, M), without what none of its neighbours shares."""
        found = np.full((2, *self._shape), np.nan)
        for i, j in np.argwhere(weights >= _LEAST_BUILDINGS * (_GROUPS - 1) / _GROUPS).tolist():
            found[:, i, j] = self._best(sums[i, j])
        return _smoothed(_agreeing(found), weights)

    def _one(self, sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """One shift for all nodes."""
        shift = np.nan_to_num(self._best(sums.sum(axis=(0, 1))))
        return np.broadcast_to(shift[:, None, None], (2, *self._shape)).copy()

    def _best(self, surface: np.ndarray) -> np.ndarray:
        """The shift (dx, dy) of the largest value; none where that lies on the edge: the true one may be longer."""
        fine = _upsampled(surface)
        row, col = np.unravel_index(int(fine.argmax()), fine.shape)
        shift = np.array([col, row], float) * _STEP_PX / _FINER - self._reach
        return np.where(np.abs(shift).max() < self._reach, shift, np.nan)

    def _at(self, surfaces: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """The value of each node's surface (N, M, S, S) at its shift (2, N, M)."""
        values = np.zeros(self._shape)
        side = surfaces.shape[-1]
        x, y = np.clip((shift + self._reach) / _STEP_PX, 0, side - 1)
        for i, j in np.argwhere(surfaces.any(axis=(2, 3))).tolist():
            fine = _upsampled(surfaces[i, j])
            values[i, j] = fine[round(float(y[i, j]) * _FINER), round(float(x[i, j]) * _FINER)]
        return values


def _upsampled(surface: np.ndarray) -> np.ndarray:
    """Cubic between the shifts that were tried; those keep their values."""
    side = _FINER * (surface.shape[0] - 1) + 1
    at = np.arange(side, dtype=np.float32) / _FINER
    across, down = (np.ascontiguousarray(each) for each in np.meshgrid(at, at))
    fine: np.ndarray = cv2.remap(
        surface.astype(np.float32), across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return fine


def _pooled(values: np.ndarray) -> np.ndarray:
    """Each node of (G, N, M, ...) with a part of what lies around it."""
    reach = np.arange(-2, 3)
    kernel = np.exp(-0.5 * (reach / _NEIGHBOURS) ** 2)
    for axis in (1, 2):
        padded = np.pad(values, [(2, 2) if a == axis else (0, 0) for a in range(values.ndim)])
        length = values.shape[axis]
        values = sum(
            weight * np.take(padded, np.arange(start, start + length), axis=axis)
            for start, weight in enumerate(kernel.tolist())
        )
    return values


def _agreeing(found: np.ndarray) -> np.ndarray:
    """Nodes (2, N, M) with nan where one lies far from the median of itself and its neighbours."""
    padded = np.pad(found, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).reshape(*found.shape, 9)
    known = np.isfinite(around[0]).any(axis=-1)
    middle = np.nanmedian(np.where(known[None, ..., None], around, 0), axis=-1)
    far = np.abs(found - middle).max(axis=0) > FARTHEST_PX
    return np.where(far, np.nan, found)


def _smoothed(found: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The nodes (2, N, M) averaged over their neighbours by how many buildings speak there; none where nobody does."""
    known = np.where(np.isfinite(found[0]), weights, 0)
    spoken = _pooled(known[None])[0]
    total = _pooled(np.nan_to_num(found) * known)
    field: np.ndarray = np.where(spoken > 0, total / np.maximum(spoken, 1e-9), 0.0)
    return field


def _surfaces(
    shapes: np.ndarray, read: ReadImage, tile: Window, size: tuple[int, int], reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """How strong edges are across some outlines at every shift.

    Returns:
        Which outlines have edges to look at, (k,), and the mean over their points (k, S, S), down along rows.
    """
    left, top, right, bottom = shapely.total_bounds(shapes)
    margin = reach + 5
    first_row = max(0, min(tile.row, math.floor(max(top, tile.row - _TILE_PX))) - margin)
    first_col = max(0, min(tile.col, math.floor(max(left, tile.col - _TILE_PX))) - margin)
    last_row = min(size[0], max(tile.row + tile.height, math.ceil(bottom)) + margin, tile.row + 2 * _TILE_PX)
    last_col = min(size[1], max(tile.col + tile.width, math.ceil(right)) + margin, tile.col + 2 * _TILE_PX)
    patch = read(Window(first_row, first_col, last_row - first_row, last_col - first_col))
    field = edge_field(np.where(patch.valid, patch.array, 0))
    kernel = np.ones((2 * margin + 1,) * 2, np.uint8)
    border = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    inside = cv2.erode(patch.valid.astype(np.uint8), kernel, **border) > 0
    points, normals, owner = _points(shapes)
    # between two pixel middles a point falls to the nearer one more often: on the mean as if it were interpolated
    fall = np.arange(1, len(points) + 1)[:, None] * _SPREAD % 1
    cols, rows = np.floor(points - (first_col, first_row) - 0.5 + fall).astype(np.int64).T
    height, width = patch.valid.shape
    kept = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    kept[kept] = inside[rows[kept], cols[kept]]
    rows, cols, normals, owner = rows[kept], cols[kept], normals[kept], owner[kept]
    known, owner = np.unique(owner, return_inverse=True)
    count = np.bincount(owner, minlength=len(known))
    across, down = (np.ascontiguousarray(part, np.float32).reshape(-1) for part in (field.real, field.imag))
    normal_x, normal_y = normals.astype(np.float32).T
    at = rows * width + cols
    steps = range(-reach, reach + 1, _STEP_PX)
    surfaces = np.empty((len(known), len(steps), len(steps)), np.float32)
    for i, dy in enumerate(steps):
        for j, dx in enumerate(steps):
            there = at + (dy * width + dx)
            strength = np.abs(across[there] * normal_x + down[there] * normal_y)
            surfaces[:, i, j] = np.bincount(owner, strength, len(known)) / count
    return known, surfaces


def _points(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points along outer rings (n, 2), the direction across (n, 2) and the shape that each belongs to (n,).

    Evenly spaced by about a pixel, further apart where an outline is long.
    """
    parts, shape = shapely.get_parts(shapes, return_index=True)
    rings = shapely.get_exterior_ring(parts)
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    start, step = corners[:-1][same], np.diff(corners, axis=0)[same]
    owner = shape[ring[1:][same]]
    length = np.hypot(*step.T)
    start, step, owner, length = (each[length > 0] for each in (start, step, owner, length))
    around = np.bincount(owner, length, len(shapes))
    spacing = np.maximum(1.0, around / _MOST_POINTS)[owner]
    count = np.maximum(np.rint(length / spacing).astype(np.int64), 1)
    edge = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    share = (place + 0.5) / count[edge]
    normals = np.column_stack([-step[:, 1], step[:, 0]]) / length[:, None]
    return start[edge] + share[:, None] * step[edge], normals[edge], owner[edge]


def _stay(
    count: int, blocks: int, reason: str, *, fit_before: float | None = None, fit_after: float | None = None
) -> FootprintShifts:
    none = np.zeros(count)
    return FootprintShifts(
        none, none, np.zeros(count, bool), blocks, 0, None, None, fit_before, fit_after, reason
    )
