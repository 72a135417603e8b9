"""A zipped Shapefile that loses nothing silently.

    NAME.shp, .shx, .dbf, .prj, .cpg    the layer, UTF-8
    NAME_columns.csv                    what each column was called and what became of it
    NAME_long_texts.csv                 texts of more than 254 bytes, whole; only where there are any

Names are cut to ten letters of ASCII. Whole numbers beyond 2^53 become text, because most readers take the numbers of a
.dbf for decimal ones, and so do decimal numbers that its 24 digits cannot hold; an empty text and no text are the same
there.
"""

import re
import tempfile
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd

from aftermap.errors import InputError
from aftermap.files import csv_text
from aftermap.products.exchange.gdal_files import browsable
from aftermap.products.exchange.zip_files import write_zip

SHORT = {
    "building_id": "bldg_id",
    "damage_scale": "scale",
    "p_no_damage": "p_nodamage",
    "p_destroyed": "p_destroy",
    "model_version": "model_vers",
    "model_sha256": "model_sha",
}
"""Our columns whose names a .dbf cannot hold, or holds cut to ten; all others are called there as everywhere."""

LONGEST_NAME = 10
LONGEST_TEXT = 254
_LARGEST = 1e15
_MOST_COLUMNS = 255
_MOST_BYTES = 2**31 - 1
_PARTS = ("shp", "shx", "dbf", "prj", "cpg")


def write_shapefile(frame: geopandas.GeoDataFrame, path: Path, name: str) -> None:
    """Write the archive.

    Args:
        frame: buildings with their columns.
        path: of the archive.
        name: of the layer in it.

    Raises:
        InputError: more columns than a .dbf can have, or more than 2 GB.
        DataSourceError: it cannot be written.
    """
    columns = [column for column in frame.columns if column != frame.geometry.name]
    if len(columns) > _MOST_COLUMNS:
        raise InputError(
            f"a Shapefile has {_MOST_COLUMNS} columns at most, the buildings have {len(columns)}: choose another format"
        )
    names = short_names(columns)
    kept, said = {}, [("name", "column", "what became of it")]
    long: list[tuple[Any, ...]] = [("row", "building_id", "column", "text")]
    for column in columns:
        own = frame[column]
        values = browsable(own)
        note = "" if values is own else "whole numbers as text: some are beyond 2^53"
        if own.dtype.kind == "f" and not _fits(own.to_numpy(float, na_value=np.nan)):
            values = pd.Series([None if pd.isna(v) else repr(float(v)) for v in own], own.index, dtype=object)
            note = "numbers as text: some are too large or too small for 24 digits with 15 decimals"
        if values.dtype.kind == "O":
            whole = values
            values = values.map(cut_text)
            rows = [row for row, (old, new) in enumerate(zip(whole, values, strict=True)) if old != new]
            rows = [row for row in rows if isinstance(whole.iloc[row], str)]
            long += [(row + 1, frame["building_id"].iloc[row], column, whole.iloc[row]) for row in rows]
            if rows:
                note = f"{len(rows)} cut to {LONGEST_TEXT} bytes: whole in {name}_long_texts.csv"
        kept[names[column]] = values
        said.append((names[column], column, note))
    table = geopandas.GeoDataFrame(kept, geometry=frame.geometry.to_numpy(), crs=frame.crs)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
        file = Path(folder) / f"{name}.shp"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            table.to_file(
                file,
                driver="ESRI Shapefile",
                geometry_type="MultiPolygon",
                promote_to_multi=True,
                layer_options={"ENCODING": "UTF-8", "DBF_DATE_LAST_UPDATE": "2000-01-01"},
            )
        parts = [file.with_suffix(f".{ending}") for ending in _PARTS]
        parts = [part for part in parts if part.is_file()]
        large = next((part for part in parts if part.stat().st_size > _MOST_BYTES), None)
        if large is not None:
            raise InputError(
                f"{large.name} would be larger than 2 GB, which no Shapefile may be: choose another format"
            )
        members: dict[str, bytes | Path] = {part.name: part for part in parts}
        members[f"{name}_columns.csv"] = csv_text(said).encode()
        if len(long) > 1:
            members[f"{name}_long_texts.csv"] = csv_text(long).encode()
        write_zip(path, members)


def _fits(values: np.ndarray) -> bool:
    """Whether decimal numbers keep 12 digits where 15 of them may follow the point."""
    known = values[np.isfinite(values)]
    if (np.abs(known) >= _LARGEST).any():
        return False
    return bool((np.abs(np.round(known, 15) - known) <= 1e-12 * np.abs(known)).all())


def short_names(columns: Sequence[str]) -> dict[str, str]:
    """Names of at most ten letters, digits and underscores by those of columns; all differ, whatever their case."""
    taken: set[str] = set()
    chosen: dict[str, str] = {}
    ours = [column for column in columns if column in SHORT]
    for column in (*ours, *(column for column in columns if column not in SHORT)):
        plain = unicodedata.normalize("NFKD", SHORT.get(column, column)).encode("ascii", "ignore").decode()
        stem = re.sub(r"\W+", "_", plain).strip("_")[:LONGEST_NAME] or "column"
        short, number = stem, 2
        while short.casefold() in taken:
            short, number = f"{stem[: LONGEST_NAME - len(str(number)) - 1]}_{number}", number + 1
        taken.add(short.casefold())
        chosen[column] = short
    return chosen


def cut_text(value: Any) -> Any:
    """A text of at most 254 bytes of UTF-8, cut between letters; anything else as it is."""
    if not isinstance(value, str) or pd.isna(value):
        return value
    data = value.encode()
    return value if len(data) <= LONGEST_TEXT else data[:LONGEST_TEXT].decode("utf-8", "ignore")
