"""Buildings of Overture Maps: a release of GeoParquet files, of which an index (STAC) says where each lies.

Read by ranges: of the index all, of each file that touches the area its footer and the groups of rows that do.

Source: docs.overturemaps.org, release layout and buildings schema 1.x; the index is that of stac.overturemaps.org.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataError
from aftermap.geo.online.ranges import RangeReader, RemoteFile
from aftermap.geo.vectors.parquet_area import read_parquet_area
from aftermap.remote import Address, Online

CATALOGUE = "https://stac.overturemaps.org/catalog.json"

LICENCE = "ODbL-1.0"
"""Of the theme of buildings as a whole, where a row does not tell its own."""

_COLUMNS = ("id", "sources", "height", "num_floors", "class", "subtype", "names", "is_underground")


@dataclass(frozen=True)
class Release:
    """What was read.

    Attributes:
        name: of the release, such as 2026-11-18.0.
        shapes: outlines in degrees.
        columns: `id`, `source`, `source_date`, `licence`, `class`, `name`, `height`, `floors`.
        files: how many of its files touch the area.
    """

    name: str
    shapes: np.ndarray
    columns: pd.DataFrame
    files: int


def read_overture(
    online: Online,
    area: BaseGeometry,
    *,
    catalogue: Address | None = None,
    release: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Release:
    """Buildings whose boxes touch that of an area.

    Args:
        online: reads them.
        area: polygons in degrees.
        catalogue: that lists the releases; that of Overture by default.
        release: which; the latest by default.
        progress: told the files done and those in all.

    Raises:
        RemoteError: something cannot be read.
        DataError: there is no such release, or it is laid out in another way.
    """
    root = catalogue or Address.parse(CATALOGUE)
    name = _release(online, root, release)
    files = _files(online, root.refer(f"./{name}/collections.parquet"), area)
    tables = []
    for number, file in enumerate(files):
        if progress is not None:
            progress(number, len(files))
        remote = RemoteFile(RangeReader(file, online))
        tables.append(read_parquet_area(remote, file.shown, area, columns=_COLUMNS))
    if progress is not None:
        progress(len(files), len(files))
    shapes = np.concatenate([t.shapes for t in tables]) if tables else np.empty(0, dtype=object)
    columns = (
        pd.concat([t.columns for t in tables], ignore_index=True) if tables else pd.DataFrame({"id": []})
    )
    return Release(name, shapes, _told(columns, name), len(files))


def _release(online: Online, root: Address, wanted: str | None) -> str:
    tree = _json(online, root)
    links = [
        link for link in tree.get("links") or () if isinstance(link, dict) and link.get("rel") == "child"
    ]
    # links are ./NAME/catalog.json, or whole addresses
    names = [part for link in links if (part := _folder(str(link.get("href"))))]
    if wanted is None:
        latest = tree.get("latest")
        wanted = str(latest) if latest else max(names, default=None)
    if wanted is None or (names and wanted not in names):
        listed = ", ".join(sorted(names, reverse=True)[:5]) or "none"
        raise DataError(f"{root.shown} has no release {wanted or ''}: the newest are {listed}")
    return wanted


def _folder(href: str) -> str:
    parts = [part for part in href.partition("?")[0].split("/") if part not in ("", ".")]
    return parts[-2] if len(parts) >= 2 else ""


def _files(online: Online, index: Address, area: BaseGeometry) -> list[Address]:
    """The files of buildings whose box touches the area's."""
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(io.BytesIO(online.read(index, most_bytes=256 << 20)))
        rows = table.select(["collection", "type", "bbox", "assets"]).to_pylist()
    except (ArrowException, KeyError, ValueError, OSError) as error:
        raise DataError(f"{index.shown} is no index of Overture: {str(error)[:200]}") from None
    west, south, east, north = area.bounds
    found = []
    for row in rows:
        box = row["bbox"] or {}
        if (
            row["collection"] != "building"
            or row["type"] != "Feature"
            or not all(side in box for side in ("xmin", "ymin", "xmax", "ymax"))
        ):
            continue
        if box["xmin"] <= east and box["xmax"] >= west and box["ymin"] <= north and box["ymax"] >= south:
            try:
                found.append(Address.parse(row["assets"]["aws"]["alternate"]["s3"]["href"]))
            except (KeyError, TypeError):
                raise DataError(f"{index.shown} does not say where its files lie") from None
    return found


def _told(columns: pd.DataFrame, release: str) -> pd.DataFrame:
    """The columns of a release in plain words."""
    count = len(columns)

    def column(name: str) -> list[Any]:
        return list(columns[name]) if name in columns else [None] * count

    roots = [_root_source(each) for each in column("sources")]
    return pd.DataFrame(
        {
            "id": [str(each) for each in column("id")],
            "source": [f"Overture {release}: {root.get('dataset') or 'not told'}" for root in roots],
            "source_date": [str(root.get("update_time") or release)[:10] for root in roots],
            "licence": [str(root.get("license") or LICENCE) for root in roots],
            "class": [
                a or b for a, b in zip(_words(column("class")), _words(column("subtype")), strict=True)
            ],
            "name": [_name(each) for each in column("names")],
            "height": [_number(each) for each in column("height")],
            "floors": [_number(each) for each in column("num_floors")],
        }
    )


def _root_source(value: Any) -> dict[str, Any]:
    """Of the sources of a building the one of its outline: the one whose `property` is empty."""
    listed = _tree(value)
    sources = [each for each in listed if isinstance(each, dict)] if isinstance(listed, Sequence) else []
    return next((each for each in sources if not each.get("property")), sources[0] if sources else {})


def _name(value: Any) -> str | None:
    tree = _tree(value)
    found = tree.get("primary") if isinstance(tree, dict) else None
    return str(found) if found else None


def _tree(value: Any) -> Any:
    """A nested value, which the reader of tables may have written as JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return None
    return value


def _words(values: Sequence[Any]) -> list[str | None]:
    return [str(value) if isinstance(value, str) and value else None for value in values]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value == value and value > 0 else None


def _json(online: Online, address: Address) -> dict[str, Any]:
    try:
        tree = json.loads(online.read(address))
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise DataError(f"{address.shown} is no catalogue of releases")
    return tree
