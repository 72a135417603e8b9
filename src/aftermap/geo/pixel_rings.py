"""Outlines of labelled pixels along the pixels' edges, all at once: those of GDAL, without a Python object a vertex."""

from dataclasses import dataclass

import numpy as np

_START = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])
"""Column and row where edges begin, from the upper left corner of their pixel: they go down its left side, to the right
along the lower one, up the right one and to the left along the upper one."""


@dataclass(frozen=True)
class Rings:
    """Closed rings of labelled pixels.

    Attributes:
        points: float64 (n, 2), column and row of the corners; the first of each ring comes again at its end.
        ring: int (n,), the ring of each point.
        label: int (rings,), whose ring it is; rings are in the order of labels, and the outer one of a label comes first.
        area: (rings,) pixels inside; negative of holes.
    """

    points: np.ndarray
    ring: np.ndarray
    label: np.ndarray
    area: np.ndarray


def trace_rings(labels: np.ndarray) -> Rings:
    """The rings of all labels, each of which is 4-connected.

    Outer rings begin at their upper left corner and go down first, holes at theirs and go right first. Where two pixels
    of a label touch in a corner only, rings meet there and none passes through itself.

    Args:
        labels: int (H, W), 0 off what is traced.
    """
    pixel, side, following = _edges(np.pad(labels, 1))
    width = labels.shape[1] + 2
    row, col = np.divmod(pixel, width)
    corner = np.stack([col - 1, row - 1], axis=1) + _START[side]  # where an edge begins
    first, place = _ordered(following, (corner[:, 1] * width + corner[:, 0]) * 4 + side)
    turning = side[following] != side
    after = following[turning]  # edges that begin at a corner of their ring
    order = np.lexsort((place[after], first[after]))
    edge = after[order]
    owner = labels.reshape(-1)[(row[edge] - 1) * labels.shape[1] + col[edge] - 1]
    begins = np.flatnonzero(np.diff(first[edge], prepend=-1) != 0)
    ends = np.append(begins[1:], len(edge))
    points = corner[edge]
    beyond = np.insert(np.arange(len(edge)), ends, begins)  # each ring's first point once more
    points, ring = points[beyond], np.repeat(np.arange(len(begins)), ends - begins + 1)
    x, y = points.T
    steps = x[:-1] * np.diff(y)
    steps[ends[:-1] + np.arange(len(begins) - 1)] = 0  # from ring to ring
    area = -np.bincount(ring[:-1], weights=steps, minlength=len(begins))
    start = points[begins + np.arange(len(begins))]
    label = owner[begins]
    rank = np.lexsort((start[:, 0], start[:, 1], area < 0, label))
    number = np.empty(len(rank), np.int64)
    number[rank] = np.arange(len(rank))
    sorted_ = np.argsort(number[ring], kind="stable")
    return Rings(points[sorted_].astype(np.float64), number[ring][sorted_], label[rank], area[rank])


def _edges(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All edges around labels (H, W) with 0 at the border: their pixel (flat), their side, and which one follows each."""
    width = labels.shape[1]
    flat = labels.reshape(-1)
    step = np.array([-1, width, 1, -width])  # to the pixel beyond a left, lower, right and upper edge
    across = np.flatnonzero(flat[1:] != flat[:-1])
    down = np.flatnonzero(flat[width:] != flat[:-width])
    pixels = [across + 1, down, across, down + width]
    pixels = [some[flat[some] != 0] for some in pixels]
    pixel, side = np.concatenate(pixels), np.repeat(np.arange(4), [len(some) for some in pixels])
    label = flat[pixel]
    ahead = pixel + step[(side + 1) % 4]  # the pixel that the edge goes on along, if it is of the same label
    right = ahead + step[side]  # the one that it turns around
    turns = flat[right] == label
    goes_on = ~turns & (flat[ahead] == label)
    next_pixel = np.where(turns, right, np.where(goes_on, ahead, pixel))
    next_side = np.where(turns, (side - 1) % 4, np.where(goes_on, side, (side + 1) % 4))
    starts = np.cumsum([0, *(len(some) for some in pixels)])
    following = np.empty(len(pixel), np.int64)
    for each in range(4):
        chosen = next_side == each
        following[chosen] = starts[each] + np.searchsorted(pixels[each], next_pixel[chosen])
    return pixel, side, following


def _ordered(following: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For rings of edges: the smallest key of the ring of each, and numbers that rise from the edge with that key on."""
    first, reached = key.copy(), following
    while True:
        other = first[reached]
        if (other >= first).all():
            break
        np.minimum(first, other, out=first)
        reached = reached[reached]
    # counted backwards: how many steps lead from each edge on to its ring's first
    at_first = key == first
    steps = np.where(at_first, 0, 1)
    reached = np.where(at_first, np.arange(len(key)), following)
    while True:
        more = steps[reached]
        if not more.any():
            break
        steps += more
        reached = reached[reached]
    return first, np.where(at_first, -len(key), -steps)
