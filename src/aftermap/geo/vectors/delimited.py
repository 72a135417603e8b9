"""Tables of text with outlines as well-known text (WKT): CSV with commas, semicolons, tabs or bars."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS

from aftermap.errors import FootprintError
from aftermap.geo.vectors.geojson import DEGREES, read_text
from aftermap.geo.vectors.table import Table, frame_of, known_crs, text_of

_NAMES = ("wkt", "geometry", "geom", "the_geom", "wkt_geom", "wkt_geometry", "shape", "polygon")
_POINTS = {"lon", "lng", "long", "longitude", "x", "lat", "latitude", "y"}
_WKT = re.compile(r"\s*(?:SRID=(\d+);)?\s*(MULTIPOLYGON|POLYGON|[A-Z]+)\b", re.IGNORECASE)
_OUTLINE = re.compile(r"\s*(?:SRID=\d+;)?\s*(MULTI)?POLYGON\s*[ZM]*\s*\(", re.IGNORECASE)
_ROW_BYTES = 2**30


def read_delimited(path: Path, what: str, *, columns: bool) -> Table:
    """Read a table whose outlines are WKT in one column.

    The table names no reference system, unless as `SRID=32615;POLYGON ((...` in its cells; without, numbers that fit
    are degrees.

    Raises:
        FootprintError: it has no such column, or is no table.
    """
    header, rows = _rows(path, what)
    column = _geometry_column(header, rows, path, what)
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
        elif known[2].upper() not in ("POLYGON", "MULTIPOLYGON"):
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
    values: dict[str, list[Any]] = {}
    if columns:
        for index, name in enumerate(header):
            if index != column:
                cells = [row[index] if index < len(row) else "" for row in rows]
                values[_unused(name or f"column_{index + 1}", values)] = [
                    text_of(c) if c else None for c in cells
                ]
    notes = (f"{broken} outlines are no well-known text",) if broken else ()
    frame = frame_of(values, len(rows), of_text=True)
    return Table(shapes, crs, frame, kinds=frozenset(kinds), notes=notes)


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


def _geometry_column(header: list[str], rows: list[list[str]], path: Path, what: str) -> int:
    lower = [name.lower() for name in header]
    for name in _NAMES:
        if name in lower:
            return lower.index(name)
    for row in rows[:1]:
        for index, cell in enumerate(row[: len(header)]):
            known = _WKT.match(cell)
            if known and known[2].upper() in ("POLYGON", "MULTIPOLYGON"):
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
