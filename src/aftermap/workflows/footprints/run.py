"""`aftermap footprints`: the buildings of an area as a file that `aftermap map --footprints` takes."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

import geopandas
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataWarning, FootprintError, InputError, OutputError
from aftermap.extras import needs
from aftermap.files import keep_inputs
from aftermap.geo.vectors.extracts import OSM_ENDINGS, is_extract, read_extract
from aftermap.geo.vectors.ids import building_ids
from aftermap.geo.vectors.parquet_area import read_parquet_area
from aftermap.geo.vectors.repair import repair
from aftermap.geo.vectors.table import Table
from aftermap.products.vectors import write_file
from aftermap.remote import Address, Online, is_address
from aftermap.workflows.catalogues.find import area_lonlat

OVERTURE = "overture"
NOT_TOLD = "not stated"
ENDINGS = (".gpkg", ".geojson", ".parquet")
LAYER = "buildings"

OSM_LICENCE = "ODbL-1.0"
"""Source: openstreetmap.org/copyright."""

_DATE_COLUMNS = ("source_date", "update_time", "osm_timestamp", "timestamp", "date", "capture_dates_range")
_LICENCE_COLUMNS = ("licence", "license")
_SOURCE_COLUMNS = ("source", "dataset")
_KEPT = ("class", "name", "height", "floors")


class FootprintOptions(TypedDict, total=False):
    """Keywords of `fetch_footprints` beside the area and the file."""

    release: str | None
    credit: str | None
    source_date: str | None
    licence: str | None
    online: Online | None
    progress: Callable[[int, int], None] | None


@dataclass(frozen=True)
class Fetched:
    """Footprints that were written.

    Attributes:
        path: of the file.
        count: of buildings.
        sources: how many by source and licence.
        bytes_read: online.
        left_out: outlines that were of no use, as a phrase; None where all were.
    """

    path: Path
    count: int
    sources: dict[tuple[str, str], int]
    bytes_read: int
    left_out: str | None


def fetch_footprints(
    aoi: Path,
    out: Path,
    *,
    source: str = OVERTURE,
    release: str | None = None,
    credit: str | None = None,
    source_date: str | None = None,
    licence: str | None = None,
    online: Online | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fetched:
    """Write the buildings that touch an area, with source, date and licence of each.

    Args:
        aoi: vector file of polygons.
        out: `.gpkg`, `.geojson` or `.parquet`; an older file is replaced.
        source: `overture`; the address of a catalogue that is laid out like Overture's (`.../catalog.json`); or the path
            or address of a file: an extract of OpenStreetMap, vector tiles (PMTiles), GeoParquet (of which only the part
            that is needed is read), or any vector file.
        release: of Overture; the latest by default.
        credit: who made the footprints, where a file does not say so; its name by default.
        source_date: of which day they are, likewise.
        licence: under which they may be used, likewise.
        online: reads addresses; by default within the reach of a user.
        progress: told the files done and those in all, of Overture.

    Raises:
        InputError: the area or the footprints cannot be read, or none lies in the area.
        RemoteError: something cannot be read online.
        OutputError: the file is one of these, or cannot be written.
        MissingExtraError: the extra `catalog` is not installed, for what lies elsewhere.
    """
    if out.suffix.lower() not in ENDINGS:
        raise OutputError(f"cannot write {out}: expected a name that ends in {', '.join(ENDINGS)}")
    keep_inputs(out, aoi, source)
    _check_date(source_date)
    area = area_lonlat(aoi)
    elsewhere = source == OVERTURE or is_address(source)
    if elsewhere:
        needs("aftermap footprints from elsewhere", "catalog", "parquet")
        online = online or Online(named=[source] if is_address(source) else ())
    told = {"source": credit, "source_date": source_date, "licence": licence}
    if source == OVERTURE or (is_address(source) and source.endswith("catalog.json")):
        frame, left_out = _overture(source, area, online, release, progress)
    else:
        if release is not None:
            raise InputError(f"--release {release} is of Overture: leave it out with --from {source}")
        frame, left_out = _file(source, area, online, told)
    if frame.empty:
        raise FootprintError(f"{source} has no building in the area of {aoi}")
    _write(frame, out)
    counts = frame.groupby(["source", "licence"]).size()
    return Fetched(
        path=out,
        count=len(frame),
        sources={(str(s), str(lic)): int(n) for (s, lic), n in counts.items()},
        bytes_read=0 if online is None else online.budget.spent,
        left_out=left_out,
    )


def _overture(
    from_: str,
    area: BaseGeometry,
    online: Online | None,
    release: str | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[geopandas.GeoDataFrame, str | None]:
    from aftermap.workflows.footprints.overture import read_overture

    assert online is not None
    catalogue = None if from_ == OVERTURE else Address.parse(from_)
    found = read_overture(online, area, catalogue=catalogue, release=release, progress=progress)
    table = Table(found.shapes, CRS("OGC:CRS84"), found.columns)
    return _framed(table, area, found.columns["id"].tolist(), found.columns)


def _file(
    from_: str, area: BaseGeometry, online: Online | None, told: dict[str, str | None]
) -> tuple[geopandas.GeoDataFrame, str | None]:
    """Footprints of a file: what its columns say of source, date and licence goes before what the user says of all."""
    table, name = _table(from_, area, online)
    columns = table.columns
    if name.lower().endswith(OSM_ENDINGS):
        told = {
            "source": told["source"] or "OpenStreetMap",
            "source_date": told["source_date"],
            "licence": told["licence"] or OSM_LICENCE,
        }
    words = pd.DataFrame(
        {
            "source": _filled(columns, _SOURCE_COLUMNS, told["source"] or name),
            "source_date": [
                (str(each)[:10] if each else None)
                for each in _filled(columns, _DATE_COLUMNS, told["source_date"])
            ],
            "licence": _filled(columns, _LICENCE_COLUMNS, told["licence"] or NOT_TOLD),
            **{kept: columns[kept].tolist() for kept in _KEPT if kept in columns},
        }
    )
    if (words["licence"] == NOT_TOLD).any():
        warnings.warn(
            f"{name} does not say under which licence its footprints may be used: pass --licence, such as --licence "
            "ODbL-1.0",
            DataWarning,
            stacklevel=3,
        )
    names = building_ids(columns, table.ids)
    if names.warning:
        warnings.warn(f"footprints in {name}: {names.warning}", DataWarning, stacklevel=3)
    return _framed(table, area, names.ids, words)


def _table(from_: str, area: BaseGeometry, online: Online | None) -> tuple[Table, str]:
    """What a file holds, and its name."""
    from aftermap.geo.vectors import FORMATS
    from aftermap.geo.vectors.files import read_table

    if not is_address(from_):
        path = Path(from_)
        if is_extract(path) or FORMATS.get(path.suffix.lower()) == "GeoParquet":
            if not path.is_file():
                raise FootprintError(
                    f"cannot read {path}: {'it is a folder' if path.exists() else 'no such file'}"
                )
            if is_extract(path):
                return read_extract(path, area), path.name
            return read_parquet_area(str(path.absolute()), path.name, area), path.name
        return read_table(path, "footprints", columns=True), path.name
    assert online is not None
    address = Address.parse(from_)
    if Path(address.name).suffix.lower() in (".parquet", ".geoparquet"):
        from aftermap.geo.online.ranges import RangeReader, RemoteFile

        return read_parquet_area(RemoteFile(RangeReader(address, online)), address.shown, area), address.name
    from aftermap.geo.online import fetch_vectors

    copy = fetch_vectors(address, online)
    if is_extract(copy):
        return read_extract(copy, area), address.name
    return read_table(copy, "footprints", columns=True), address.name


def _framed(
    table: Table, area: BaseGeometry, ids: list[str], words: pd.DataFrame
) -> tuple[geopandas.GeoDataFrame, str | None]:
    """Valid outlines in degrees that touch the area, in the order of their ids."""
    if table.crs is None:
        raise FootprintError("the footprints name no reference system: convert them to GeoJSON or GeoPackage")
    repaired = repair(table.shapes)
    kept = np.flatnonzero(~shapely.is_missing(repaired.shapes))
    shapes = repaired.shapes[kept]
    if not table.crs.equals("OGC:CRS84") and not table.crs.equals("EPSG:4326"):
        turn = Transformer.from_crs(table.crs, "OGC:CRS84", always_xy=True)

        def degrees(points: np.ndarray) -> np.ndarray:
            return np.column_stack(turn.transform(points[:, 0], points[:, 1]))

        shapes = shapely.transform(shapes, degrees)
    shapely.prepare(area)
    touching = np.array(shapely.intersects(area, shapes), bool)
    rows = kept[touching]
    frame = geopandas.GeoDataFrame(
        {"building_id": [ids[row] for row in rows.tolist()], **words.iloc[rows].reset_index(drop=True)},
        geometry=shapes[touching],
        crs=4326,
    )
    return frame.drop(columns="id", errors="ignore").sort_values(
        "building_id", ignore_index=True
    ), repaired.notes()


def _filled(columns: pd.DataFrame, names: tuple[str, ...], default: Any) -> list[Any]:
    """The first column of these names, with a default where it is empty."""
    named = {str(name).casefold(): name for name in columns.columns}
    found = next((named[name] for name in names if name in named), None)
    values = [None] * len(columns) if found is None else columns[found].tolist()
    return [default if value is None or value != value or value == "" else value for value in values]


def _check_date(text: str | None) -> None:
    try:
        if text is not None and re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", text) is None:
            raise ValueError
        if text is not None and len(text) == 10:
            date.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"--date {text} is no day: pass one such as 2026-11-18, or a year or month"
        ) from None


def _write(frame: geopandas.GeoDataFrame, out: Path) -> None:
    if out.suffix.lower() != ".parquet":
        write_file(frame, out, LAYER)
        return
    from aftermap.files import replacing
    from aftermap.products.exchange.geoparquet import write_geoparquet

    with replacing(out) as part:
        write_geoparquet(frame, part)
