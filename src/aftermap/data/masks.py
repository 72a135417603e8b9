"""Masks from polygons, drawn exactly as the published xView2 systems draw them.

Ring coordinates are rounded half to even and filled with OpenCV, so that boundary pixels belong to the polygon,
a hole also erases its own boundary, and a polygon smaller than a pixel still paints one.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import cv2
import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from aftermap.classes import DAMAGE, IGNORE

Unclassified = Literal["no-damage", "ignore", "drop"]
"""What an `un-classified` building becomes: class 1 as in the published systems, IGNORE, or background."""

UNCLASSIFIED = "un-classified"
DAMAGE_NAMES = DAMAGE.names[1:]
SUBTYPES = (*DAMAGE_NAMES, UNCLASSIFIED)
"""Values of `subtype` in xBD labels."""


_FAR = 32_768.0


def subtype_index(subtype: str, *, unclassified: Unclassified = "no-damage") -> int | None:
    """Mask value of an xBD `subtype`; None where the polygon is not to be drawn.

    Raises:
        ValueError: the subtype is none of xBD's.
    """
    if unclassified not in get_args(Unclassified):
        raise ValueError(
            f"unclassified is {unclassified!r}, expected one of {', '.join(get_args(Unclassified))}"
        )
    if subtype == UNCLASSIFIED:
        return {"no-damage": 1, "ignore": IGNORE, "drop": None}[unclassified]
    if subtype not in DAMAGE_NAMES:
        raise ValueError(f"subtype {subtype!r}, expected one of {', '.join(SUBTYPES)}")
    return DAMAGE.index(subtype)


def draw_building_mask(polygons: Sequence[Polygon | MultiPolygon], *, height: int, width: int) -> np.ndarray:
    """Union of polygons as uint8 (H, W): 1 on buildings, 0 elsewhere.

    Args:
        polygons: in pixel coordinates, x = column, y = row.
        height: rows of the mask.
        width: columns of the mask.

    Source: xView2 first place, `create_masks.py`, which writes 255 where this writes 1.
    """
    mask = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        paint(mask, polygon, 1)
    return mask


def draw_damage_mask(
    polygons: Sequence[Polygon | MultiPolygon], values: Sequence[int | None], *, height: int, width: int
) -> np.ndarray:
    """Class mask uint8 (H, W): later polygons overwrite earlier ones; those with value None are left out.

    Args:
        polygons: in pixel coordinates, in file order.
        values: one mask value per polygon, as `subtype_index` gives it.
        height: rows of the mask.
        width: columns of the mask.

    Source: xView2 first place, `create_masks.py`.
    """
    mask = np.zeros((height, width), np.uint8)
    for polygon, value in zip(polygons, values, strict=True):
        if value is not None:
            paint(mask, polygon, value)
    return mask


def paint(mask: np.ndarray, polygon: Polygon | MultiPolygon, value: int) -> None:
    """Write `value` into `mask` (H, W) on the pixels of `polygon` (pixel coordinates).

    Raises:
        ValueError: coordinates that are not finite.
    """
    for part in polygon.geoms if isinstance(polygon, MultiPolygon) else (polygon,):
        if not part.is_empty:
            _paint_part(mask, part, value)


def _paint_part(mask: np.ndarray, polygon: Polygon, value: int) -> None:
    points, ring = shapely.get_coordinates(shapely.get_rings(polygon), return_index=True)
    rings = _rounded(points, ring)
    exterior, *holes = rings
    height, width = mask.shape
    left, top, across, down = cv2.boundingRect(exterior)
    if left + across <= 0 or top + down <= 0 or left >= width or top >= height:
        return
    if not holes:
        # OpenCV's own clipping beyond the frame; the same drawing as on a small canvas
        cv2.fillPoly(mask, rings, value)
        return
    points = np.concatenate(rings)
    low, high = points.min(0), points.max(0)
    inside = bool((low >= 0).all()) and high[0] < width and high[1] < height
    # A small canvas gives the same drawing.
    origin = low if inside else np.zeros(2, np.int32)
    size = (high - low + 1)[::-1] if inside else mask.shape
    canvas = np.zeros(tuple(size), np.uint8)
    cv2.fillPoly(canvas, [exterior - origin], 1)
    cv2.fillPoly(canvas, [hole - origin for hole in holes], 0)
    view = mask[origin[1] : origin[1] + canvas.shape[0], origin[0] : origin[0] + canvas.shape[1]]
    view[canvas > 0] = value


def _rounded(points: np.ndarray, ring: np.ndarray) -> list[np.ndarray]:
    """Points (n, 2) of rings in whole numbers, ring by ring, int32."""
    points = np.round(points)
    largest = np.abs(points).max()
    if not np.isfinite(largest):
        raise ValueError("a polygon has coordinates that are not finite")
    rings = np.split(points, np.flatnonzero(np.diff(ring)) + 1) if ring[-1] else [points]
    if largest > _FAR:
        rings = [np.round(_near(each)) if np.abs(each).max() > _FAR else each for each in rings]
    return [each.astype(np.int32) for each in rings]


def _near(ring: np.ndarray) -> np.ndarray:
    """What of a ring (N, 2) lies within `_FAR`, so that OpenCV, which walks every row, is soon done.

    Source: Sutherland and Hodgman 1974.
    """
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        depth = _FAR - sign * ring[:, axis]
        following, deeper = np.roll(ring, -1, axis=0), np.roll(depth, -1)
        crosses = (depth < 0) != (deeper < 0)
        share = np.divide(depth, depth - deeper, out=np.zeros(len(ring)), where=crosses)
        crossing = ring + share[:, None] * (following - ring)
        both = np.stack([ring, crossing], axis=1).reshape(-1, 2)
        ring = both[np.stack([depth >= 0, crosses], axis=1).ravel()]
    return ring if len(ring) else np.full((1, 2), -_FAR)
