"""Which building a point or polygon means: inside the outline, else the nearest one close by; polygons by overlap.

Points. One inside an outline means that building (inside several, the smallest of them); a building may hold several.
Those inside none are given one to one to buildings within reach that no point lies in: as many as there can be, and of
these the assignment with the least sum of distances (see `assignment`; of points that are alike the earlier one).

Polygons. Of all pairs whose intersection over union is large enough the largest first, each polygon and each building
once. A polygon that is left over and lies to half or more in a building means it too (a traced block of houses), and a
building that is left over and lies to half or more in a polygon is meant by it (one polygon around several houses).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely

from aftermap.geo.grid import Grid
from aftermap.geo.polygons import to_pixels
from aftermap.workflows.comparing.assignment import assign

Several = Literal["worst", "most"]

_HALF = 0.5


@dataclass(frozen=True)
class Pairs:
    """Marks and the buildings that they mean; of either one may occur several times.

    Attributes:
        marks: (p,) rows of marks.
        buildings: (p,) rows of buildings.
        how: (p,) `inside`, `near` or `overlap`.
        distances: (p,) metres from the outline, 0 inside it.
    """

    marks: np.ndarray
    buildings: np.ndarray
    how: np.ndarray
    distances: np.ndarray


def on_the_ground(shapes: np.ndarray, grid: Grid) -> np.ndarray:
    """Shapes in metres from the grid's upper left corner; in pixels where the grid has no place."""
    across, down = grid.pixel_size_m or (1.0, 1.0)
    flat: np.ndarray = shapely.transform(to_pixels(shapes, grid), lambda xy: xy * (across, down))
    return flat


def match(marks: np.ndarray, buildings: np.ndarray, *, within: float, iou: float) -> Pairs:
    """Find which buildings are meant; see the module.

    Args:
        marks: (n,) points and polygons in metres.
        buildings: (m,) outlines, likewise.
        within: how far a point may lie from its building, metres.
        iou: least intersection over union of a polygon and its building.
    """
    tree = shapely.STRtree(buildings)
    is_point = shapely.get_type_id(marks) == 0
    points = _points(np.flatnonzero(is_point), marks, buildings, tree, within)
    polygons = _polygons(np.flatnonzero(~is_point), marks, buildings, tree, iou)
    pairs = sorted([*points, *polygons])
    table = np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2)
    return Pairs(
        table[:, 0],
        table[:, 1],
        np.array([pair[2] for pair in pairs], dtype=object),
        np.array([pair[3] for pair in pairs], float),
    )


def choose(rows: list[int], severity: list[tuple[int, int]], grades: np.ndarray, several: Several) -> int:
    """Which of several marks on one building counts: the worst, or of the most frequent grade; a tie goes to the worse.

    Args:
        rows: of the marks.
        severity: of every mark, see `grades.severity`.
        grades: of every mark.
        several: the rule. Marks that claim nothing count only where there is no other.
    """
    claiming = [row for row in rows if severity[row] != (-1, -1)] or rows
    if several == "most":
        counts: dict[str, int] = {}
        for row in claiming:
            counts[grades[row]] = counts.get(grades[row], 0) + 1
        most = max(counts.values())
        claiming = [row for row in claiming if counts[grades[row]] == most]
    return max(claiming, key=lambda row: (severity[row], -row))


_Pair = tuple[int, int, str, float]


def _points(
    rows: np.ndarray, marks: np.ndarray, buildings: np.ndarray, tree: shapely.STRtree, within: float
) -> list[_Pair]:
    inside, holding = tree.query(marks[rows], predicate="intersects")
    area = shapely.area(buildings)
    smallest: dict[int, int] = {}
    for point, building in zip(rows[inside].tolist(), holding.tolist(), strict=True):
        if point not in smallest or (area[building], building) < (area[smallest[point]], smallest[point]):
            smallest[point] = building
    pairs: list[_Pair] = [(point, building, "inside", 0.0) for point, building in smallest.items()]
    held = set(smallest.values())
    others = np.array([row for row in rows.tolist() if row not in smallest], np.int64)
    if within > 0 and len(others):
        close, around = tree.query(marks[others], predicate="dwithin", distance=within)
        found = others[close]
        distances = shapely.distance(marks[found], buildings[around])
        free = ~np.isin(around, list(held))
        found, around, distances = found[free], around[free], distances[free]
        order = np.lexsort((around, found))
        for at in order[assign(found[order], around[order], distances[order])].tolist():
            pairs.append((int(found[at]), int(around[at]), "near", float(distances[at])))
    return pairs


def _polygons(
    rows: np.ndarray, marks: np.ndarray, buildings: np.ndarray, tree: shapely.STRtree, iou: float
) -> list[_Pair]:
    which, building = tree.query(marks[rows], predicate="intersects")
    mark = rows[which]
    common = shapely.area(shapely.intersection(marks[mark], buildings[building]))
    of_mark, of_building = shapely.area(marks[mark]), shapely.area(buildings[building])
    over_union = common / (of_mark + of_building - common)
    pairs: dict[tuple[int, int], _Pair] = {}
    used_marks: set[int] = set()
    used: set[int] = set()
    for at in np.lexsort((building, mark, -over_union)).tolist():
        m, b = int(mark[at]), int(building[at])
        if over_union[at] >= iou and m not in used_marks and b not in used:
            used_marks.add(m)
            used.add(b)
            pairs[m, b] = (m, b, "overlap", 0.0)
    largest = np.lexsort((building, mark, -common)).tolist()
    left_marks, left = set(used_marks), set(used)
    for at in largest:
        m, b = int(mark[at]), int(building[at])
        if m not in left_marks and common[at] >= _HALF * of_mark[at]:
            left_marks.add(m)
            pairs[m, b] = (m, b, "overlap", 0.0)
        if b not in left and common[at] >= _HALF * of_building[at]:
            left.add(b)
            pairs[m, b] = (m, b, "overlap", 0.0)
    return list(pairs.values())
