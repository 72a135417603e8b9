"""Paints buildings into rows of pixels, all at once; what GDAL would, without a Python object for each shape."""

from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

_TINY_PX = 4.0


class Painter:
    """Paints buildings into rows of pixels, overlapping ones into separate layers so that none hides another.

    Buildings of less than four pixels get at least the pixel they stand on.

    Args:
        polygons: in pixel coordinates of the scene.
        width: columns of the scene.

    Attributes:
        count: how many buildings there are.
    """

    def __init__(self, polygons: Sequence[BaseGeometry], width: int) -> None:
        self.width = width
        shapes = np.array(polygons, dtype=object)
        for tiny in np.flatnonzero(shapely.area(shapes) < _TINY_PX).tolist():
            shapes[tiny] = _paintable(shapes[tiny])
        self.count = len(shapes)
        self._shapes = shapes
        self._tree = shapely.STRtree(shapes)
        self._layer = _layers(shapes, self._tree)
        parts, shape = shapely.get_parts(shapes, return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        edges = ring[1:] == ring[:-1]
        self._start, self._stop = points[:-1][edges], points[1:][edges]
        self._owner = shape[part[ring[1:][edges]]]  # in the order of buildings
        self._edges = np.bincount(self._owner, minlength=self.count)
        self._first = np.cumsum(self._edges) - self._edges
        self._turned = shapely.is_ccw(rings)[ring[1:][edges]]

    def paint(self, row: int, height: int, *, col: int = 0, width: int | None = None) -> Iterator[np.ndarray]:
        """Layers int32 (height, width) from scene row `row` and column `col` on: the building's index + 1, or 0."""
        width = self.width - col if width is None else width
        found = np.sort(self._tree.query(shapely.box(col, row, col + width, row + height)))
        for layer in np.unique(self._layer[found]).tolist():
            members = found[self._layer[found] == layer]
            labels = np.zeros((height, width), np.int32)
            self._fill(labels, members, row, col)
            yield labels

    def _fill(self, labels: np.ndarray, members: np.ndarray, row: int, col: int) -> None:
        """Number the pixels whose middle lies within one of some buildings; labels (h, w) begin at `row` and `col`."""
        height, width = labels.shape
        edges = _ranges(self._first[members], self._edges[members])[1]
        owner = self._owner[edges]
        start, stop = self._start[edges], self._stop[edges]
        x0, y0, x1, y1 = start[:, 0] - col, start[:, 1] - row, stop[:, 0] - col, stop[:, 1] - row
        down = y0 <= y1
        left, right = np.where(down, x0, x1), np.where(down, x1, x0)
        upper, lower = np.where(down, y0, y1), np.where(down, y1, y0)
        # an edge is crossed by the rows whose middle lies within [upper, lower)
        first = np.clip(np.ceil(upper - 0.5), 0, height).astype(np.int64)
        crossed = np.clip(np.ceil(lower - 0.5), 0, height).astype(np.int64) - first
        edge, at = _ranges(first, crossed)
        across = (at + 0.5 - upper[edge]) * (right[edge] - left[edge]) / (lower[edge] - upper[edge]) + left[
            edge
        ]
        order = np.lexsort((across, at, owner[edge]))
        edge, at, across = edge[order], at[order], across[order]
        runs = [(owner[edge[::2]], at[::2], across[::2], across[1::2])]
        # GDAL's way: of a ring's edges along the middle of a row, the upper ones belong to the shape, of a hole's too
        along = (
            (y0 == y1)
            & (x0 != x1)
            & ((x0 < x1) == self._turned[edges])
            & (y0 == np.floor(y0) + 0.5)
            & (y0 > 0)
            & (y0 < height)
        )
        if along.any():
            ends = np.minimum(x0, x1)[along], np.maximum(x0, x1)[along]
            runs.append((owner[along], y0[along].astype(np.int64), *ends))
        owners, rows, begin, end = (np.concatenate(column) for column in zip(*runs, strict=True))
        begin, end = (np.clip(np.floor(x + 0.5), 0, width).astype(np.int64) for x in (begin, end))
        order = np.argsort(owners, kind="stable")
        run, pixel = _ranges((rows * width + begin)[order], np.maximum(end - begin, 0)[order])
        labels.reshape(-1)[pixel] = (owners[order] + 1)[run]


def _ranges(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For runs of whole numbers that begin at `first`: which run each number belongs to, and the numbers."""
    run = np.repeat(np.arange(len(count)), count)
    before = np.cumsum(count) - count
    return run, np.arange(len(run)) + (first - before)[run]


def _paintable(polygon: BaseGeometry) -> BaseGeometry:
    """A tiny building with the pixel that it stands on."""
    point = polygon.representative_point() if not polygon.is_empty else shapely.Point(-1, -1)
    col, row = np.floor(point.x), np.floor(point.y)
    return shapely.union(polygon, shapely.box(col, row, col + 1, row + 1))


def _layers(shapes: np.ndarray, tree: shapely.STRtree) -> np.ndarray:
    """A layer for each shape, such that shapes of one layer share no area (greedy colouring)."""
    layer = np.zeros(len(shapes), np.int32)
    if len(shapes) == 0:
        return layer
    first, second = tree.query(shapes, predicate="intersects")
    first, second = first[second < first], second[second < first]
    shared = ~shapely.touches(
        shapes[first], shapes[second]
    )  # of two polygons that meet: a part of their inside
    neighbours: dict[int, list[int]] = {}
    for a, b in zip(first[shared].tolist(), second[shared].tolist(), strict=True):
        neighbours.setdefault(a, []).append(b)
    for a in sorted(neighbours):
        taken = {int(layer[b]) for b in neighbours[a]}
        layer[a] = next(n for n in range(len(taken) + 1) if n not in taken)
    return layer
