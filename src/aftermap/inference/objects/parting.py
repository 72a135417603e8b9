"""Parts houses that touch in a mask: a watershed on how deep inside a building, and how surely on one, a pixel lies."""

from dataclasses import dataclass

import cv2
import numpy as np

MAX_PARTED_PX = 4_000_000
"""A shape whose box is larger is no row of houses; it stays whole, so that it cannot fill the memory."""

_SHEET_PX = 1 << 19  # of shapes that are parted at once: what is computed of them stays in the cache
SMOOTHING_PX = 1.5
GAP_PX = 8
"""Between shapes that are parted on one sheet: more than the smoothing reaches."""

_STEPS_PER_PX = 64  # of the land: in whole numbers no rounding decides where a wall stands


def part_touching(strength: np.ndarray, *, min_area_px: float, depth_px: float) -> np.ndarray:
    """Part one connected shape into the houses that it consists of.

    The land is the distance to the shape's edge times p(building), smoothed: it rises to a peak in the middle of each
    house, and its saddles lie at necks of the shape and where the model is less sure. Every pixel goes to the peak
    that it climbs to; two peaks are one house unless the lower one stands more than `depth_px` above the saddle between
    them (its persistence). Parts smaller than `min_area_px` go to the neighbour across their highest saddle.

    Args:
        strength: uint8 (H, W), 0 off the shape and 1 + 254 p(building) on it; the shape is 4-connected.
        min_area_px: smallest part.
        depth_px: see above; larger values part less.

    Returns:
        int32 (H, W), 0 off the shape and a number from 1 on for each part, which is 4-connected.

    Source: Meyer and Beucher 1990, "Morphological segmentation" (watershed); Edelsbrunner et al. 2002, "Topological
    persistence and simplification".
    """
    inside = np.pad(strength > 0, 1)
    pixels = np.flatnonzero(inside)  # of the padded image, in row order
    basin, _, root = _basins(np.pad(strength, 1), pixels, min_area_px, depth_px)
    labels = np.zeros(inside.size, np.int32)
    labels[pixels] = (np.unique(root, return_inverse=True)[1] + 1)[basin]
    parted: np.ndarray = labels.reshape(inside.shape)[1:-1, 1:-1].copy()
    return parted


@dataclass(frozen=True)
class Components:
    """The 4-connected shapes of a mask.

    Attributes:
        labels: int32 (H, W), 0 off the mask and the number of the shape on it.
        boxes: int64 (n, 4) of each number: first column and row, width and height.
        areas: int64 (n,) pixels of each.
        chosen: bool (n,), those that are looked at; never 0.
    """

    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    chosen: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> "Components":
        """All shapes of a mask uint8 (H, W)."""
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        chosen = np.ones(count, bool)
        chosen[0] = False
        stats = stats.astype(np.int64)
        return cls(labels, stats[:, :4], stats[:, cv2.CC_STAT_AREA], chosen)


def part_shapes(
    strength: np.ndarray, *, min_area_px: float, depth_px: float, shapes: Components | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Part every connected shape of a mask, each for itself; those in which no two parts fit stay whole.

    Args:
        strength: uint8 (H, W), 0 off buildings and 1 + 254 p(building) on them.
        min_area_px: smaller shapes are left out, and no part is smaller.
        depth_px: see `part_touching`.
        shapes: of `strength`; those that are not chosen are left out.

    Returns:
        int32 (H, W), 0 off buildings and a number from 1 on for each; and how many pixels have each number.
    """
    shapes = shapes or Components.of((strength != 0).astype(np.uint8))
    count, area = len(shapes.areas), shapes.areas
    left, top, width, height = shapes.boxes.T
    large = shapes.chosen & (area >= min_area_px)
    whole = large & ((area < 2 * min_area_px) | (width * height > MAX_PARTED_PX))
    parts_of = whole.astype(np.int64)  # of each shape
    everywhere = np.flatnonzero(strength)
    shape_of = shapes.labels.reshape(-1)[everywhere]
    flat, within, number = (
        [],
        [],
        [],
    )  # pixels of the mask, their shapes, and their parts counted within these
    for some in _batches(np.flatnonzero(large & ~whole), (width + GAP_PX) * (height + GAP_PX)):
        chosen = np.zeros(count, bool)
        chosen[some] = True
        mine = chosen[shape_of]
        here, shape = everywhere[mine], shape_of[mine]
        x, y, size = _laid_out(width[some], height[some])
        move = np.zeros(count, np.int64)  # of a shape's pixels, from the mask to the sheet
        move[some] = (y - top[some]) * size[1] + x - left[some]
        place = here + here // strength.shape[1] * (size[1] - strength.shape[1]) + move[shape]
        sheet, source = np.zeros(size, np.uint8), np.zeros(size[0] * size[1], np.int32)
        sheet.reshape(-1)[place], source[place] = strength.reshape(-1)[here], here
        pixels = np.flatnonzero(sheet)
        basin, peaks, root = _basins(sheet, pixels, min_area_px, depth_px)
        roots, part = np.unique(root, return_inverse=True)
        owner = shapes.labels.reshape(-1)[source[peaks[roots]]]  # the shape of each part
        order = np.lexsort((roots, owner))
        counted = np.bincount(owner, minlength=count)
        rank = np.empty(len(roots), np.int64)
        rank[order] = np.arange(len(roots)) - (np.cumsum(counted) - counted)[owner[order]]
        parts_of += counted
        flat.append(source[pixels])
        within.append(owner[part][basin])
        number.append(rank[part][basin])
    before = np.cumsum(parts_of) - parts_of
    labels = np.zeros(strength.shape, np.int32)
    if whole.any():
        mine = whole[shape_of]
        flat.append(everywhere[mine])
        within.append(shape_of[mine])
        number.append(np.zeros(len(flat[-1]), np.int64))
    areas = np.zeros(int(parts_of.sum()) + 1, np.int64)
    if flat:
        parted = before[np.concatenate(within)] + np.concatenate(number) + 1
        labels.reshape(-1)[np.concatenate(flat)] = parted
        areas = np.bincount(parted, minlength=len(areas))
    return labels, areas


def _batches(shapes: np.ndarray, area: np.ndarray) -> list[np.ndarray]:
    """Shapes in groups that fill a sheet of bounded size each."""
    sheet = np.cumsum(area[shapes]) // _SHEET_PX
    return np.split(shapes, np.flatnonzero(np.diff(sheet)) + 1) if len(shapes) else []


def _laid_out(width: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Upper left corners of boxes on a sheet, in shelves, with a gap around each; and the sheet's height and width."""
    across = int(max(width.max() + 2 * GAP_PX, 1024))
    x, y = np.zeros(len(width), np.int64), np.zeros(len(width), np.int64)
    col, row, shelf = GAP_PX, GAP_PX, 0
    for box in np.argsort(-height, kind="stable").tolist():
        if col + width[box] + GAP_PX > across:
            col, row, shelf = GAP_PX, row + shelf + GAP_PX, 0
        x[box], y[box] = col, row
        col += int(width[box]) + GAP_PX
        shelf = max(shelf, int(height[box]))
    return x, y, (row + shelf + GAP_PX, across)


def _basins(
    strength: np.ndarray, pixels: np.ndarray, min_area_px: float, depth_px: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Basins of shapes with nothing at the border, and which of them are one part; see `part_touching`.

    `pixels` are the flat indices of all that is not 0, in row order.

    Returns:
        the basin of each pixel, the pixel of each basin's peak, and of each basin one that stands for its part.
    """
    width = strength.shape[1]
    land = _land(strength, strength > 0)
    peak_of = _climb(land, pixels)
    peaks = pixels[peak_of == pixels]
    number = np.full(strength.size, -1, np.int32)
    number[peaks] = np.arange(len(peaks))
    basin = number[peak_of]
    number[pixels] = basin
    height = land.reshape(-1)
    owner = list(range(len(peaks)))
    area = np.bincount(basin, minlength=len(peaks))
    edges = _saddles(height, number, pixels, width)
    _merge(owner, edges, height[peaks], area, depth_px * _STEPS_PER_PX, min_area_px)
    root = np.array(owner, np.int64)
    while not np.array_equal(further := root[root], root):
        root = further
    return basin, peaks, root


def _land(strength: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Distance to the edge in pixels times the smoothed probability, in whole steps, int32 (H, W)."""
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    probability = np.where(inside, (strength.astype(np.float32) - 1) / 254, np.float32(0))
    smooth = cv2.GaussianBlur(probability, (0, 0), SMOOTHING_PX, borderType=cv2.BORDER_CONSTANT)
    land: np.ndarray = np.rint(distance * smooth * _STEPS_PER_PX).astype(np.int32)
    return land


def _climb(land: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The peak that each pixel reaches by its steepest way up, as flat indices of the image."""
    # Unique heights, so that a plateau has one peak and no way runs in a circle.
    bits = land.size.bit_length()
    unique = np.full(land.shape, -1, np.int64)
    unique.reshape(-1)[pixels] = (land.reshape(-1)[pixels].astype(np.int64) << bits) | pixels
    highest = unique.copy()
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        np.maximum(highest[here], unique[there], out=highest[here])
        np.maximum(highest[there], unique[here], out=highest[there])
    upward = np.zeros(land.size, np.int64)
    upward[pixels] = reached = highest.reshape(-1)[pixels] & ((1 << bits) - 1)
    while True:
        higher: np.ndarray = upward[reached]
        if np.array_equal(higher, reached):
            return higher
        upward[pixels] = reached = higher


def _saddles(land: np.ndarray, number: np.ndarray, pixels: np.ndarray, width: int) -> np.ndarray:
    """Neighbouring basins with the height of the saddle between them, int (n, 3), the highest first."""
    count = int(number.max()) + 1
    pairs, heights = [], []
    for step in (1, width):
        a, b = number[pixels], number[pixels + step]
        meet = np.flatnonzero((b >= 0) & (a != b))
        a, b, here = a[meet].astype(np.int64), b[meet].astype(np.int64), pixels[meet]
        pairs.append(np.minimum(a, b) * count + np.maximum(a, b))
        heights.append(np.minimum(land[here], land[here + step]))
    pair, height = np.concatenate(pairs), np.concatenate(heights)
    order = np.lexsort((pair, -height))
    pair, height = pair[order], height[order]
    first = np.sort(np.unique(pair, return_index=True)[1])
    return np.stack([*np.divmod(pair[first], count), height[first]], axis=1)


def _merge(
    owner: list[int],
    edges: np.ndarray,
    height: np.ndarray,
    area: np.ndarray,
    depth: float,
    min_area_px: float,
) -> None:
    """Join basins whose lower peak is not `depth` above their saddle, then those that are too small."""
    heights, areas = height.tolist(), area.tolist()
    # peaks and areas only grow as basins are joined, so most edges need not be asked
    shallow = np.minimum(height[edges[:, 0]], height[edges[:, 1]]) - edges[:, 2] < depth
    for a, b, saddle in edges[shallow].tolist():
        a, b = root_of(owner, a), root_of(owner, b)
        if a != b and (heights[a] - saddle < depth or heights[b] - saddle < depth):
            _join(owner, a, b, heights, areas)
    joined = np.array([root_of(owner, each) for each in range(len(owner))], np.int64)
    small = np.array(areas)[joined] < min_area_px
    for a, b, _ in edges[small[edges[:, 0]] | small[edges[:, 1]]].tolist():
        a, b = root_of(owner, a), root_of(owner, b)
        if a != b and (areas[a] < min_area_px or areas[b] < min_area_px):
            _join(owner, a, b, heights, areas)


def _join(owner: list[int], a: int, b: int, height: list[int], area: list[int]) -> None:
    """The higher peak takes the lower one over."""
    kept, lost = (a, b) if (height[a], -a) >= (height[b], -b) else (b, a)
    owner[lost] = kept
    area[kept] += area[lost]


def root_of(owner: list[int], number: int) -> int:
    """The number that stands for all that were joined with this one; the way there becomes shorter."""
    while owner[number] != number:
        owner[number] = owner[owner[number]]
        number = owner[number]
    return number
