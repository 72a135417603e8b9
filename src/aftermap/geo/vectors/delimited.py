"""Tables of text with outlines as well-known text (WKT): CSV with commas, semicolons, tabs or bars."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

from aftermap.errors import FootprintError
from aftermap.geo.vectors.geojson import DEGREES, read_text
from aftermap.geo.vectors.table import Table, frame_of, known_crs, text_of

_NAMES = ("wkt", "geometry", "geom", "the_geom", "wkt_geom", "wkt_geometry", "shape", "polygon")
_ACROSS, _UP = ("lon", "lng", "long", "longitude", "x"), ("lat", "latitude", "y")
_POINTS = {*_ACROSS, *_UP}
_WKT = re.compile(r"\s*(?:SRID=(\d+);)?\s*(MULTIPOLYGON|POLYGON|[A-Z]+)\b", re.IGNORECASE)
_OUTLINE = re.compile(r"\s*(?:SRID=\d+;)?\s*(MULTI)?POLYGON\s*[ZM]*\s*\(", re.IGNORECASE)
_ROW_BYTES = 2**30


def read_delimited(path: Path, what: str, *, columns: bool, points: bool = False) -> Table:
    """Read a table whose outlines are WKT in one column, or with `points` whose points are, be it in two of numbers.

    The table names no reference system, unless as `SRID=32615;POLYGON ((...` in its cells; without, numbers that fit
    are degrees.

    Raises:
        FootprintError: it has no such column, or is no table.
    """
    header, rows = _rows(path, what)
    place = _point_columns(header) if points else None
    if place is not None:
        shapes, lost = _points(rows, *place)
        notes = (f"{lost} rows have no place",) if lost else ()
        named = header[place[0]].lower() not in ("x", "y")
        crs = CRS.from_user_input(DEGREES) if named else _degrees(shapes)
        return Table(shapes, crs, _values(header, rows, set(), columns), notes=notes)
    kept = ("POLYGON", "MULTIPOLYGON", *(("POINT", "MULTIPOINT") if points else ()))
    column = _geometry_column(header, rows, path, what, kept)
    shapes = np.full(len(rows), None, dtype=object)
    kinds: set[str] = set()
    systems: set[str] = set()
    broken = 0
    for number, row in enumerate(rows):
        cell = row[column] if column < len(row) else ""
        if not cell.strip():
            continue
        known = _WKT.match(cell)
        if known is None:
            broken += 1
        elif known[2].upper() not in kept:
            kinds.add(known[2].upper())
        else:
            systems.add(known[1] or "")
            with np.errstate(all="ignore"):  # numbers beyond all numbers are infinite, and left out later
                text = cell.partition(";")[2] if known[1] else cell
                shapes[number] = shapely.from_wkt(text, on_invalid="fix")
            broken += shapes[number] is None
    if len(systems) > 1:
        listed = ", ".join(sorted(f"SRID={s}" if s else "none" for s in systems))
        raise FootprintError(f"{path} has outlines in several reference systems ({listed}): write all in one")
    code = next(iter(systems), "")
    crs = known_crs(f"EPSG:{code}", str(path)) if code else _degrees(shapes)
    notes = (f"{broken} outlines are no well-known text",) if broken else ()
    frame = _values(header, rows, {column}, columns)
    return Table(shapes, crs, frame, kinds=frozenset(kinds), notes=notes)


def _values(header: list[str], rows: list[list[str]], without: set[int], wanted: bool) -> pd.DataFrame:
    """The cells of the columns, but for those that hold geometries."""
    values: dict[str, list[Any]] = {}
    for index, name in enumerate(header if wanted else ()):
        if index not in without:
            cells = [row[index] if index < len(row) else "" for row in rows]
            values[_unused(name or f"column_{index + 1}", values)] = [
                text_of(c) if c else None for c in cells
            ]
    return frame_of(values, len(rows), of_text=True)


def _point_columns(header: list[str]) -> tuple[int, int] | None:
    """The columns of longitudes and latitudes; None where there are none, or WKT."""
    lower = [name.lower() for name in header]
    if any(name in lower for name in _NAMES):
        return None
    found = [next((lower.index(name) for name in names if name in lower), None) for names in (_ACROSS, _UP)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _points(rows: list[list[str]], across: int, up: int) -> tuple[np.ndarray, int]:
    """Points of two columns of numbers, and how many rows have none."""
    shapes = np.full(len(rows), None, dtype=object)
    for number, row in enumerate(rows):
        try:
            shapes[number] = shapely.Point(float(row[across]), float(row[up]))
        except (ValueError, IndexError):
            continue
    return shapes, int(shapely.is_missing(shapes).sum())


def _rows(path: Path, what: str) -> tuple[list[str], list[list[str]]]:
    text = read_text(path, what)
    first = text.partition("\n")[0]
    delimiter = max(",;\t|", key=first.count)
    limit = csv.field_size_limit(_ROW_BYTES)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise FootprintError(f"cannot read {what} {path}: {error}, expected a table of text") from None
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise FootprintError(f"cannot read {what} {path}: it is empty, expected a table with a column of WKT")
    if any(_OUTLINE.match(cell) for cell in rows[0]):
        raise FootprintError(
            f"cannot read {what} {path}: its first row holds an outline, expected the names of the columns, such as "
            "id,wkt"
        )
    return [text_of(name.strip()) for name in rows[0]], rows[1:]


def _geometry_column(
    header: list[str], rows: list[list[str]], path: Path, what: str, kept: tuple[str, ...]
) -> int:
    lower = [name.lower() for name in header]
    for name in _NAMES:
        if name in lower:
            return lower.index(name)
    for row in rows[:1]:
        for index, cell in enumerate(row[: len(header)]):
            known = _WKT.match(cell)
            if known and known[2].upper() in kept:
                return index
    found = [name for name in header if name.lower() in _POINTS]
    if len(found) >= 2:
        raise FootprintError(
            f"cannot read {what} {path}: {' and '.join(found[:2])} are points, expected outlines: a column named wkt "
            "with POLYGON ((lon lat, ...))"
        )
    raise FootprintError(
        f"cannot read {what} {path}: none of its columns ({', '.join(header)[:80]}) holds outlines, expected one named "
        "wkt with POLYGON ((lon lat, ...))"
    )


def _degrees(shapes: np.ndarray) -> CRS | None:
    """WGS 84 where all coordinates could be in degrees."""
    points = shapely.get_coordinates(shapes)
    fits = bool(len(points)) and bool((np.abs(points) <= (180.0, 90.0)).all())
    return CRS.from_user_input(DEGREES) if fits else None


def _unused(name: str, taken: dict[str, Any]) -> str:
    unused, number = name, 2
    while unused in taken:
        unused, number = f"{name}_{number}", number + 1
    return unused
