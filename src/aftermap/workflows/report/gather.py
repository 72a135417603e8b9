"""Gathers what a report tells: a finished map, what a checked sample said of it, and its counts by area."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aftermap.errors import InputError
from aftermap.files import read_json
from aftermap.products.report.facts import AreaRow, Areas, Estimate, Totals

TOTALS = Path("totals", "totals.json")
AREAS = "areas"
_KEYS = ("area_id", "name")
"""One of these tells the areas of a table apart."""
_MOST_BYTES = 64 * 1024 * 1024


def read_totals(folder: Path, summary: Mapping[str, Any], identity: str) -> Totals | None:
    """What a checked sample says of a map, as `aftermap totals` wrote it; None where nothing can be said.

    Args:
        folder: of the map.
        summary: its `summary.json`.
        identity: see `FinishedMap`.

    Raises:
        InputError: its file cannot be used, or is of an earlier map.
    """
    path = folder / TOTALS
    if not path.is_file():
        return None
    tree = read_json(path)
    try:
        if tree.get("map", identity) != identity:
            raise InputError(f"{path} is of an earlier map: repeat 'aftermap totals', or move the file away")
        sample, found = tree["sample"], tree["totals"]
        kind, counted = _headline(summary)
        if sample is None or kind not in found:
            return None
        mapped = tree["mapped"][kind]
        if mapped != counted:
            raise InputError(
                f"{path} is of an earlier map, which counted {mapped} {kind} buildings and not {counted}: repeat "
                "'aftermap totals', or move the file away"
            )
        classes = {name: _estimate(found[name]) for name in summary["classes"] if name in found}
        return Totals(
            sample=int(sample["answers"]),
            level=float(tree["level"]),
            damaged=_estimate(found[kind]),
            classes=classes,
            calibrated=bool((tree.get("confidence") or {}).get("calibration")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not hold totals: {error!r}") from None


def read_areas(folder: Path, summary: Mapping[str, Any], identity: str) -> Areas | None:
    """Counts by area, most damaged first, out of a table in `areas`; None where there is none.

    Of several it is the first whose areas have names, such as districts, or the first of all.

    Args:
        folder: of the map.
        summary: its `summary.json`.
        identity: see `FinishedMap`.

    Raises:
        InputError: a table cannot be read, or is of an earlier map.
    """
    kind, mapped_worst = _headline(summary)
    tables = [(path, _table(path, kind)) for path in sorted((folder / AREAS).glob("*.csv"))]
    filled = [(path, rows) for path, rows in tables if rows]
    named = [(path, rows) for path, rows in filled if any(row.name != row.key for row in rows)]
    for path, rows in named or filled:
        about = read_json(path.with_suffix(".json")) if path.with_suffix(".json").is_file() else {}
        if isinstance(about, dict) and about.get("map", identity) != identity:
            raise InputError(
                f"{path} is of an earlier map of these buildings: repeat 'aftermap areas', or move the file away"
            )
        counted, mapped = sum(row.buildings for row in rows), summary["buildings"]
        if counted != mapped:
            raise InputError(
                f"{path} counts {counted} buildings and the map has {mapped}: it is of an earlier map; repeat "
                "'aftermap areas', or move the file away"
            )
        damaged, mapped = sum(row.damaged for row in rows), mapped_worst
        if damaged > mapped or (damaged < mapped and not any(row.not_surveyed for row in rows)):
            raise InputError(
                f"{path} counts {damaged} {kind} buildings and the map has {mapped}: it is of an earlier map; repeat "
                "'aftermap areas', or move the file away"
            )
        worst = sorted(rows, key=lambda row: (-row.damaged, -row.buildings, row.name))
        return Areas(f"{AREAS}/{path.name}", tuple(worst))
    return None


def _estimate(tree: Any) -> Estimate:
    return Estimate(float(tree["estimate"]), float(tree["low"]), float(tree["high"]))


def _headline(summary: Mapping[str, Any]) -> tuple[str, int]:
    """What is counted first of a map, and how many: damaged, or destroyed from the image after alone."""
    if summary.get("mode") == "post-only":
        return "destroyed", summary["classes"]["destroyed"]["buildings"]
    return "damaged", summary["damaged"]["buildings"]


def _table(path: Path, kind: str) -> list[AreaRow]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} is larger than {_MOST_BYTES:,} bytes: it is no table by areas")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
            key = next((columns[each] for each in _KEYS if each in columns), None)
            if key is None or not {"buildings", kind} <= set(columns):
                return []
            return [_row(row, columns, key, kind) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table by areas: {error}") from None


def _row(row: Mapping[str, Any], columns: Mapping[str, str], key: str, kind: str) -> AreaRow:
    def text(column: str) -> str:
        cell = str(row.get(columns[column]) or "").strip() if column in columns else ""
        return cell[1:] if cell[:1] == "'" else cell  # kept spreadsheets from running it

    def number(column: str) -> float | None:
        value = float(text(column)) if text(column) else None
        return value if value is None or math.isfinite(value) else None

    assessed, damaged = number("assessed"), number(kind) or 0.0
    share = number(f"{kind}_share")
    if share is None and assessed:
        share = damaged / assessed
    identity = str(row.get(key) or "").strip()
    return AreaRow(
        key=identity,
        name=text("name") or identity,
        code=text("pcode"),
        buildings=int(number("buildings") or 0),
        damaged=int(damaged),
        share=share,
        low=number(f"{kind}_low"),
        high=number(f"{kind}_high"),
        not_surveyed=int(number("not_surveyed") or 0),
    )
