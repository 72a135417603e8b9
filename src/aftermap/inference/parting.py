"""Parts houses that touch in a mask: a watershed on how deep inside a building, and how surely on one, a pixel lies."""

import cv2
import numpy as np

MAX_PARTED_PX = 4_000_000
"""A shape whose box is larger is no row of houses; it stays whole, so that it cannot fill the memory."""

SMOOTHING_PX = 1.5
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
    land = _land(np.pad(strength, 1), inside)
    pixels = np.flatnonzero(inside)  # of the padded image, in row order
    peak_of = _climb(land.ravel(), pixels, inside.shape[1])
    peaks, basin = np.unique(peak_of, return_inverse=True)
    owner = list(range(len(peaks)))
    if len(peaks) > 1:
        number = np.full(inside.size, -1, np.int64)
        number[pixels] = basin
        edges = _saddles(land.ravel(), number, pixels, inside.shape[1])
        height = land.ravel()[peaks].tolist()
        area = np.bincount(basin, minlength=len(peaks)).tolist()
        _merge(owner, edges, height, area, depth_px * _STEPS_PER_PX, min_area_px)
    roots = np.array([root_of(owner, k) for k in range(len(peaks))])
    parts = np.unique(roots, return_inverse=True)[1] + 1
    labels = np.zeros(inside.size, np.int32)
    labels[pixels] = parts[basin]
    parted: np.ndarray = labels.reshape(inside.shape)[1:-1, 1:-1].copy()
    return parted


def part_shapes(strength: np.ndarray, *, min_area_px: float, depth_px: float) -> np.ndarray:
    """Part every connected shape of a mask, each for itself; those in which no two parts fit stay whole.

    Args:
        strength: uint8 (H, W), 0 off buildings and 1 + 254 p(building) on them.
        min_area_px: smaller shapes are left out, and no part is smaller.
        depth_px: see `part_touching`.

    Returns:
        int32 (H, W), 0 off buildings and a number from 1 on for each.
    """
    mask = (strength != 0).astype(np.uint8)
    count, shapes, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    labels, found = np.zeros(strength.shape, np.int32), 0
    for shape in range(1, count):
        left, top, width, height, area = stats[shape].tolist()
        if area < min_area_px:
            continue
        place = slice(top, top + height), slice(left, left + width)
        own = shapes[place] == shape
        if area < 2 * min_area_px or width * height > MAX_PARTED_PX:
            labels[place][own] = found = found + 1
            continue
        alone = np.where(own, strength[place], 0)
        parts = part_touching(alone, min_area_px=min_area_px, depth_px=depth_px)
        labels[place][own] = parts[own] + found
        found += int(parts.max())
    return labels


def _land(strength: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Distance to the edge in pixels times the smoothed probability, in whole steps, int64 (H, W)."""
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    probability = np.where(inside, (strength.astype(np.float32) - 1) / 254, np.float32(0))
    smooth = cv2.GaussianBlur(probability, (0, 0), SMOOTHING_PX, borderType=cv2.BORDER_CONSTANT)
    land: np.ndarray = np.rint(distance * smooth * _STEPS_PER_PX).astype(np.int64)
    return land


def _climb(land: np.ndarray, pixels: np.ndarray, width: int) -> np.ndarray:
    """The peak that each pixel reaches by its steepest way up, as an index of the padded image."""
    size = land.size
    # Unique heights, so that a plateau has one peak and no way runs in a circle.
    unique = np.full(size, -1, np.int64)
    unique[pixels] = land[pixels] * size + pixels
    around = pixels[:, None] + np.array([0, -width, width, -1, 1])
    upward = np.arange(size)
    upward[pixels] = np.take_along_axis(around, unique[around].argmax(axis=1)[:, None], axis=1)[:, 0]
    reached = upward[pixels]
    while True:
        higher: np.ndarray = upward[reached]
        if np.array_equal(higher, reached):
            return higher
        upward[pixels] = higher
        reached = higher


def _saddles(
    land: np.ndarray, number: np.ndarray, pixels: np.ndarray, width: int
) -> list[tuple[int, int, int]]:
    """Neighbouring basins with the height of the saddle between them, the highest first."""
    count = int(number.max()) + 1
    pairs, heights = [], []
    for step in (1, width):
        a, b = number[pixels], number[pixels + step]
        meet = (b >= 0) & (a != b)
        low, high = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
        pairs.append(low * count + high)
        heights.append(np.minimum(land[pixels], land[pixels + step])[meet])
    pair, height = np.concatenate(pairs), np.concatenate(heights)
    order = np.lexsort((pair, -height))
    pair, height = pair[order], height[order]
    first = np.sort(np.unique(pair, return_index=True)[1])
    low, high = np.divmod(pair[first], count)
    return list(zip(low.tolist(), high.tolist(), height[first].tolist(), strict=True))


def _merge(
    owner: list[int],
    edges: list[tuple[int, int, int]],
    height: list[int],
    area: list[int],
    depth: float,
    min_area_px: float,
) -> None:
    """Join basins whose lower peak is not `depth` above their saddle, then those that are too small."""
    for a, b, saddle in edges:
        a, b = root_of(owner, a), root_of(owner, b)
        if a != b and min(height[a], height[b]) - saddle < depth:
            _join(owner, a, b, height, area)
    for a, b, _ in edges:
        a, b = root_of(owner, a), root_of(owner, b)
        if a != b and min(area[a], area[b]) < min_area_px:
            _join(owner, a, b, height, area)


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
