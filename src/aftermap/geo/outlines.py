"""Outlines that look like buildings: straight walls and right angles, where the traced shape bears them out.

Three fits are tried, the simplest first: the smallest rotated rectangle, walls along the building's two main
directions, and plain simplification. A fit counts only while it overlaps the traced shape well enough.
"""

import math

import numpy as np
import shapely
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

RECTANGLE_IOU = 0.85
RIGHT_ANGLES_IOU = 0.85
"""Overlaps (intersection over union) with the traced outline from which on a fit is believed."""


def regularise(polygon: Polygon, *, tolerance: float) -> Polygon:
    """Fit a building-like outline to one that was traced along pixel edges.

    Args:
        polygon: traced outline, in units of square pixels; its holes are fitted like its outer wall.
        tolerance: how far an outline may move, in the same units.

    Returns:
        A valid polygon.
    """
    plain = _largest(polygon.simplify(tolerance), polygon)
    angle = main_direction(plain)
    if not polygon.interiors:
        rectangle = _upright_box(polygon, angle)
        if _iou(rectangle, polygon) >= RECTANGLE_IOU:
            return rectangle
    rings = [_right_angles(ring, angle, tolerance) for ring in (plain.exterior, *plain.interiors)]
    if rings[0] is not None:
        fitted: BaseGeometry = rings[0]
        for hole in rings[1:]:
            fitted = fitted.difference(hole) if hole is not None else fitted
        candidate = _largest(fitted, None)
        if candidate is not None and _iou(candidate, polygon) >= RIGHT_ANGLES_IOU:
            return candidate
    return plain


def main_direction(polygon: Polygon) -> float:
    """Direction of a building's walls in radians, 0 to pi/2: the mean of its edges' directions, modulo a right angle.

    Edges weigh by the square of their length, so that long walls outvote the steps of the pixel grid.
    """
    steps = np.diff(np.asarray(polygon.exterior.coords), axis=0)
    length = np.hypot(steps[:, 0], steps[:, 1])
    fourfold = np.sum(length**2 * np.exp(4j * np.arctan2(steps[:, 1], steps[:, 0])))
    return float(np.angle(fourfold) / 4 % (math.pi / 2))


def _upright_box(polygon: Polygon, angle: float) -> Polygon:
    """A rectangle along `angle` around the polygon, shrunk about its centre to the polygon's area."""
    turned = _rotate(polygon, -angle)
    left, bottom, right, top = turned.bounds
    width, height = right - left, top - bottom
    # Steps of the pixel grid stick out of a slanted wall; the box through them would be too large all around.
    margin = _shrinkage(width, height, turned.area)
    box = shapely.box(left + margin, bottom + margin, right - margin, top - margin)
    return _largest(_rotate(box, angle), polygon)


def _shrinkage(width: float, height: float, area: float) -> float:
    """The margin m with (width - 2 m) (height - 2 m) = area, at most one pixel."""
    half = (width + height) / 2
    root = half * half - (width * height - area)
    return min(max(0.0, (half - math.sqrt(max(root, 0.0))) / 2), 1.0)


def _right_angles(ring: shapely.LinearRing, angle: float, tolerance: float) -> Polygon | None:
    """Replace every edge by one along the nearer of the two main directions, through its middle."""
    points = np.asarray(_rotate(Polygon(ring), -angle).exterior.coords)[:-1]
    if len(points) < 4:
        return None
    steps = np.roll(points, -1, axis=0) - points
    middle = (points + np.roll(points, -1, axis=0)) / 2
    length = np.hypot(steps[:, 0], steps[:, 1])
    level = np.abs(steps[:, 0]) >= np.abs(steps[:, 1])  # along x, so that y is what it fixes
    fixed = np.where(level, middle[:, 1], middle[:, 0])
    walls: list[tuple[bool, float, float]] = []  # (level, fixed coordinate, length)
    start = int(np.argmax(level != np.roll(level, 1)))
    for k in (np.arange(len(points)) + start) % len(points):
        wall = (bool(level[k]), float(fixed[k]), float(length[k]))
        walls = _join(walls, wall)
    walls = _drop_steps(walls, tolerance)
    if len(walls) < 4:
        return None
    corners = []
    for before, after in zip([walls[-1], *walls[:-1]], walls, strict=True):
        x, y = (before[1], after[1]) if after[0] else (after[1], before[1])
        corners.append((x, y))
    return _largest(_rotate(Polygon(corners), angle), None)


def _join(
    walls: list[tuple[bool, float, float]], wall: tuple[bool, float, float]
) -> list[tuple[bool, float, float]]:
    """Append a wall; two in a row along the same direction become one, weighted by length."""
    if walls and walls[-1][0] == wall[0]:
        level, fixed, length = walls[-1]
        total = length + wall[2]
        mean = (fixed * length + wall[1] * wall[2]) / total if total else fixed
        return [*walls[:-1], (level, mean, total)]
    return [*walls, wall]


def _drop_steps(walls: list[tuple[bool, float, float]], tolerance: float) -> list[tuple[bool, float, float]]:
    """Merge parallel walls that lie within `tolerance` of each other across a short step between them."""
    while len(walls) > 4:
        offsets = [abs(walls[k - 1][1] - walls[(k + 1) % len(walls)][1]) for k in range(len(walls))]
        k = int(np.argmin(offsets))
        if offsets[k] > tolerance:
            break
        rotated = walls[k:] + walls[:k]  # the step first: its neighbours are last and second
        step, after, *others, before = rotated
        del step
        walls = [*others, *_join([before], after)]
    if len(walls) > 1 and walls[0][0] == walls[-1][0]:
        walls = [*_join([walls[-1]], walls[0]), *walls[1:-1]]
    return walls


def _rotate(polygon: Polygon, angle: float) -> Polygon:
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return shapely.transform(polygon, lambda xy: xy @ turn)


def _iou(a: BaseGeometry, b: BaseGeometry) -> float:
    if not a.is_valid or not b.is_valid:
        return 0.0
    union = a.union(b).area
    return float(a.intersection(b).area / union) if union else 0.0


def _largest(shape: BaseGeometry, otherwise: Polygon | None) -> Polygon:
    """The largest polygon of a shape, mended if need be."""
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    parts = [p for q in shapely.get_parts(shape) for p in shapely.get_parts(q) if isinstance(p, Polygon)]
    parts = [part for part in parts if part.area > 0]
    return max(parts, key=lambda part: part.area) if parts else otherwise
