"""GeoJSON, read from its own text: ids stay as they are written, and nothing but the file is opened.

Source: RFC 7946; the older `crs` member (GeoJSON 2008) is understood where it names a code.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from aftermap.errors import FootprintError
from aftermap.geo.vectors.repair import Rings, polygon_of
from aftermap.geo.vectors.table import Table, frame_of, known_crs, text_of

DEGREES = "EPSG:4326"

_MAX_NESTING = 8
_EXACT = 2.0**53
_GEOMETRIES = (
    *(
        "Polygon",
        "MultiPolygon",
        "GeometryCollection",
        "Point",
        "MultiPoint",
        "LineString",
        "MultiLineString",
    ),
)


def read_geojson(path: Path, what: str, *, columns: bool, lines: bool, points: bool = False) -> Table:
    """Read a GeoJSON file.

    Args:
        path: a FeatureCollection, a Feature or a geometry; with `lines` one of these per line.
        what: the file's part, for messages.
        columns: read the properties too.
        lines: the file is newline-delimited.
        points: keep points too.

    Raises:
        FootprintError: it is no GeoJSON, or in a reference system that is not known.
    """
    place = f"cannot read {what} {path}"
    text = read_text(path, what)
    documents = (
        [_parse(line, place) for line in text.split("\n") if line.strip()] if lines else [_parse(text, place)]
    )
    named = known_crs(_crs_name(documents, place), str(path))
    crs = named or CRS.from_user_input(DEGREES)
    features = [feature for document in documents for feature in _features(document, place)]
    shapes = np.full(len(features), None, dtype=object)
    kinds: set[str] = set()
    ids: list[str | None] = []
    broken = objects = 0
    names: dict[str, list[Any]] = {}
    for row, feature in enumerate(features):
        if not isinstance(feature, dict):
            objects += 1
            ids.append(None)
            continue
        geometry = feature.get("geometry")
        try:
            shapes[row] = _point(geometry) if points else None
            if shapes[row] is None:
                shapes[row] = _shape(geometry, kinds)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError):
            broken += 1
        own = feature.get("id")
        ids.append(text_of(own) if isinstance(own, str | int | float) and not isinstance(own, bool) else None)
        properties = feature.get("properties")
        if columns and isinstance(properties, dict):
            for name, value in properties.items():
                if name not in names:
                    names[name] = [None] * len(features)
                names[name][row] = value
    notes = [
        f"{count} {problem}"
        for count, problem in (
            (objects, "entries are no features"),
            (broken, "geometries are not as GeoJSON wants them"),
        )
        if count
    ]
    frame = frame_of({text_of(name): values for name, values in names.items()}, len(features))
    return Table(shapes, crs, frame, ids, frozenset(kinds), tuple(notes), degrees_by_default=named is None)


def read_text(path: Path, what: str) -> str:
    """A file of text in UTF-8, with or without a byte order mark.

    Raises:
        FootprintError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FootprintError(f"cannot read {what} {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise FootprintError(
            f"cannot read {what} {path}: it is no text in UTF-8 (byte {error.start}): save it as UTF-8"
        ) from None


def _parse(text: str, place: str) -> dict[str, Any]:
    try:
        document = json.loads(text.lstrip("\x1e"), parse_float=_number)
    except RecursionError:
        raise FootprintError(f"{place}: the JSON is nested too deeply, expected GeoJSON") from None
    except ValueError as error:
        raise FootprintError(f"{place}: {' '.join(str(error).split())}, expected GeoJSON") from None
    if not isinstance(document, dict):
        raise FootprintError(f"{place}: the JSON is a {type(document).__name__}, expected a GeoJSON object")
    return document


def _number(text: str) -> float | int:
    """A decimal number; whole ones too long for a float keep all their digits."""
    value = float(text)
    if abs(value) >= _EXACT and "e" not in text.lower():
        whole, _, rest = text.partition(".")
        if not rest.strip("0"):
            return int(whole)
    return value


def _crs_name(documents: list[dict[str, Any]], place: str) -> object:
    for document in documents:
        member = document.get("crs")
        if member is None:
            continue
        properties = member.get("properties") if isinstance(member, dict) else None
        name = properties.get("name") if isinstance(properties, dict) else None
        if not isinstance(name, str):
            raise FootprintError(
                f"{place}: its crs member names no code: links to reference systems are not followed, "
                'expected {"type": "name", "properties": {"name": "EPSG:..."}}'
            )
        return name
    return None


def _features(document: dict[str, Any], place: str) -> Iterator[Any]:
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise FootprintError(f"{place}: the FeatureCollection has no list of features")
        yield from features
    elif kind == "Feature":
        yield document
    elif kind in _GEOMETRIES:
        yield {"geometry": document}
    else:
        raise FootprintError(
            f"{place}: the JSON is of type {str(kind)[:40]!r}, expected a GeoJSON FeatureCollection"
        )


def _shape(geometry: Any, kinds: set[str]) -> BaseGeometry | None:
    return None if geometry is None else polygon_of(_parts(geometry, kinds, 0))


def _point(geometry: Any) -> BaseGeometry | None:
    """A point, or several; None of anything else."""
    kind = None if geometry is None else geometry["type"]
    if kind == "Point":
        return shapely.Point([float(value) for value in geometry["coordinates"][:2]])
    return shapely.MultiPoint(_ring(geometry["coordinates"])) if kind == "MultiPoint" else None


def _parts(geometry: Any, kinds: set[str], depth: int) -> list[Rings]:
    kind = geometry["type"]
    if kind == "Polygon":
        return [_rings(geometry["coordinates"])]
    if kind == "MultiPolygon":
        return [_rings(polygon) for polygon in geometry["coordinates"]]
    if kind == "GeometryCollection" and depth < _MAX_NESTING:
        return [part for each in geometry["geometries"] for part in _parts(each, kinds, depth + 1)]
    if kind not in _GEOMETRIES:
        raise ValueError(kind)
    kinds.add(kind)
    return []


def _rings(polygon: Any) -> list[np.ndarray]:
    return [_ring(ring) for ring in polygon if ring]


def _ring(positions: Any) -> np.ndarray:
    try:
        ring = np.asarray(positions, np.float64)
    except ValueError:  # some positions have a height
        ring = np.array([position[:2] for position in positions], np.float64)
    if ring.ndim != 2 or ring.shape[1] < 2:
        raise ValueError("a ring is a list of positions")
    return ring[:, :2]
