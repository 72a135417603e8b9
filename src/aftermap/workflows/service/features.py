"""Buildings of a map as features: what lies in a box, by class or id, a page at a time, in longitude and latitude."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas
import numpy as np
import shapely

from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import CANNOT_TELL, NOT_A_BUILDING
from aftermap.workflows.service.areas import Area, Box
from aftermap.workflows.service.tiles.ground import laid_frame

KINDS = (*DAMAGE.names[1:], NOT_ASSESSED, NOT_A_BUILDING, CANNOT_TELL)
"""What a building is by what was said of it, or else by the map."""

_AT_ONCE = 20_000

_PRIVATE = ("image", "image_pre", "image_post", "model_sha256")
"""Columns that say where things came from, which the provenance holds."""


@dataclass(frozen=True)
class Page:
    """Some of the features that match.

    Attributes:
        features: GeoJSON.
        matched: how many there are in all.
    """

    features: list[dict[str, Any]]
    matched: int


@dataclass(frozen=True)
class Counted:
    """How many buildings a filter lets through.

    Attributes:
        total: that may be seen.
        left: of these, that it lets through.
        counts: all that may be seen, by kind.
    """

    total: int
    left: int
    counts: dict[str, int]


class Features:
    """The buildings of a map with a georeference, in longitude and latitude (CRS84).

    Args:
        found: the map.
    """

    def __init__(self, found: FinishedMap) -> None:
        self._found = found
        self._ids = found.buildings["building_id"].astype(str).to_numpy(object)
        self._row_of = {name: row for row, name in enumerate(self._ids)}
        self._damage = found.buildings["damage"].astype(str).to_numpy(object)
        self._columns = [
            name
            for name in found.buildings.columns
            if name != found.buildings.geometry.name and name not in _PRIVATE
        ]

    def _shapes(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Outlines of some, in degrees: those of all would take as much memory as the map itself."""
        shapes: np.ndarray = self._found.buildings.geometry.iloc[rows].to_crs(4326).to_numpy(object)
        return shapes

    @cached_property
    def _bounds(self) -> np.ndarray:
        """West, south, east and north of each (n, 4)."""
        parts = [shapely.bounds(self._shapes(rows)) for rows in self._some_at_a_time()]
        return np.concatenate([np.empty((0, 4)), *parts])

    @cached_property
    def _points(self) -> np.ndarray:
        """Representative points (n, 2)."""
        parts = [np.empty((0, 2))]
        for rows in self._some_at_a_time():
            some = self._found.buildings[[self._found.buildings.geometry.name]].iloc[rows]
            inside = some.set_geometry(some.geometry.representative_point())
            placed = laid_frame(inside, self._found.grid).geometry.to_crs(4326)
            parts.append(np.column_stack([placed.x.to_numpy(float), placed.y.to_numpy(float)]))
        return np.concatenate(parts)

    def _some_at_a_time(self) -> list[np.ndarray]:
        rows = np.arange(len(self._ids))
        return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]

    def row(self, building_id: str, area: Area | None) -> int | None:
        """The row of a building that may be seen; None where there is none."""
        row = self._row_of.get(building_id)
        if row is None or (area is not None and not self._inside(np.array([row]), area)[0]):
            return None
        return row

    def feature(self, row: int) -> dict[str, Any]:
        """A building as GeoJSON."""
        return self._features([row])[0]

    def properties(self, row: int) -> dict[str, Any]:
        """What the table says of a building."""
        (values,) = self._properties([row])
        return values

    def point(self, row: int) -> tuple[float, float]:
        """Longitude and latitude in a building; of a map in pixels where its tiles are laid."""
        x, y = self._points[row]
        return float(x), float(y)

    def page(
        self,
        area: Area | None,
        *,
        box: Box | None = None,
        damage: Sequence[str] = (),
        text: str = "",
        limit: int,
        offset: int,
    ) -> Page:
        """Features that may be seen and match, in the order of the table.

        Args:
            area: that may be seen; None for all.
            box: that they touch; its west may lie east of its east, across the antimeridian.
            damage: classes.
            text: that the id contains.
            limit: how many at most.
            offset: how many to pass over.
        """
        rows = np.arange(len(self._ids)) if box is None else self._in_box(box)
        if damage:
            rows = rows[np.isin(self._damage[rows].astype(str), list(damage))]
        if text:
            rows = rows[np.isin(rows, self._matching(text))]
        if area is not None and len(rows):
            rows = rows[self._inside(rows, area)]
        return Page(self._features(rows[offset : offset + limit].tolist()), len(rows))

    def rows(self, area: Area | None, text: str, limit: int) -> list[int]:
        """Rows of buildings that may be seen whose id contains a text."""
        rows = self._matching(text, limit if area is None else None)
        if area is not None and len(rows):
            rows = rows[self._inside(rows, area)]
        return [int(row) for row in rows[:limit]]

    def shape(self, row: int) -> dict[str, Any]:
        """The outline of a building as GeoJSON; of a map in pixels where its tiles are laid."""
        one = laid_frame(self._found.buildings.iloc[[row]], self._found.grid).geometry.to_crs(4326)
        tree: dict[str, Any] = json.loads(shapely.to_geojson(one.iloc[0]))
        return tree

    def count(
        self,
        area: Area | None,
        said: Mapping[str, str],
        *,
        kinds: Sequence[str] = KINDS,
        confidence: tuple[float, float] = (0.0, 1.0),
        least_m2: float = 0.0,
    ) -> Counted:
        """Count what a filter lets through.

        Args:
            area: that may be seen; None for all.
            said: what was said of buildings, by their id; it stands before what the map says.
            kinds: of `KINDS`, that are let through.
            confidence: the least and the most; one without was not assessed, and only no limit lets it through.
            least_m2: the smallest area.
        """
        codes = self._codes.copy()
        for name, verdict in said.items():
            if name in self._row_of:
                codes[self._row_of[name]] = KINDS.index(verdict)
        seen = np.ones(len(codes), bool) if area is None else self._inside(np.arange(len(codes)), area)
        left = seen & np.isin(codes, [KINDS.index(kind) for kind in kinds])
        least, most = confidence
        if least > 0 or most < 1:
            sure = self._found.buildings["confidence"].to_numpy(float)
            left &= (sure.round(2) >= least) & (sure.round(2) <= most)  # as tiles have it; unknown is neither
        if least_m2 > 0:
            left &= self._found.buildings["area_m2"].to_numpy(float).round(0) >= least_m2
        counts = np.bincount(codes[seen], minlength=len(KINDS))
        told = {kind: int(count) for kind, count in zip(KINDS, counts, strict=True)}
        return Counted(int(seen.sum()), int(left.sum()), told)

    @cached_property
    def _codes(self) -> np.ndarray:
        """Place in `KINDS` of what the map says of each building."""
        codes = np.zeros(len(self._damage), np.int8)
        for code, kind in enumerate(KINDS):
            codes[self._damage == kind] = code
        return codes

    @cached_property
    def _names(self) -> tuple[str, np.ndarray]:
        """All ids in lower case, a line each, and where each line begins."""
        lines = [str(name).casefold().replace("\n", " ") for name in self._ids]
        lengths = np.array([len(line) + 1 for line in lines], np.int64)
        return "\n".join(lines), np.cumsum(lengths) - lengths

    def _matching(self, text: str, most: int | None = None) -> np.ndarray:
        """Rows whose id contains a text; the search of one long text takes a hundredth of that of many."""
        names, begins = self._names
        wanted, place = text.casefold(), 0
        found: list[int] = []
        if not wanted or "\n" in wanted:
            return np.arange(len(self._ids) if not wanted else 0)[:most]
        while (place := names.find(wanted, place)) >= 0 and (most is None or len(found) < most):
            row = int(np.searchsorted(begins, place, side="right")) - 1
            found.append(row)
            if row + 1 == len(begins):
                break
            place = int(begins[row + 1])
        return np.array(found, np.int64)

    def _inside(self, rows: np.ndarray, area: Area) -> np.ndarray:
        if not self._found.grid.is_georeferenced:
            return np.ones(len(rows), bool)  # whoever sees such a map at all made it
        points = self._points[rows]
        return area.points_inside(points[:, 0], points[:, 1])

    def _in_box(self, box: Box) -> np.ndarray:
        west, south, east, north = box
        parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        return np.unique(np.concatenate([self._touching((w, south, e, north)) for w, e in parts]))

    def _touching(self, box: Box) -> np.ndarray:
        """Rows whose outlines touch a box: those within it at once, those on its edges one by one."""
        west, south, east, north = box
        b = self._bounds
        near = (b[:, 2] >= west) & (b[:, 0] <= east) & (b[:, 3] >= south) & (b[:, 1] <= north)
        within = (b[:, 0] >= west) & (b[:, 2] <= east) & (b[:, 1] >= south) & (b[:, 3] <= north)
        edge = np.flatnonzero(near & ~within)
        touch = edge[shapely.intersects(self._shapes(edge), shapely.box(west, south, east, north))]
        return np.concatenate([np.flatnonzero(near & within), touch])

    def _features(self, rows: list[int]) -> list[dict[str, Any]]:
        shapes = [json.loads(text) for text in shapely.to_geojson(self._shapes(rows))] if rows else []
        return [
            {"type": "Feature", "id": str(self._ids[row]), "geometry": shape, "properties": values}
            for row, shape, values in zip(rows, shapes, self._properties(rows), strict=True)
        ]

    def _properties(self, rows: list[int]) -> list[dict[str, Any]]:
        table: geopandas.GeoDataFrame = self._found.buildings.iloc[rows][self._columns]
        told = [
            {name: _plain(value) for name, value in record.items()}
            for record in table.astype(object).to_dict("records")
        ]
        return [{"row": row, **values} for row, values in zip(rows, told, strict=True)]


def _plain(value: Any) -> Any:
    """A value as JSON has it; what is not known is null."""
    if value is None or value != value:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return None if value in (float("inf"), float("-inf")) else value
    return value if isinstance(value, (bool, int, str)) else str(value)
