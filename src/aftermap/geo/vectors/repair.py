"""Any geometries that a file may hold, brought to polygons that the geometry library can work with."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

MAX_CORNERS = 5_000_000
"""A single outline of more corners is refused: no building, town or country has as many."""

FARTHEST = 1e9
"""Coordinates beyond this lie on no map, in any unit that maps are drawn in."""

_MAX_NESTING = 8
_POLYGONS = (3, 6)

Rings = Sequence[np.ndarray]
"""A shell and its holes, each (n, 2)."""


@dataclass(frozen=True)
class Repaired:
    """What became of the geometries of a file.

    Attributes:
        shapes: (n,) objects: a valid Polygon or MultiPolygon with area, or None.
        left_out: how many are None, by reason.
        mended: how many were invalid before.
        kinds: the types found, such as Polygon.
    """

    shapes: np.ndarray
    left_out: Counter[str]
    mended: int
    kinds: tuple[str, ...]

    def notes(self) -> str | None:
        """What a user should know, as one phrase; None where nothing happened."""
        said = []
        if self.left_out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
            said.append(f"{self.left_out.total()} of {len(self.shapes)} left out ({reasons})")
        if self.mended:
            said.append(f"{self.mended} self-intersecting or otherwise invalid ones mended")
        return " and ".join(said) or None


def repair(shapes: np.ndarray) -> Repaired:
    """Bring geometries to valid polygons: the union of their parts, each its shell without its holes.

    Heights are dropped. What cannot be used becomes None and is counted: no or an empty geometry, points and lines,
    coordinates that are not finite or on no map, no area.
    """
    found = np.array(shapes, dtype=object)
    _, examples = np.unique(shapely.get_type_id(found), return_index=True)
    kinds = sorted({_kind(found[row]) for row in examples.tolist() if found[row] is not None})
    left_out: Counter[str] = Counter()
    kept = np.ones(len(found), bool)

    def drop(rows: np.ndarray, reason: str) -> None:
        rows = rows & kept
        if rows.any():
            left_out[reason] += int(rows.sum())
            found[rows] = None
            kept[rows] = False

    drop(shapely.is_missing(found), "without geometry")
    drop(shapely.is_empty(found), "empty")
    drop(~np.isin(shapely.get_type_id(found), (*_POLYGONS, 7)), "no polygon")
    drop(shapely.get_num_coordinates(found) > MAX_CORNERS, f"of more than {MAX_CORNERS:,} corners")
    points, owner = shapely.get_coordinates(found, return_index=True)
    drop(_owners(owner, ~np.isfinite(points), len(found)), "with coordinates that are no numbers")
    drop(_owners(owner, np.abs(points) > FARTHEST, len(found)), "with coordinates that lie on no map")
    found[kept] = shapely.force_2d(found[kept])
    broken = kept & (~shapely.is_valid(found) | (shapely.get_type_id(found) == 7))
    mended = 0
    for row in np.flatnonzero(broken).tolist():
        invalid = not found[row].is_valid
        found[row], reason = _mend(found[row])
        if found[row] is None:
            kept[row] = False
            left_out[reason] += 1
        else:
            mended += invalid
    drop(~(shapely.area(found) > 0), "without area")
    return Repaired(found, left_out, mended, tuple(kinds))


def polygon_of(parts: Iterable[Rings]) -> BaseGeometry | None:
    """A Polygon or MultiPolygon of rings as a file lists them; open rings are closed, others left as they are.

    Args:
        parts: of one geometry.

    Returns:
        None where no part has a shell of three corners. Nothing is repaired: see `repair`.
    """
    polygons = []
    for rings in parts:
        lines = [_closed(ring) for ring in rings]
        if lines and lines[0] is not None:
            polygons.append(Polygon(lines[0], [line for line in lines[1:] if line is not None]))
    if not polygons:
        return None
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def valid_polygons(shapes: np.ndarray) -> list[BaseGeometry]:
    """The parts with area of geometries that were cut or projected, each valid."""
    found: list[BaseGeometry] = []
    for shape in shapes:
        good = shape if shape.is_valid else _mend(shape)[0]
        found += [] if good is None else [part for part in _polygons(good, 0) if part.area > 0]
    return found


def _owners(owner: np.ndarray, wrong: np.ndarray, count: int) -> np.ndarray:
    rows = np.zeros(count, bool)
    rows[owner[wrong.any(axis=1)]] = True
    return rows


def _closed(ring: np.ndarray) -> np.ndarray | None:
    if len(ring) < 3:
        return None
    if not np.isfinite(ring).all():  # NaN equals nothing, so no ring would close
        ring = np.nan_to_num(ring, nan=np.inf, posinf=np.inf, neginf=-np.inf)
    ring = ring if np.array_equal(ring[0], ring[-1]) else np.vstack([ring, ring[:1]])
    return ring if len(ring) >= 4 else None


def _mend(shape: BaseGeometry) -> tuple[BaseGeometry | None, str]:
    """The area of a geometry, or None with the reason."""
    try:
        parts = []
        for part in _polygons(shape, 0):
            good = part if part.is_valid else _shell_without_holes(part)
            parts += [piece for piece in _polygons(good, 0) if piece.area > 0]
        if not parts:
            return None, "no polygon" if shape.area == 0 and not _polygons(shape, 0) else "without area"
        merged = parts[0] if len(parts) == 1 else shapely.union_all(parts)
    except shapely.errors.GEOSException:
        return None, "beyond repair"
    pieces = _polygons(merged, 0)
    return (pieces[0] if len(pieces) == 1 else MultiPolygon(pieces)), ""


def _shell_without_holes(polygon: Polygon) -> BaseGeometry:
    # counting crossings, as GEOS does by default, turns what overlaps into holes, and its other method makes parts of
    # holes that lie outside the shell: so each ring by itself
    rings = [
        shapely.make_valid(Polygon(ring), method="structure", keep_collapsed=False)
        for ring in (polygon.exterior, *polygon.interiors)
    ]
    return shapely.difference(rings[0], shapely.union_all(rings[1:])) if rings[1:] else rings[0]


def _polygons(shape: BaseGeometry, depth: int) -> list[Polygon]:
    if isinstance(shape, Polygon):
        return [] if shape.is_empty else [shape]
    if shape.geom_type not in ("MultiPolygon", "GeometryCollection") or depth > _MAX_NESTING:
        return []
    return [part for each in shape.geoms for part in _polygons(each, depth + 1)]


def _kind(shape: BaseGeometry) -> str:
    return str(shape.geom_type)
