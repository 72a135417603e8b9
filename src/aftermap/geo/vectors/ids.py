"""Whose building is this: the user's own id of every footprint, exactly as the file has it.

Order of precedence, names compared without case, and as a Shapefile cuts them to ten letters:

1. `building_id`, `id`, `@id`, `full_id`, `osm_id` (with `osm_way_id` where that is empty), `osm_way_id`, `uid`, `uuid`,
   `fid`, `objectid`, `globalid`, `gml_id`, `ogc_fid`, `full_plus_code`: the first column with a different value in
   every row; if there is none, the first one with any value, repeated ids numbered (`7`, `7-2`) and missing ones called
   after their row (`row-5`), with a warning.
2. the features' own ids: `id` of GeoJSON features and KML placemarks, fid of GeoPackages. Where no placemark of a KML has
   an `id`, their names, if every one has a name and no two the same.
3. 1, 2, 3 and so on in the order of the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aftermap.geo.vectors.table import text_of

ID_COLUMNS = (
    *("building_id", "id", "@id", "full_id", "osm_id", "osm_way_id", "uid", "uuid"),
    *("fid", "objectid", "globalid", "gml_id", "ogc_fid", "full_plus_code"),
)
"""Columns that may name a building, in order of preference."""

_CUT = 10  # letters of a column's name in a Shapefile
_EXACT = 2.0**53
_FALLS_BACK = {"osm_id": "osm_way_id"}


@dataclass(frozen=True)
class Names:
    """The ids of footprints.

    Attributes:
        ids: unique, one per row.
        origin: where they come from, for the report.
        warning: what is not as the file has it; None where all is.
    """

    ids: list[str]
    origin: str
    warning: str | None = None


def building_ids(columns: pd.DataFrame, own: Sequence[str | None]) -> Names:
    """Name every footprint; see the module for the order.

    Args:
        columns: the user's.
        own: ids of the features beside the columns, if the format has them.
    """
    candidates = list(_candidates(columns))
    if any(name is not None for name in own):
        feature = ("the features' own ids", list(own), False)
        candidates = candidates or [feature]
    for origin, ids, lossy in candidates:
        if None not in ids and len(set(ids)) == len(ids):
            return Names([str(name) for name in ids], origin, _rounded(origin) if lossy else None)
    if not candidates:
        return Names(
            [str(number) for number in range(1, len(columns) + 1)], "numbered in the order of the file"
        )
    origin, ids, lossy = candidates[0]
    unique = _made_unique(ids)
    changed = [(old, new) for old, new in zip(ids, unique, strict=True) if old != new]
    missing = sum(old is None for old, _ in changed)
    repeated = [f"{old} became {new}" for old, new in changed if old is not None]
    said = [f"{missing} ids are missing and became row-1 and so on"] if missing else []
    said += [f"{len(repeated)} ids occur again ({repeated[0]})"] if repeated else []
    warning = f"ids come from {origin}: {' and '.join(said)}"
    return Names(unique, origin, warning + (f"; {_rounded(origin)}" if lossy else ""))


def _candidates(columns: pd.DataFrame) -> list[tuple[str, list[str | None], bool]]:
    """Where ids may come from, the ids, and whether digits were lost before we saw them."""
    known: dict[str, str] = {}
    for column in columns.columns:
        known.setdefault(str(column).lower(), column)
    found: list[tuple[str, list[str | None], bool]] = []
    for wanted in ID_COLUMNS:
        name = next((each for each in (wanted, wanted[:_CUT]) if each in known), None)
        if name is None:
            continue
        values = columns[known[name]]
        ids = _names(values)
        second = known.get(_FALLS_BACK.get(wanted, ""))
        origin = f"column {known[name]}"
        if second is not None and None in ids:
            ids = [first or other for first, other in zip(ids, _names(columns[second]), strict=True)]
            origin += f" and {second}"
        if any(name is not None for name in ids):
            lossy = values.dtype.kind == "f" and bool((values.abs() >= _EXACT).any())
            found.append((origin, ids, lossy))
    return found


def _names(values: "pd.Series[Any]") -> list[str | None]:
    told = zip(values.tolist(), values.isna().tolist(), strict=True)
    names = [None if missing else text_of(value) for value, missing in told]
    return [name if name is not None and name.strip() else None for name in names]


def _made_unique(ids: Sequence[str | None]) -> list[str]:
    taken = {name for name in ids if name is not None}
    seen: set[str] = set()
    unique = []
    for row, name in enumerate(ids, start=1):
        wanted = f"row-{row}" if name is None else name
        chosen, number = wanted, 2
        while chosen in seen or (chosen != name and chosen in taken):
            chosen, number = f"{wanted}-{number}", number + 1
        seen.add(chosen)
        unique.append(chosen)
    return unique


def _rounded(origin: str) -> str:
    return f"{origin} holds numbers of more than 15 digits as decimals, so their last digits may be lost in the file"
