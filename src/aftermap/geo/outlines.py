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


def regularise(polygons: np.ndarray, *, tolerance: float) -> np.ndarray:
    """Fit building-like outlines to ones that were traced along pixel edges, each for itself.

    Args:
        polygons: valid traced outlines (n,), in units of square pixels; holes are fitted like outer walls.
        tolerance: how far an outline may move, in the same units.

    Returns:
        Valid polygons (n,).
    """
    fitted = _mended(shapely.simplify(polygons, tolerance), polygons)
    angles = main_directions(fitted)
    solid = shapely.get_num_interior_rings(polygons) == 0
    rectangles, overlap = _upright_boxes(polygons, angles)
    done = solid & (overlap >= RECTANGLE_IOU)
    fitted[done] = rectangles[done]
    rest = np.flatnonzero(~done)
    squared = _right_angles(fitted[rest], angles[rest], tolerance)
    good = _overlaps(squared, polygons[rest], RIGHT_ANGLES_IOU)
    fitted[rest[good]] = squared[good]
    return fitted


def main_directions(polygons: np.ndarray) -> np.ndarray:
    """Direction of each building's walls in radians, 0 to pi/2: the mean of its edges', modulo a right angle.

    Edges weigh by the square of their length, so that long walls outvote the steps of the pixel grid.
    """
    points, owner = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    steps = np.diff(points, axis=0)[owner[1:] == owner[:-1]]
    owner = owner[1:][owner[1:] == owner[:-1]]
    fourfold = (steps**2).sum(axis=1) * np.exp(4j * np.arctan2(steps[:, 1], steps[:, 0]))
    total = np.zeros(len(polygons), complex)
    np.add.at(total, owner, fourfold)
    directions: np.ndarray = np.angle(total) / 4 % (math.pi / 2)
    return directions


def _upright_boxes(polygons: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles along `angles` around the polygons, shrunk about their centres to the polygons' areas.

    Returns:
        The rectangles (n,), and their intersection over union with the polygons.
    """
    turned = _rotate(polygons, -angles)
    left, bottom, right, top = shapely.bounds(turned).reshape(-1, 4).T
    width, height, area = right - left, top - bottom, shapely.area(turned)
    # Steps of the pixel grid stick out of a slanted wall; the box through them would be too large all around.
    margin = _shrinkage(width, height, area)
    left, bottom, right, top = left + margin, bottom + margin, right - margin, top - margin
    common = _area_inside(turned, left, bottom, right, top)
    union = area + np.maximum(right - left, 0) * np.maximum(top - bottom, 0) - common
    boxes = _rotate(shapely.box(left, bottom, right, top), angles)
    return boxes, np.divide(common, union, out=np.zeros(len(polygons)), where=union > 0)


def _area_inside(
    polygons: np.ndarray, left: np.ndarray, bottom: np.ndarray, right: np.ndarray, top: np.ndarray
) -> np.ndarray:
    """Area of each polygon's outer ring within its upright box, by Green's theorem.

    The area is the integral of clip(x, left, right) dy along the part of the ring that runs between bottom and top.
    """
    points, owner = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    same = owner[1:] == owner[:-1]
    start, stop, owner = points[:-1][same], points[1:][same], owner[1:][same]
    y0, y1 = (np.clip(end[:, 1], bottom[owner], top[owner]) for end in (start, stop))
    rise = stop[:, 1] - start[:, 1]
    slope = np.divide(stop[:, 0] - start[:, 0], rise, out=np.zeros(len(rise)), where=rise != 0)
    x0, x1 = (start[:, 0] + slope * (y - start[:, 1]) for y in (y0, y1))
    width = np.maximum(right - left, 0)[owner]
    x0, x1 = x0 - left[owner], x1 - left[owner]

    def integral(x: np.ndarray) -> np.ndarray:  # of clip(x, 0, width)
        inside = np.clip(x, 0, width)
        value: np.ndarray = inside**2 / 2 + (x - inside) * inside
        return value

    mean = np.clip(x0, 0, width)
    np.divide(integral(x1) - integral(x0), x1 - x0, out=mean, where=np.abs(x1 - x0) > 1e-9)
    signed = np.bincount(owner, weights=mean * (y1 - y0), minlength=len(polygons))
    area: np.ndarray = np.abs(signed)
    return area


def _shrinkage(width: np.ndarray, height: np.ndarray, area: np.ndarray) -> np.ndarray:
    """The margin m with (width - 2 m) (height - 2 m) = area, at most one pixel."""
    half = (width + height) / 2
    root = half * half - (width * height - area)
    margin: np.ndarray = np.clip((half - np.sqrt(np.maximum(root, 0))) / 2, 0, 1)
    return margin


def _right_angles(polygons: np.ndarray, angles: np.ndarray, tolerance: float) -> np.ndarray:
    """Polygons with every edge replaced by one along the nearer of the two main directions; None where none is left."""
    turned = _rotate(polygons, -angles)
    rings, owner = shapely.get_rings(turned, return_index=True)
    first = np.diff(owner, prepend=-1) > 0  # a polygon's outer ring comes before its holes
    corners = [_walls(shapely.get_coordinates(ring)[:-1], tolerance) for ring in rings]
    kept = np.array([len(found) > 0 for found in corners], bool)
    squared = np.full(len(rings), None, dtype=object)
    if kept.any():
        index = np.repeat(np.arange(int(kept.sum())), [len(found) for found in corners if found])
        points = np.concatenate([found for found in corners if found])
        whole = shapely.polygons(shapely.linearrings(points, indices=index))
        squared[kept] = _mended(_rotate(whole, angles[owner[kept]]), None)
    result = np.full(len(polygons), None, dtype=object)
    result[owner[first]] = squared[first]
    for hole in np.flatnonzero(~first & (squared != None)):  # noqa: E711  elementwise
        if result[owner[hole]] is not None:
            result[owner[hole]] = result[owner[hole]].difference(squared[hole])
    return _mended(result, None)


def _walls(points: np.ndarray, tolerance: float) -> list[tuple[float, float]]:
    """Corners of a ring whose every edge runs along x or y through the middle of the edge that it replaces."""
    if len(points) < 4:
        return []
    following = np.roll(points, -1, axis=0)
    steps, middle = following - points, (points + following) / 2
    length = np.hypot(steps[:, 0], steps[:, 1])
    level = np.abs(steps[:, 0]) >= np.abs(steps[:, 1])  # along x, so that y is what it fixes
    fixed = np.where(level, middle[:, 1], middle[:, 0])
    start = int(np.argmax(level != np.roll(level, 1)))
    edges = list(zip(level.tolist(), fixed.tolist(), length.tolist(), strict=True))
    walls: list[tuple[bool, float, float]] = []  # (level, fixed coordinate, length)
    for wall in edges[start:] + edges[:start]:
        _join(walls, wall)
    walls = _drop_steps(walls, tolerance)
    if len(walls) < 4:
        return []
    pairs = zip([walls[-1], *walls[:-1]], walls, strict=True)
    return [(before[1], after[1]) if after[0] else (after[1], before[1]) for before, after in pairs]


def _join(walls: list[tuple[bool, float, float]], wall: tuple[bool, float, float]) -> None:
    """Append a wall; two in a row along the same direction become one, weighted by length."""
    if not walls or walls[-1][0] != wall[0]:
        walls.append(wall)
        return
    level, fixed, length = walls[-1]
    total = length + wall[2]
    mean = (fixed * length + wall[1] * wall[2]) / total if total else fixed
    walls[-1] = (level, mean, total)


def _drop_steps(walls: list[tuple[bool, float, float]], tolerance: float) -> list[tuple[bool, float, float]]:
    """Merge parallel walls that lie within `tolerance` of each other across a short step between them."""
    while len(walls) > 4:
        offsets = [abs(walls[k - 1][1] - walls[(k + 1) % len(walls)][1]) for k in range(len(walls))]
        smallest = min(offsets)
        if smallest > tolerance:
            break
        k = offsets.index(smallest)
        # the step first: its neighbours are last and second
        _, after, *others, before = walls[k:] + walls[:k]
        walls = [*others, before]
        _join(walls, after)
    if len(walls) > 1 and walls[0][0] == walls[-1][0]:
        closing = [walls[-1]]
        _join(closing, walls[0])
        walls = [*closing, *walls[1:-1]]
    return walls


def _rotate(polygons: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Each polygon turned about the origin by its angle."""
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    cosine, sine = np.cos(angles)[owner], np.sin(angles)[owner]
    x, y = points.T
    turned: np.ndarray = shapely.set_coordinates(
        polygons.copy(), np.column_stack([x * cosine - y * sine, x * sine + y * cosine])
    )
    return turned


def _overlaps(shapes: np.ndarray, others: np.ndarray, least: float) -> np.ndarray:
    """Whether the intersection over union of each pair is at least `least`; not where one is no valid shape."""
    areas = shapely.area(shapes), shapely.area(others)  # NaN of None, which is never enough
    smaller, larger = np.minimum(*areas), np.maximum(*areas)
    enough: np.ndarray = (
        smaller >= least * larger
    )  # what overlaps most is the smaller shape inside the larger
    enough &= shapely.is_valid(shapes) & shapely.is_valid(others)
    common = shapely.area(shapely.intersection(shapes[enough], others[enough]))
    union = (smaller + larger)[enough] - common
    enough[enough] = (union > 0) & (common >= least * union)
    return enough


def _mended(shapes: np.ndarray, otherwise: np.ndarray | None) -> np.ndarray:
    """The largest polygon of each shape, mended if need be; what stands in `otherwise` where there is none."""
    sound = (shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON) & shapely.is_valid(shapes)
    mended = shapes.copy()
    for i in np.flatnonzero(~(sound & (shapely.area(shapes) > 0))):
        mended[i] = _largest(shapes[i], None if otherwise is None else otherwise[i])
    return mended


def _largest(shape: BaseGeometry | None, otherwise: Polygon | None) -> Polygon | None:
    if shape is None:
        return otherwise
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    parts = [p for q in shapely.get_parts(shape) for p in shapely.get_parts(q) if isinstance(p, Polygon)]
    parts = [part for part in parts if part.area > 0]
    return max(parts, key=lambda part: part.area) if parts else otherwise
