"""Regions of one class: traced from rows of a class mask as they come, each with its area and confidence."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely
from rasterio.features import shapes as trace_shapes
from shapely import Polygon

from aftermap.classes import IGNORE
from aftermap.inference.objects.parting import root_of

MAX_REGION_ROWS = 4096
"""A region higher than this is cut into several, so that one endless forest cannot fill the memory."""


@dataclass(frozen=True, slots=True)
class Region:
    """A 4-connected patch of one class.

    Attributes:
        kind: class index.
        polygon: along pixel edges, holes left open, in pixel coordinates of the scene.
        pixels: how many it has.
        area: the sum of what each of them covers.
        confidence: mean over its pixels, in the units that were given.
    """

    kind: int
    polygon: Polygon
    pixels: int
    area: float
    confidence: float


def trace_regions(
    bands: Iterable[tuple[int, np.ndarray, np.ndarray]],
    row_areas: np.ndarray,
    *,
    left_out: Collection[int] = (),
    min_area: float = 0.0,
) -> Iterator[Region]:
    """Trace the regions of a class mask that comes in bands of rows.

    Outlines follow the pixels' edges, so that the regions of all classes tile the mask without gaps or overlaps. A
    region that a seam between two bands cuts comes out whole, as if the mask had been traced in one piece (up to
    MAX_REGION_ROWS).

    Args:
        bands: (first row, classes uint8 (h, W), confidence (h, W)), from top to bottom without gaps.
        row_areas: what a pixel of each row of the scene covers (H,), in the unit of `min_area`.
        left_out: classes that are not traced; IGNORE never is.
        min_area: smaller regions are dropped.

    Yields:
        Regions in no particular order.
    """
    height = len(row_areas)
    open_: list[_Open] = []
    above = np.zeros(0, np.int32)  # index + 1 in `open_` of each pixel in the last row seen
    for row, classes, confidence in bands:
        rows = slice(row, row + len(classes))
        labels, kinds, boxes = _components(classes, left_out)
        sums = _Sums.of(labels, len(kinds), row_areas[rows], confidence)
        last = rows.stop >= height
        cut = np.zeros(len(kinds), bool)
        if row > 0:
            cut[labels[0]] = True
        if not last:
            cut[labels[-1]] = True
        cut[0] = False
        whole = ~cut & (sums.area >= min_area)
        whole[0] = False
        for label, polygon in _outlines(labels, whole, row, 0):
            yield sums.region(label, int(kinds[label]), polygon)

        found = list(open_)
        number = np.zeros(len(kinds), np.int32)  # of a label among `found`, from 1 on
        for label in np.flatnonzero(cut).tolist():
            left, top, wide, tall = boxes[label].tolist()
            piece = row + top, left, labels[top : top + tall, left : left + wide] == label
            found.append(
                _Open(
                    int(kinds[label]),
                    [piece],
                    *(float(v[label]) for v in (sums.pixels, sums.area, sums.trust)),
                )
            )
            number[label] = len(found)
        owner = list(range(len(found) + 1))
        below = number[labels[0]]
        if len(above):
            both = (above > 0) & (below > 0)
            for upper, lower in np.unique(np.stack([above, below])[:, both], axis=1).T.tolist():
                if found[upper - 1].kind == found[lower - 1].kind:
                    a, b = root_of(owner, upper), root_of(owner, lower)
                    owner[max(a, b)] = min(a, b)
        merged: dict[int, _Open] = {}
        for index, shape in enumerate(found, start=1):
            root = root_of(owner, index)
            if root in merged:
                merged[root].join(shape)
            else:
                merged[root] = shape
        foot = number[labels[-1]]
        alive = set() if last else {root_of(owner, n) for n in np.unique(foot).tolist() if n}
        open_, position = [], np.zeros(len(found) + 1, np.int32)
        for index, shape in merged.items():
            if index in alive and rows.stop - shape.top < MAX_REGION_ROWS:
                open_.append(shape)
                position[index] = len(open_)
            elif shape.area >= min_area:
                yield shape.region()
        roots = np.array([root_of(owner, n) for n in range(len(found) + 1)], np.int32)
        above = position[roots[foot]]


def _components(classes: np.ndarray, left_out: Collection[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 4-connected patches of every class.

    Returns:
        Labels int32 (h, W), 0 off them; the class of each label; and its left, top, width and height.
    """
    labels, kinds = np.zeros(classes.shape, np.int32), [IGNORE]
    boxes = [np.zeros((1, 4), np.int32)]
    for kind in np.unique(classes).tolist():
        if kind == IGNORE or kind in left_out:
            continue
        patches = (classes == kind).astype(np.uint8)
        count, found, stats, _ = cv2.connectedComponentsWithStats(patches, connectivity=4)
        inside = found > 0
        labels[inside] = found[inside] + (len(kinds) - 1)
        kinds += [kind] * (count - 1)
        boxes.append(stats[1:, : cv2.CC_STAT_AREA])
    return labels, np.array(kinds), np.concatenate(boxes)


@dataclass(frozen=True, slots=True)
class _Sums:
    """By label: pixels, what they cover, and their confidence in all."""

    pixels: np.ndarray
    area: np.ndarray
    trust: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, count: int, row_areas: np.ndarray, confidence: np.ndarray) -> "_Sums":
        flat = labels.ravel()
        areas = np.broadcast_to(row_areas[:, None], labels.shape).ravel()
        weights = (None, areas, confidence.ravel().astype(np.float64))
        return cls(*(np.bincount(flat, weights=w, minlength=count) for w in weights))

    def region(self, label: int, kind: int, polygon: Polygon) -> Region:
        pixels = int(self.pixels[label])
        return Region(kind, polygon, pixels, float(self.area[label]), float(self.trust[label]) / pixels)


@dataclass
class _Open:
    """A region that is not finished: pieces (row, col, mask) from the bands it crosses, and its sums so far."""

    kind: int
    pieces: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    pixels: float = 0
    area: float = 0
    trust: float = 0

    @property
    def top(self) -> int:
        return min(row for row, _, _ in self.pieces)

    def join(self, other: "_Open") -> None:
        self.pieces += other.pieces
        self.pixels += other.pixels
        self.area += other.area
        self.trust += other.trust

    def region(self) -> Region:
        top, left = self.top, min(col for _, col, _ in self.pieces)
        bottom = max(row + len(mask) for row, _, mask in self.pieces)
        right = max(col + mask.shape[1] for _, col, mask in self.pieces)
        whole = np.zeros((bottom - top, right - left), np.int32)
        for row, col, mask in self.pieces:
            whole[row - top : row - top + len(mask), col - left : col - left + mask.shape[1]] |= mask
        ((_, polygon),) = _outlines(whole, np.array([False, True]), top, left)
        return Region(self.kind, polygon, int(self.pixels), self.area, self.trust / self.pixels)


def _outlines(labels: np.ndarray, chosen: np.ndarray, row: int, col: int) -> Iterator[tuple[int, Polygon]]:
    """The chosen labels with their outlines, `labels` lying at a row and column of the scene."""
    if not chosen.any():
        return
    for outline, label in trace_shapes(labels, mask=chosen[labels], connectivity=4):
        shell, *holes = (np.add(ring, (col, row)) for ring in outline["coordinates"])
        # in one order, so that an outline does not depend on where a seam was
        yield int(label), shapely.normalize(Polygon(shell, holes))
