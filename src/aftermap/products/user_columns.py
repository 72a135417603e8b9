"""The user's own columns behind ours, in every table of buildings.

A column keeps its name unless the table already has one of that name, whatever its case, or a GeoPackage needs it
(`fid`, `geom`): then it is called `user_NAME`. An id that became our `building_id` unchanged is not repeated.
"""

import warnings
from typing import Any

import geopandas
import pandas as pd

from aftermap.errors import DataWarning

MAX_COLUMNS = 1000
"""More of the user's columns are left out; SQLite ends at 2,000 in all."""

_RESERVED = ("geometry", "geom", "fid", "rowid", "ogc_fid")


def join_columns(frame: geopandas.GeoDataFrame, columns: pd.DataFrame) -> geopandas.GeoDataFrame:
    """A table of buildings with the user's columns behind its own, row by row.

    Args:
        frame: our columns and the geometry.
        columns: the user's, as many rows in the same order.
    """
    wanted = [name for name in columns.columns if not _repeats(name, columns[name], frame)]
    if len(wanted) > MAX_COLUMNS:
        warnings.warn(
            f"the footprints have {len(wanted):,} columns: the first {MAX_COLUMNS:,} are kept",
            DataWarning,
            stacklevel=2,
        )
    names = new_names(wanted[:MAX_COLUMNS], list(frame.columns))
    user = pd.DataFrame({new: columns[old] for old, new in names.items()})
    user.index = frame.index
    joined = geopandas.GeoDataFrame(
        pd.concat([frame.drop(columns=frame.geometry.name), user], axis=1),
        geometry=frame.geometry.array,
        crs=frame.crs,
    )
    return joined


def new_names(columns: list[str], taken: list[str]) -> dict[str, str]:
    """What each of the user's columns is called beside `taken` ones."""
    used = {name.casefold() for name in (*taken, *_RESERVED)}
    names: dict[str, str] = {}
    for column in columns:
        base = str(column).strip() or "column"
        name, number = (base, 2) if base.casefold() not in used else (f"user_{base}", 2)
        stem = name
        while name.casefold() in used:
            name, number = f"{stem}_{number}", number + 1
        used.add(name.casefold())
        names[column] = name
    return names


def _repeats(name: Any, values: "pd.Series[Any]", frame: geopandas.GeoDataFrame) -> bool:
    if str(name).casefold() != "building_id":
        return False
    return bool((values.astype(object).astype(str).to_numpy() == frame["building_id"].to_numpy()).all())
