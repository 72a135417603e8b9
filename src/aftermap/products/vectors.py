"""Writes the table of buildings as GeoPackage, GeoJSON and CSV."""

import csv
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from shapely import affinity
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED
from aftermap.files import are_safe, replacing, safe_cell
from aftermap.geo.datum import transforming
from aftermap.products.cell_texts import encode_json, encode_text, number_texts, word_texts

LAYER = "buildings"
DAMAGE_VALUES = (*DAMAGE.names[1:], NOT_ASSESSED)
PROBABILITIES = ("p_no_damage", "p_minor", "p_major", "p_destroyed")
COLUMNS = (
    *("building_id", "damage", *PROBABILITIES, "p_building", "confidence", "seen"),
    *("area_m2", "lon", "lat", "reason", "mode"),
)
"""Columns that every buildings layer has, in this order; further columns follow them."""

PIXEL_NOTE = (
    "coordinates are pixels (x right, y down) of an image without georeference, not longitude and latitude"
)

BUILDING_COLUMNS = ("building_id", "p_building", "confidence", "area_m2", "lon", "lat", "seen")
"""Columns of the buildings of a single date; further columns follow them."""

ONE_DATE_VALUES = (*DESTROYED_OR_NOT.names[1:], NOT_ASSESSED)
ONE_DATE_COLUMNS = tuple(name for name in COLUMNS if name not in PROBABILITIES[:3])
"""Columns of the buildings of the image from after, or from before, alone; further columns follow them."""

Problems = dict[str, "pd.Series[bool]"]


@dataclass(frozen=True)
class Layer:
    """What a table of buildings must hold.

    Attributes:
        columns: that it has, in this order.
        text: those that hold text, empty where nothing is known.
        decimals: of the numbers.
        problems: of a table in these columns, the rows that break a rule, by what is wrong with them.
    """

    columns: tuple[str, ...]
    text: tuple[str, ...]
    decimals: dict[str, int]
    problems: Callable[[gpd.GeoDataFrame], Problems]


def write_buildings(frame: gpd.GeoDataFrame, folder: Path, layer: "Layer | None" = None) -> list[Path]:
    """Write `buildings.gpkg`, `buildings.geojson` and `buildings.csv` into an existing folder.

    The GeoPackage keeps the frame's reference system; the GeoJSON is in EPSG:4326 as RFC 7946 wants it
    (7 decimals, counter-clockwise shells, cut at the antimeridian), or in pixels with a `note` where the
    frame has none.
    Same frame, same bytes. All three are written under temporary names and put in place at the end.

    Args:
        frame: buildings with the layer's columns and polygons or multipolygons; it may be empty.
        folder: where to write.
        layer: what the table must hold; `DAMAGE_LAYER` by default.

    Returns:
        The three files.

    Raises:
        ValueError: a column is missing or holds a value outside its contract.
        OutputError: the files cannot be written.
    """
    return write_layer(normalise(frame, layer), folder, LAYER)


def write_layer(frame: gpd.GeoDataFrame, folder: Path, name: str, *, table: bool = True) -> list[Path]:
    """Write a checked frame as `<name>.gpkg`, `<name>.geojson` and `<name>.csv`; see `write_buildings`.

    Args:
        frame: as it is to be stored, rounded and in order.
        folder: where to write.
        name: of the files and of the layer.
        table: whether to write the CSV.

    Raises:
        OutputError: the files cannot be written.
    """
    endings = ("gpkg", "geojson", *(("csv",) if table else ()))
    finished = [folder / f"{name}.{ending}" for ending in endings]
    with ExitStack() as stack:  # all of them or none
        errors = (DataSourceError, DataLayerError)
        parts = [stack.enter_context(replacing(path, also=errors)) for path in finished]
        _write_geopackage(frame, parts[0], name)
        numbers = _numbers(frame.drop(columns=frame.geometry.name))
        _write_geojson(frame, parts[1], name, numbers)
        if table:
            _write_csv(as_cells(frame), parts[2], numbers)
    return finished


def write_file(frame: gpd.GeoDataFrame, path: Path, name: str) -> Path:
    """Write a frame as one GeoPackage, or as GeoJSON by any other ending; returns the file.

    Args:
        frame: as it is to be stored; see `write_buildings` for what becomes of its coordinates.
        path: the file.
        name: of the layer.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path, also=(DataSourceError, DataLayerError)) as part:
        (_write_geopackage if path.suffix.lower() == ".gpkg" else _write_geojson)(frame, part, name)
    return path


def normalise(frame: gpd.GeoDataFrame, layer: "Layer | None" = None) -> gpd.GeoDataFrame:
    """Check a buildings frame and bring it to the layer's column order, types and rounding.

    Raises:
        ValueError: says which column or building breaks the contract.
    """
    layer = layer or DAMAGE_LAYER
    missing = [name for name in layer.columns if name not in frame.columns]
    if missing:
        raise ValueError(f"the buildings lack {', '.join(missing)}: expected {', '.join(layer.columns)}")
    further = [name for name in frame.columns if name not in layer.columns and name != frame.geometry.name]
    tidy = frame[[*layer.columns, *further, frame.geometry.name]].reset_index(drop=True)
    for name in layer.text:
        tidy[name] = tidy[name].astype(object).where(tidy[name].notna(), "")
    for name, decimals in layer.decimals.items():
        tidy[name] = tidy[name].astype(np.float64).round(decimals) + 0.0  # no negative zero
    ids = tidy["building_id"]
    problems = {
        "has no building_id": ids == "",
        "appears more than once": ids.duplicated(),
        **layer.problems(tidy),
        "has a negative area": tidy["area_m2"] < 0,
        "has no polygon": ~tidy.geometry.geom_type.isin(["Polygon", "MultiPolygon"]) | tidy.geometry.is_empty,
    }
    for problem, rows in problems.items():
        if rows.any():
            position = int(np.flatnonzero(rows)[0])
            raise ValueError(f"building {ids.iloc[position]!r} (row {position}) {problem}")
    return tidy


def _damage_problems(frame: gpd.GeoDataFrame) -> Problems:
    damage = frame["damage"]
    assessed = damage != NOT_ASSESSED
    shares = frame[[*PROBABILITIES, "p_building", "confidence", "seen"]]
    return {
        f"has a damage outside {', '.join(DAMAGE_VALUES)}": ~damage.isin(DAMAGE_VALUES),
        "is not assessed but gives no reason": ~assessed & (frame["reason"] == ""),
        "is assessed but lacks a probability or confidence": assessed
        & frame[[*PROBABILITIES, "p_building", "confidence"]].isna().any(axis=1),
        "has a probability, confidence or share seen outside 0 to 1": _outside(shares),
        "has probabilities that do not sum to 1": (
            frame[list(PROBABILITIES)].sum(axis=1, skipna=False) - 1
        ).abs()
        > 0.01,
    }


def _building_problems(frame: gpd.GeoDataFrame) -> Problems:
    return {
        "has a probability, confidence or share seen outside 0 to 1": _outside(
            frame[["p_building", "confidence", "seen"]]
        ),
        "has only one of probability and confidence": frame["p_building"].isna()
        != frame["confidence"].isna(),
    }


def _outside(shares: pd.DataFrame) -> "pd.Series[bool]":
    return ((shares < 0) | (shares > 1)).any(axis=1)


def _one_date_problems(frame: gpd.GeoDataFrame) -> Problems:
    damage = frame["damage"]
    assessed = damage != NOT_ASSESSED
    told = frame[["p_destroyed", "p_building", "confidence"]]
    return {
        f"has a damage outside {', '.join(ONE_DATE_VALUES)}": ~damage.isin(ONE_DATE_VALUES),
        "is not assessed but gives no reason": ~assessed & (frame["reason"] == ""),
        "is assessed but lacks a probability or confidence": assessed & told.isna().any(axis=1),
        "has a probability, confidence or share seen outside 0 to 1": _outside(
            told.assign(seen=frame["seen"])
        ),
    }


_PLACES = {"area_m2": 2, "lon": 7, "lat": 7}

DAMAGE_LAYER = Layer(
    columns=COLUMNS,
    text=("building_id", "damage", "reason", "mode"),
    decimals=dict.fromkeys((*PROBABILITIES, "p_building", "confidence", "seen"), 4) | _PLACES,
    problems=_damage_problems,
)

ONE_DATE_LAYER = Layer(
    columns=ONE_DATE_COLUMNS,
    text=("building_id", "damage", "reason", "mode"),
    decimals=dict.fromkeys(("p_destroyed", "p_building", "confidence", "seen"), 4) | _PLACES,
    problems=_one_date_problems,
)

BUILDING_LAYER = Layer(
    columns=BUILDING_COLUMNS,
    text=("building_id",),
    decimals=dict.fromkeys(("p_building", "confidence", "seen"), 4) | _PLACES,
    problems=_building_problems,
)


_FEATURES_AT_ONCE = 4096


def _write_geopackage(frame: gpd.GeoDataFrame, path: Path, name: str) -> None:
    previous = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    # GeoPackage stores when it was written; the provenance says that, and equal results shall be equal files.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            frame.to_file(
                path, layer=name, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True
            )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": previous})


def as_cells(frame: gpd.GeoDataFrame) -> pd.DataFrame:
    """The columns as a spreadsheet may open them."""
    table = frame.drop(columns=frame.geometry.name).rename(columns=safe_cell)
    texts = [name for name in table.columns if table[name].dtype.kind == "O"]
    cells: pd.DataFrame = table.assign(**{name: _safe_cells(table[name]) for name in texts})
    return cells


def _safe_cells(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """`safe_cell` of every value; of words that come again and again, once."""
    if not is_text(column):
        return column.map(safe_cell)
    words = column.drop_duplicates().to_list()
    if are_safe(words):
        return column
    unsafe = {word: safe for word in words if (safe := safe_cell(word)) != word}
    return column.replace(unsafe) if unsafe else column


def is_text(column: "pd.Series[Any]") -> bool:
    """Whether every value of a column is text, and none is missing."""
    if column.dtype.kind != "O" or column.isna().any():
        return False
    return pd.api.types.infer_dtype(column, skipna=False) == "string"


def _numbers(table: pd.DataFrame) -> list[list[str] | None]:
    """What `number_texts` says of each column, with nothing for missing numbers."""
    return [number_texts(column, missing="") for _, column in table.items()]


def _write_geojson(
    frame: gpd.GeoDataFrame, path: Path, name: str, numbers: list[list[str] | None] | None = None
) -> None:
    if numbers is None:
        numbers = _numbers(frame.drop(columns=frame.geometry.name))
    collection: dict[str, Any] = {"type": "FeatureCollection", "name": name}
    if frame.crs is None:
        collection["note"] = PIXEL_NOTE
    head = json.dumps(collection)[:-1]
    with path.open("w", encoding="utf-8") as file:
        file.write(head + ', "features": [')
        features = _features(frame, numbers)
        separator = "\n"
        while some := list(islice(features, _FEATURES_AT_ONCE)):
            file.write(separator + ",\n".join(some))
            separator = ",\n"
        file.write("\n]}\n")


def in_degrees(frame: gpd.GeoDataFrame) -> np.ndarray:
    """The outlines (n,) as RFC 7946 wants them: EPSG:4326, 7 decimals, shells counter-clockwise, cut at 180 degrees.

    Of a frame without reference system they stay in pixels.
    """
    with transforming():
        shapes = (frame.geometry if frame.crs is None else frame.geometry.to_crs("EPSG:4326")).to_numpy()
    if frame.crs is not None:
        west, _, east, _ = shapely.bounds(shapes).T.reshape(4, -1)
        for position in np.flatnonzero((east - west > 180) | (east > 180)):
            if _crosses(shapes[position]):
                shapes[position] = cut_antimeridian(shapes[position])
    tidied: np.ndarray = shapely.transform(shapely.orient_polygons(shapes), lambda xy: np.round(xy, 7) + 0.0)
    return tidied


def _features(frame: gpd.GeoDataFrame, numbers: list[list[str] | None]) -> Iterator[str]:
    """GeoJSON features of a normalised frame, in EPSG:4326 where it has a reference system."""
    shapes = in_degrees(frame)
    columns = [name for name in frame.columns if name != frame.geometry.name]
    texts = [
        _json_texts(frame[name]) if written is None else [text or "null" for text in written]
        for name, written in zip(columns, numbers, strict=True)
    ]
    keys = (encode_json(str(name)).replace("%", "%%") for name in columns)
    properties = ",".join(f"{key}:%s" for key in keys)
    feature = f'{{"type":"Feature","properties":{{{properties}}},"geometry":%s}}'
    geometries = (geometry or "null" for geometry in shapely.to_geojson(shapes))
    return map(feature.__mod__, zip(*texts, geometries, strict=True))


def _json_texts(column: "pd.Series[Any]") -> list[str]:
    """The values of a column that holds other things than numbers as JSON."""
    values = plain_column(column)
    return word_texts(values, encode_text) if is_text(column) else [encode_json(value) for value in values]


def _write_csv(table: pd.DataFrame, path: Path, numbers: list[list[str] | None]) -> None:
    """A table as pandas writes it, faster where it holds nothing but numbers and text."""
    columns = [
        column.to_list() if written is None and is_text(column) else written
        for (_, column), written in zip(table.items(), numbers, strict=True)
    ]
    texts = [column for column in columns if column is not None]
    if len(texts) < max(2, len(columns)):
        table.to_csv(path, index=False, lineterminator="\n")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(zip(*texts, strict=True))


def _crosses(shape: BaseGeometry) -> bool:
    """Whether a part of it crosses 180 degrees, and does not reach around a pole."""
    west, south, east, north = shapely.bounds(shapely.get_parts(shape)).T
    return bool(((east > 180) | ((east - west > 180) & (south > -90) & (north < 90))).any())


def cut_antimeridian(geometry: BaseGeometry) -> BaseGeometry:
    """Split a geometry in degrees that lies on both sides of 180, as RFC 7946 section 3.1.9 asks."""
    west, _, east, _ = geometry.bounds
    if east - west > 180:
        geometry = shapely.transform(
            geometry, lambda xy: np.where(xy[:, :1] < 0, xy + np.array([360.0, 0.0]), xy)
        )
    left = geometry.intersection(box(-180, -90, 180, 90))
    right = affinity.translate(geometry.intersection(box(180, -90, 540, 90)), xoff=-360)
    parts = [
        part for half in (left, right) for part in shapely.get_parts(half) if part.geom_type == "Polygon"
    ]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def plain_column(column: "pd.Series[Any]") -> list[Any]:
    """Values that JSON can hold."""
    if column.dtype.kind == "f" and isinstance(column.dtype, np.dtype):
        numbers = column.to_numpy().astype(object)
        numbers[np.isnan(column.to_numpy())] = None
        return list(numbers)
    if is_text(column) or (isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub"):
        return list(column.to_list())
    return [_plain(value) for value in column]


def _plain(value: Any) -> Any:
    """A value that JSON can hold: numpy scalars unwrapped, missing numbers as None."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value is pd.NA or value != value else value
