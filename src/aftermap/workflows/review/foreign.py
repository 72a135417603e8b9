"""Tables of answers that other tools wrote: MapSwipe, KoBo, QGIS, a spreadsheet; their columns found by their names."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from aftermap.errors import InputError
from aftermap.geo.vectors import part_layer
from aftermap.geo.vectors.binary import layers_of, read_layer
from aftermap.workflows.review.answers import CANNOT_TELL

DEGREES = "EPSG:4326"
MOST_BYTES = 512 * 2**20

VALUES = (
    "verdict",
    "damage",
    "damage_level",
    "damage_class",
    "damage_state",
    "answer",
    "class",
    "dmg",
    "result",
    "label",
)
IDS = ("building_id", "buildingid", "bldg_id", "osm_id", "full_id", "uid", "building", "id", "fid")
REVIEWERS = (
    "reviewer",
    "username",
    "user_name",
    "user",
    "user_id",
    "enumerator",
    "_submitted_by",
    "author",
    "editor",
)
NOTES = ("note", "notes", "comment", "comments", "remarks", "remark")
REASONS = ("reason",)
OUTLINES = ("outlines_sha256",)
_LON = ("lon", "lng", "longitude", "long", "x")
_LAT = ("lat", "latitude", "y")
_WKT = ("wkt", "geom", "geometry", "the_geom")
_REASONS = ("cloud", "shadow", "no data", "outside", "misaligned", "other")


@dataclass(frozen=True)
class Foreign:
    """Rows of answers.

    Attributes:
        values: the answers, as they stand there.
        ids: of buildings, or None where the file has none.
        points: where each row lies, or None.
        crs: of the points, or None where nothing is known.
        crs_is_guessed: the file does not say it.
        reviewers: who answered; empty where not told.
        notes: what they added.
        reasons: why nothing could be told.
        keys: of lines of a journal, where the file is an export of one.
        outlines: what the rows say of the map that they are about.
        shapes: as they stand there, where the file has any.
    """

    values: list[str]
    ids: list[str] | None
    points: np.ndarray | None
    crs: str | None
    crs_is_guessed: bool
    reviewers: list[str]
    notes: list[str]
    reasons: list[str]
    keys: list[str]
    outlines: set[str]
    shapes: np.ndarray | None = None

    @property
    def unmatched(self) -> str:
        """Why a row has no building."""
        return "the map has no building of that id" if self.ids is not None else "in no building of the map"

    def named(self, row: int) -> bool:
        """Whether a row names a building."""
        return self.ids is not None and bool(self.ids[row].strip())

    def reason(self, row: int, verdict: str) -> str:
        """Why nothing could be told, where the file says it in our words."""
        told = self.reasons[row].strip().lower()
        return told if verdict == CANNOT_TELL and told in _REASONS else ""

    def key(self, row: int, building: str, verdict: str, reviewer: str, outline: Any = None) -> str:
        """The same answer has the same key, so that a file that is taken in twice counts once."""
        said = (building, verdict, reviewer, self.notes[row], self.reasons[row])
        text = "\0".join((*said, json.dumps(outline)) if outline else said)
        return "import-" + hashlib.sha256(text.encode()).hexdigest()[:40]


def read_foreign(path: Path, *, column: str | None, ids: str | None) -> Foreign:
    """Read a table or a layer of answers.

    Args:
        path: CSV, GeoJSON, GeoPackage, FlatGeobuf or Shapefile; `FILE:LAYER` where a file has several layers.
        column: that holds the answers.
        ids: that holds the ids of buildings.

    Raises:
        InputError: it cannot be read, or has no column of answers.
    """
    file, layer = part_layer(path)
    ending = file.suffix.lower()
    crs: str | None
    if file.stat().st_size > MOST_BYTES:
        raise InputError(f"{file} has more than {MOST_BYTES // 2**20} MB: that is no table of answers")
    if ending in (".csv", ".tsv", ".txt"):
        names, rows = _csv_rows(file)
        shapes, points, crs, guessed = None, _columns_as_points(names, rows), DEGREES, True
    elif ending in (".geojson", ".json"):
        names, rows, shapes, crs = _geojson_rows(file)
        points = _middles(shapes)
        if points is None:
            points = _columns_as_points(names, rows)
        guessed = crs == DEGREES
    elif ending in (".gpkg", ".fgb", ".shp"):
        names, rows, shapes, crs = _layer_rows(file, layer)
        points = _middles(shapes)
        guessed = False
    else:
        raise InputError(
            f"{file} is of no known format: give a CSV, GeoJSON or GeoPackage, or the JSON of an offline page"
        )
    if not rows:
        raise InputError(f"{file} has no rows")
    values = _column(names, rows, column, VALUES, "--column") or _votes(names, rows)
    if values is None:
        some = ", ".join(names[:12]) or "none"
        raise InputError(
            f"{file} has no column that is called {VALUES[1]} or similar: pass --column; it has {some}"
        )
    found = _column(names, rows, ids, IDS, "--ids")
    if (
        found is not None
        and ids is None
        and points is not None
        and names[_index(names, IDS)].lower() in ("id", "fid")
    ):
        found = None  # a number of the file's own, where the place says more
    return Foreign(
        values=values,
        ids=found,
        points=points,
        crs=crs,
        crs_is_guessed=guessed,
        reviewers=_column(names, rows, None, REVIEWERS) or [""] * len(rows),
        notes=_column(names, rows, None, NOTES) or [""] * len(rows),
        reasons=_column(names, rows, None, REASONS) or [""] * len(rows),
        keys=_column(names, rows, None, ("key",)) or [""] * len(rows),
        outlines={each for each in _column(names, rows, None, OUTLINES) or () if each},
        shapes=shapes,
    )


Rows = list[dict[str, str]]


def _index(names: Sequence[str], wanted: Sequence[str]) -> int:
    """Which column is called like one of these, or ends in one as a group of a form does (`grp/damage`)."""
    plain = [re.split(r"[/:]", name.strip())[-1].lower() for name in names]
    return next((plain.index(each) for each in wanted if each in plain), -1)


def _column(
    names: Sequence[str], rows: Rows, given: str | None, usual: Sequence[str], option: str = ""
) -> list[str] | None:
    if given is not None:
        if given not in names:
            raise InputError(f"{option} {given} is no column of the file; it has {', '.join(names[:12])}")
        return [row.get(given, "") for row in rows]
    at = _index(names, usual)
    return None if at < 0 else [row.get(names[at], "") for row in rows]


def _votes(names: Sequence[str], rows: Rows) -> list[str] | None:
    """The answer of most people, where a column for each answer counts them (`0_count`, `1_count`, as MapSwipe does)."""
    counted = {name: known[1] for name in names if (known := re.fullmatch(r"(\d+)_count", name.strip()))}
    if not counted:
        return None
    values = []
    for row in rows:
        votes = {answer: _number(row.get(name, "")) for name, answer in counted.items()}
        most = max(votes.values())
        first = [answer for answer, count in votes.items() if count == most and most > 0]
        values.append(first[0] if len(first) == 1 else "")  # a tie is no answer
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _text(value: Any) -> str:
    """A cell as text; whole numbers without a point, nothing for what is missing."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return (
        text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@") else text
    )  # as `safe_cell` writes them


def _csv_rows(path: Path) -> tuple[list[str], Rows]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    head = text.partition("\n")[0]
    mark = max(",;\t|", key=head.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        names = [name or "" for name in reader.fieldnames or []]
        rows = [{str(k): _text(v) for k, v in row.items() if k is not None} for row in reader]
    except csv.Error as error:
        raise InputError(f"cannot read {path}: {error}") from None
    return names, rows


def _columns_as_points(names: Sequence[str], rows: Rows) -> np.ndarray | None:
    """Points of columns like lon and lat, or of one of WKT; None where there are none."""
    points = np.full(len(rows), None, object)
    shape = _index(names, _WKT)
    if shape >= 0:
        for number, row in enumerate(rows):
            points[number] = _middle(shapely.from_wkt(row.get(names[shape]) or None, on_invalid="ignore"))
        if not shapely.is_missing(points).all():
            return points
    x, y = _index(names, _LON), _index(names, _LAT)
    if x < 0 or y < 0:  # as a form names the parts of a place: _location_longitude
        ends = [name.lower().rpartition("_")[2] for name in names]
        x, y = (ends.index(end) if end in ends else -1 for end in ("longitude", "latitude"))
    if x < 0 or y < 0:
        return None
    for number, row in enumerate(rows):
        try:
            points[number] = shapely.Point(float(row[names[x]]), float(row[names[y]]))
        except (ValueError, KeyError):
            continue
    return points


def _geojson_rows(path: Path) -> tuple[list[str], Rows, np.ndarray, str | None]:
    try:
        tree = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InputError(f"cannot read {path}: it is not JSON, or was cut short") from None
    features = tree.get("features") if isinstance(tree, dict) else tree
    if not isinstance(features, list) or not all(isinstance(each, dict) for each in features):
        raise InputError(f"{path} holds no features: expected GeoJSON, or the JSON of an offline page")
    properties = [each.get("properties", each) or {} for each in features]
    rows = [{str(k): _text(v) for k, v in each.items()} for each in properties if isinstance(each, dict)]
    if len(rows) != len(features):
        raise InputError(f"{path} has features without properties")
    names = list(dict.fromkeys(name for row in rows for name in row))
    shapes = np.full(len(rows), None, object)
    for number, each in enumerate(features):
        shapes[number] = _shape(each.get("geometry"))
    named = tree.get("crs") if isinstance(tree, dict) else None
    note = isinstance(tree, dict) and "pixels" in str(tree.get("note", ""))
    crs = None if note else _named(named)
    return names, rows, shapes, crs


def _shape(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return None
    try:
        return shapely.from_geojson(json.dumps(tree))
    except (shapely.errors.ShapelyError, ValueError):
        return None


def _middles(shapes: np.ndarray) -> np.ndarray | None:
    """A point within each shape; None where there is none at all."""
    points = np.full(len(shapes), None, object)
    for number, shape in enumerate(shapes):
        points[number] = _middle(shape)
    return None if shapely.is_missing(points).all() else points


def _middle(shape: Any) -> Any:
    """A point within a shape."""
    if shape is None or shape.is_empty:
        return None
    return shape if shape.geom_type == "Point" else shape.representative_point()


def _named(crs: Any) -> str:
    """Reference system of an older GeoJSON, degrees by default."""
    try:
        name = str(crs["properties"]["name"])
    except (TypeError, KeyError):
        return DEGREES
    found = re.search(r"EPSG:+(\d+)$", name)
    return f"EPSG:{found[1]}" if found else DEGREES


def _layer_rows(path: Path, layer: str | None) -> tuple[list[str], Rows, np.ndarray, str | None]:
    what = "the answers"
    layers = layers_of(path, what)
    chosen = [each for each in layers if layer is None or each.name == layer]
    if not chosen:
        raise InputError(
            f"{path} has no layer {layer}: it has {', '.join(each.name for each in layers) or 'none'}"
        )
    if len(chosen) > 1:
        listed = ", ".join(each.name for each in chosen)
        raise InputError(f"{path} has the layers {listed}: name one as {path.name}:{chosen[0].name}")
    table = read_layer(path, chosen[0], what, columns=True)
    names = [str(name) for name in table.columns.columns]
    rows = [
        {str(name): _text(value) for name, value in row.items()}
        for row in table.columns.to_dict(orient="records")
    ]
    return names, rows, np.asarray(table.shapes, object), None if table.crs is None else table.crs.to_wkt()
