"""What every reader of vectors gives: geometries as they are, the user's columns, the features' own ids."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pyproj import CRS
from pyproj.exceptions import CRSError

from aftermap.errors import FootprintError

_INT64 = 2**63
_EXACT = 2**53
_WHOLE = re.compile(r"0|-?[1-9]\d{0,40}")
_DECIMAL = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,14})?([eE][-+]?\d{1,2})?")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_WKT = ("GEOG", "PROJ", "COMP", "BOUND", "LOCAL_CS", "ENG", "GEOCCS", "GEOD", "VERT")
_URN = re.compile(r"(?:urn:(?:x-)?ogc:def:crs:)?(EPSG|OGC|ESRI|IAU_2015):(?:[\d.]*:)?(\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """One layer of a vector file, one row per feature.

    Attributes:
        shapes: (n,) geometries or None, not repaired.
        crs: of the coordinates; None where the file names none.
        columns: the user's, in their order, as `tidy` gives them; empty where they were not asked for.
        ids: the features' own names, beside the columns, None where a feature has none; empty where the format
            has no such thing.
        kinds: types of the geometries that are no polygons and were not kept.
        notes: what was odd about the content and is worth a warning.
        degrees_by_default: the file names no reference system, and its numbers were taken for degrees.
    """

    shapes: np.ndarray
    crs: CRS | None
    columns: pd.DataFrame
    ids: Sequence[str | None] = ()
    kinds: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    degrees_by_default: bool = False


def frame_of(columns: Mapping[str, Sequence[Any]], rows: int, *, of_text: bool = False) -> pd.DataFrame:
    """Tidy columns as a frame; names that are empty or occur twice are made unique.

    Args:
        columns: plain Python values, None where missing.
        rows: how many.
        of_text: the values are text that may stand for numbers, as in CSV.
    """
    series = {
        name: tidy(_numbers_of(list(values)) if of_text else list(values)) for name, values in columns.items()
    }
    return pd.DataFrame(series, index=pd.RangeIndex(rows))


def unique_names(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Names that differ from each other and from those taken, whatever their case; a later one gets a number."""
    used = {name.casefold() for name in taken}
    unique = []
    for name in names:
        stem = chosen = name.strip() or "column"
        number = 2
        while chosen.casefold() in used:
            chosen, number = f"{stem}_{number}", number + 1
        used.add(chosen.casefold())
        unique.append(chosen)
    return unique


def tidy(values: Sequence[Any]) -> "pd.Series[Any]":
    """Values of one column as one type that every format can hold, None where missing.

    True and False stay so, whole numbers stay exact, numbers of both kinds become decimal ones where no digit is lost.
    Anything else, or a mixture, is text: numbers as they are written, lists and objects as JSON.
    """
    known = [value for value in values if value is not None]
    kinds = {type(value) for value in known}
    if kinds == {str} and (joined := "".join(known)).isascii() and "\0" not in joined:
        return pd.Series(list(values), dtype=object)  # as `text_of` would leave each
    if kinds == {bool}:
        return pd.Series(pd.array(list(values), dtype="boolean"))
    if kinds == {int} and all(-_INT64 <= value < _INT64 for value in known):
        return pd.Series(pd.array(list(values), dtype="Int64"))
    if kinds and kinds <= {int, float} and all(abs(v) <= _EXACT for v in known if isinstance(v, int)):
        return pd.Series([_finite(value) for value in values], dtype="float64")
    return pd.Series([None if v is None else text_of(v) for v in values], dtype=object)


def text_of(value: Any) -> str:
    """A value as text that every format can hold; whole numbers without a decimal point."""
    if isinstance(value, str):
        return value if value.isascii() and "\0" not in value else _UNWRITABLE.sub("\ufffd", value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict):
        return _UNWRITABLE.sub("\ufffd", json.dumps(value, ensure_ascii=False, default=str))
    return str(value)


def known_crs(text: object, place: str) -> CRS | None:
    """A reference system that a file names by authority and code, or as WKT; None for none.

    Raises:
        FootprintError: there is no such system, or it is none of the ground.
    """
    if text is None or text == "":
        return None
    name = str(text)
    short = _URN.fullmatch(name.strip())
    if short is None and not name.lstrip().upper().startswith(_WKT):
        raise FootprintError(
            f"{place} names the reference system {name[:60]!r}, expected a code such as EPSG:4326: name a known one"
        )
    try:
        crs = CRS.from_user_input(f"{short[1].upper()}:{short[2]}" if short else name)
    except CRSError:
        raise FootprintError(
            f"{place} names a reference system that is not known ({name[:60]}): name one such as EPSG:4326"
        ) from None
    return on_the_ground(crs, place)


def on_the_ground(crs: CRS, place: str) -> CRS | None:
    """A system without its heights; None where it is undefined.

    Raises:
        FootprintError: a system that has no place on the ground.
    """
    if crs.is_engineering or "undefined" in crs.name.lower():
        return None
    flat = crs.to_2d() if crs.is_compound or len(crs.axis_info) > 2 else crs
    if flat.is_bound and flat.source_crs is not None:
        flat = CRS.from_wkt(flat.to_wkt())
    if not (flat.is_geographic or flat.is_projected):
        raise FootprintError(
            f"{place} is in {crs.name}, which has no longitude and latitude: convert it, such as to EPSG:4326"
        )
    return flat


def _finite(value: float | None) -> float:
    return float(value) if value is not None and abs(value) != float("inf") else float("nan")


def _numbers_of(values: list[Any]) -> list[Any]:
    """Text cells as numbers where all of a column are, written so that no digit is lost."""
    known = [value for value in values if value is not None]
    if known and all(_WHOLE.fullmatch(value) for value in known):
        return [None if value is None else int(value) for value in values]
    if known and all(_DECIMAL.fullmatch(value) for value in known):
        return [None if value is None else float(value) for value in values]
    return values
