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

_FEW_POINTS = 7  # of a ring, the first one twice


def regularise(polygons: np.ndarray, *, tolerance: float) -> np.ndarray:
    """Fit building-like outlines to ones that were traced along pixel edges, each for itself.

    Args:
        polygons: valid traced outlines (n,), in units of square pixels; holes are fitted like outer walls.
        tolerance: how far an outline may move, in the same units.

    Returns:
        Valid polygons (n,).
    """
    fitted = _mended(_simplified(polygons, tolerance), polygons)
    angles = main_directions(fitted)
    solid = shapely.get_num_interior_rings(polygons) == 0
    rectangles, overlap = _upright_boxes(polygons, angles)
    done = solid & (overlap >= RECTANGLE_IOU)
    fitted[done] = rectangles[done]
    rest = np.flatnonzero(~done)
    squared = _right_angles(fitted[rest], angles[rest], tolerance)
    good = _overlaps(squared, polygons[rest], angles[rest], RIGHT_ANGLES_IOU)
    fitted[rest[good]] = squared[good]
    return fitted


def _simplified(polygons: np.ndarray, tolerance: float) -> np.ndarray:
    """As `shapely.simplify`, which looks at every step whether rings cross, in a tenth of its time where none does.

    It also keeps more of a ring that is nearly gone, so those with few corners are left to it. Of others about 3 in 1,000
    have a corner fewer than by it, which lies within the tolerance as well.
    """
    simple: np.ndarray = shapely.simplify(polygons, tolerance, preserve_topology=False)
    rings, owner = shapely.get_rings(simple, return_index=True)
    least = np.zeros(len(polygons), np.int64)  # points of a polygon's smallest ring; 0 of what is none
    least[owner] = _FEW_POINTS
    np.minimum.at(least, owner, shapely.get_num_coordinates(rings))
    holes = [shapely.get_num_interior_rings(some) for some in (simple, polygons)]
    sound = (least >= _FEW_POINTS) & (holes[0] == holes[1]) & shapely.is_valid(simple)
    sound &= shapely.get_type_id(simple) == shapely.GeometryType.POLYGON
    simple[sound] = _begun_alike(simple[sound], polygons[sound])
    simple[~sound] = shapely.simplify(polygons[~sound], tolerance)
    return simple


def _begun_alike(simple: np.ndarray, polygons: np.ndarray) -> np.ndarray:
    """Simplified polygons whose rings begin a corner earlier where they have lost the one that they began at."""
    rings, owner = shapely.get_rings(simple, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    begun = shapely.get_coordinates(shapely.get_point(shapely.get_rings(polygons), 0))
    first = np.searchsorted(ring, np.arange(len(rings)))
    last = np.append(first[1:], len(points)) - 1
    lost = (points[first] != begun).any(axis=1)
    order = np.arange(len(points)) - lost[ring]
    order[first[lost]] = last[lost] - 1  # the last point is the first one again
    begun_earlier: np.ndarray = shapely.polygons(
        shapely.linearrings(points[order], indices=ring), indices=owner
    )
    return begun_earlier


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
    swept = _swept(start, stop, left[owner], right[owner], bottom[owner], top[owner])
    area: np.ndarray = np.abs(np.bincount(owner, weights=swept, minlength=len(polygons)))
    return area


def _swept(
    start: np.ndarray,
    stop: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    bottom: np.ndarray,
    top: np.ndarray,
) -> np.ndarray:
    """Integral of clip(x - left, 0, right - left) dy between bottom and top, along edges (n, 2)."""
    y0, y1 = (np.clip(end[:, 1], bottom, top) for end in (start, stop))
    rise = stop[:, 1] - start[:, 1]
    slope = np.divide(stop[:, 0] - start[:, 0], rise, out=np.zeros(len(rise)), where=rise != 0)
    x0, x1 = (start[:, 0] + slope * (y - start[:, 1]) for y in (y0, y1))
    width = np.maximum(right - left, 0)
    x0, x1 = x0 - left, x1 - left

    def integral(x: np.ndarray) -> np.ndarray:  # of clip(x, 0, width)
        inside = np.clip(x, 0, width)
        value: np.ndarray = inside**2 / 2 + (x - inside) * inside
        return value

    mean = np.clip(x0, 0, width)
    np.divide(integral(x1) - integral(x0), x1 - x0, out=mean, where=np.abs(x1 - x0) > 1e-9)
    swept: np.ndarray = mean * (y1 - y0)
    return swept


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
    points, count = _corners(rings, tolerance)
    kept = count > 0
    squared = np.full(len(rings), None, dtype=object)
    if kept.any():
        index = np.repeat(np.arange(int(kept.sum())), count[kept])
        whole = shapely.polygons(shapely.linearrings(points, indices=index))
        squared[kept] = _mended(_rotate(whole, angles[owner[kept]]), None)
    result = np.full(len(polygons), None, dtype=object)
    result[owner[first]] = squared[first]
    for hole in np.flatnonzero(~first & (squared != None)):  # noqa: E711  elementwise
        if result[owner[hole]] is not None:
            result[owner[hole]] = result[owner[hole]].difference(squared[hole])
    return _mended(result, None)


def _corners(rings: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners of rings whose every edge runs along x or y through the middle of the edge that it replaces.

    Returns:
        the corners of all rings (n, 2), and how many of them each ring has: none where no four walls are left.
    """
    level, fixed, length, ring = _walls(rings)
    count = np.bincount(ring, minlength=len(rings))
    count[count < 4] = 0
    kept = count[ring] > 0
    level, fixed, length, ring = level[kept], fixed[kept], length[kept], ring[kept]
    before, after = _neighbours(ring)
    short = (count[ring] > 4) & (np.abs(fixed[before] - fixed[after]) <= tolerance)
    corners = np.where(
        level[:, None], np.stack([fixed[before], fixed], axis=1), np.stack([fixed, fixed[before]], axis=1)
    )
    stepped = np.unique(ring[short])
    if not len(stepped):
        return corners, count
    ends = np.cumsum(count)
    pieces = np.split(corners, ends[:-1])
    for each in stepped.tolist():
        some = slice(int(ends[each] - count[each]), int(ends[each]))
        walls = list(zip(level[some].tolist(), fixed[some].tolist(), length[some].tolist(), strict=True))
        walls = _drop_steps(walls, tolerance)
        if len(walls) < 4:
            walls = []
        pairs = zip([*walls[-1:], *walls[:-1]], walls, strict=True)
        found = [(one[1], other[1]) if other[0] else (other[1], one[1]) for one, other in pairs]
        pieces[each] = np.array(found, np.float64).reshape(-1, 2)
        count[each] = len(found)
    return np.concatenate(pieces), count


def _walls(rings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Edges of rings along x or y, those in a row along the same one joined, their places weighted by length.

    Returns:
        of each wall, ring by ring: whether it runs along x, so that y is what it fixes; that coordinate; its length; its
        ring.
    """
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    start, stop, ring = points[:-1][same], points[1:][same], ring[1:][same]
    steps, middle = stop - start, (start + stop) / 2
    length = np.hypot(steps[:, 0], steps[:, 1])
    level = np.abs(steps[:, 0]) >= np.abs(steps[:, 1])
    fixed = np.where(level, middle[:, 1], middle[:, 0])
    # each ring's walls from the first on that turns away from the one before it
    count = np.bincount(ring, minlength=len(rings))
    begins = (np.cumsum(count) - count)[ring]
    place = np.arange(len(ring)) - begins
    turning = np.flatnonzero(level != level[_neighbours(ring)[0]])
    first = np.zeros(len(rings), np.int64)
    first[ring[turning[::-1]]] = place[turning[::-1]]
    order = begins + (place + first[ring]) % count[ring]
    level, fixed, length = level[order], fixed[order], length[order]
    new = np.ones(len(ring), bool)
    new[1:] = (level[1:] != level[:-1]) | (ring[1:] != ring[:-1])
    wall = np.flatnonzero(new)
    joined = np.diff(np.append(wall, len(ring)))
    mean, whole = fixed[wall], length[wall]
    for step in range(1, int(joined.max(initial=0))):
        some = np.flatnonzero(joined > step)
        edge = wall[some] + step
        total = whole[some] + length[edge]
        sum_ = mean[some] * whole[some] + fixed[edge] * length[edge]
        mean[some] = np.divide(sum_, total, out=mean[some], where=total > 0)
        whole[some] = total
    return level[wall], mean, whole, ring[wall]


def _neighbours(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of things sorted by the ring that they are in: the index of the one before and of the one after, around it."""
    here = np.arange(len(ring))
    starts = np.diff(ring, prepend=-1) != 0
    begin, last = np.flatnonzero(starts), np.flatnonzero(np.roll(starts, -1))
    before, after = here - 1, here + 1
    before[begin], after[last] = last, begin
    return before, after


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


def _overlaps(shapes: np.ndarray, others: np.ndarray, angles: np.ndarray, least: float) -> np.ndarray:
    """Whether the intersection over union of each pair is at least `least`; not where one is no valid shape.

    Args:
        shapes: polygons (n,) whose walls run along and across `angles`, or None.
        others: any polygons (n,).
        angles: in radians (n,).
        least: more than 0.
    """
    areas = shapely.area(shapes), shapely.area(others)  # NaN of None, which is never enough
    smaller, larger = np.minimum(*areas), np.maximum(*areas)
    enough: np.ndarray = (
        smaller >= least * larger
    )  # what overlaps most is the smaller shape inside the larger
    enough &= shapely.is_valid(shapes) & shapely.is_valid(others)
    turned = (_rotate(some[enough], -angles[enough]) for some in (shapes, others))
    common = _common_area(*turned)
    union = (smaller + larger)[enough] - common
    enough[enough] = (union > 0) & (common >= least * union)
    return enough


def _common_area(walled: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area (n,) that each of some polygons with upright walls only shares with another polygon.

    What lies right of a wall, as high as it is, is counted for a left wall and taken off for a right one.
    """
    start, stop, shape = _edges(walled)
    upright = np.abs(stop - start)[:, 1] > np.abs(stop - start)[:, 0]
    start, stop, shape = start[upright], stop[upright], shape[upright]
    x, sign = (start[:, 0] + stop[:, 0]) / 2, np.sign(stop[:, 1] - start[:, 1])
    bottom, top = np.minimum(start[:, 1], stop[:, 1]), np.maximum(start[:, 1], stop[:, 1])
    begin, end, owner = _edges(others)
    count = np.bincount(owner, minlength=len(others))
    first = np.cumsum(count) - count
    wall = np.repeat(np.arange(len(x)), count[shape])  # every wall with every edge of the other polygon
    before = np.cumsum(count[shape]) - count[shape]
    edge = np.arange(len(wall)) - before[wall] + first[shape[wall]]
    low, high = begin[edge, 1], end[edge, 1]
    met = np.flatnonzero((np.minimum(low, high) < top[wall]) & (np.maximum(low, high) > bottom[wall]))
    wall, edge = wall[met], edge[met]
    met = np.flatnonzero(np.maximum(begin[edge, 0], end[edge, 0]) > x[wall])
    wall, edge = wall[met], edge[met]
    right = np.full(len(wall), np.inf)
    right_of = _swept(begin[edge], end[edge], x[wall], right, bottom[wall], top[wall])
    # both orientations are the same, counter-clockwise: a wall that goes down has its polygon on the right
    area: np.ndarray = np.bincount(shape[wall], weights=-sign[wall] * right_of, minlength=len(walled))
    return area


def _edges(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of polygons, outer rings counter-clockwise: where they begin and end (n, 2), and whose they are."""
    rings, polygon = shapely.get_rings(shapely.orient_polygons(polygons), return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    return points[:-1][same], points[1:][same], polygon[ring[1:][same]]


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
