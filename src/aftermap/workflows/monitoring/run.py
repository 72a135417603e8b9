"""Several maps of one place over time, brought together: states, what changed, and a page with a slider.

SERIES/buildings.gpkg      every building with its state on each date; also .geojson, .csv and a style
SERIES/changes.gpkg        every rise of a state: from, to, between which dates; also .geojson and .csv
SERIES/series.json         dates, counts on each, what changed in between, and what the maps contradict
SERIES/series.html         the same as a page with a slider
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import geopandas
import numpy as np
import pandas as pd

from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.errors import InputError
from aftermap.files import check_output, replacing_folder, write_json
from aftermap.products.page.page import write_page
from aftermap.products.page.stored import StoredPage, page_or_ground
from aftermap.products.pictures import in_pixels
from aftermap.products.styles import DAMAGE_STYLE, style_layer
from aftermap.products.vectors import DAMAGE_VALUES, PROBABILITIES, write_layer
from aftermap.products.view import Kind, Objects, Times, View, describe_size, label
from aftermap.wording import counted
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.monitoring.aligning import Aligned, align, dates_of
from aftermap.workflows.monitoring.states import UNKNOWN, contradictions, states

MARKER = "series.json"
_OURS = (
    MARKER,
    "series.html",
    *(f"{name}.{end}" for name in ("buildings", "changes") for end in ("gpkg", "geojson", "csv", "qml")),
)
_CLASSES = DAMAGE.names[1:]
_COLOURS = {entry.value: entry.colour for entry in DAMAGE_STYLE.entries}


class MonitorOptions(TypedDict, total=False):
    """Keywords of `monitor`."""

    dates: Sequence[str] | None
    allow_repair: bool
    title: str | None
    overwrite: bool


@dataclass(frozen=True, repr=False)
class Series:
    """Several maps over time.

    Attributes:
        folder: the output folder.
        buildings: every building with its state on each date.
        changes: every rise of a state.
        summary: what `series.json` holds.
    """

    folder: Path
    buildings: geopandas.GeoDataFrame = field(compare=False)
    changes: geopandas.GeoDataFrame = field(compare=False)
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return f"<{len(self.summary['dates'])} dates of {counted(len(self.buildings), 'building')}, in {self.folder}>"


def monitor(
    maps: Sequence[Path],
    out: Path,
    *,
    dates: Sequence[str] | None = None,
    allow_repair: bool = False,
    title: str | None = None,
    overwrite: bool = False,
) -> Series:
    """Bring maps of several dates together.

    Args:
        maps: folders of finished maps, in any order.
        out: folder to make.
        dates: day on which each map's later image was taken, in the order of the maps; by default as their reports say.
        allow_repair: states may fall; without it damage stays, see `states`.
        title: of the page; by default the folder's name.
        overwrite: replace an earlier series.

    Raises:
        InputError: a folder is no finished map, a date is not known, or the maps do not lie on the same ground.
        OutputError: the output exists or cannot be written.
    """
    if len(maps) < 2:
        raise InputError(f"{counted(len(maps), 'map')} given: monitoring takes two or more")
    check_output(out, marker=MARKER, overwrite=overwrite)
    opened = [open_map(folder) for folder in maps]
    days = dates_of(opened, dates)
    order = sorted(range(len(opened)), key=lambda number: days[number])
    opened, days = [opened[n] for n in order], [days[n] for n in order]
    aligned = align(opened)
    said, probabilities = _said(opened, aligned)
    found = states(said, probabilities, allow_repair=allow_repair)
    names = [day.isoformat() for day in days]
    buildings = _table(aligned, said, probabilities, found, names)
    changes = _changes(aligned, found, names)
    summary = _summary(opened, aligned, said, found, names, allow_repair)
    with replacing_folder(out, ours=_OURS) as folder:
        write_layer(buildings, folder, "buildings")
        style_layer(folder, "buildings", DAMAGE_STYLE, list(buildings.columns))
        write_layer(changes, folder, "changes")
        style_layer(folder, "changes", DAMAGE_STYLE, list(changes.columns))
        _write_page(folder / "series.html", opened, buildings, found, names, summary, title or out.name)
        write_json(folder / MARKER, summary)
    return Series(out, buildings, changes, summary)


def _said(maps: Sequence[FinishedMap], aligned: Aligned) -> tuple[np.ndarray, np.ndarray]:
    """Class and probabilities of each building in each map."""
    count, dates = aligned.rows.shape
    said = np.full((count, dates), UNKNOWN, np.int64)
    probabilities = np.full((count, dates, len(_CLASSES)), np.nan)
    for number, finished in enumerate(maps):
        here = aligned.rows[:, number] >= 0
        rows = finished.buildings.iloc[aligned.rows[here, number]]
        said[here, number] = [_CLASSES.index(d) if d != NOT_ASSESSED else UNKNOWN for d in rows["damage"]]
        probabilities[here, number] = rows[list(PROBABILITIES)].to_numpy(float)
    return said, probabilities


def column(day: str) -> str:
    """The column of a day's states."""
    return f"state_{day.replace('-', '')}"


def _table(
    aligned: Aligned, said: np.ndarray, probabilities: np.ndarray, found: np.ndarray, days: Sequence[str]
) -> geopandas.GeoDataFrame:
    words = np.array([*_CLASSES, NOT_ASSESSED], dtype=object)
    destroyed = len(_CLASSES) - 1
    data: dict[str, Any] = {
        "building_id": aligned.buildings["building_id"].to_numpy(),
        "damage": words[found[:, -1]],
        "changed_on": [_last_change(row, days) for row in found],
        "destroyed_since": [_first(row >= destroyed, days) for row in found],
        "newly_destroyed": (found[:, -1] == destroyed)
        & (found[:, -2] < destroyed)
        & (found[:, -2] != UNKNOWN),
        **{column(day): words[found[:, number]] for number, day in enumerate(days)},
        **{f"map_{day.replace('-', '')}": words[said[:, number]] for number, day in enumerate(days)},
        "confidence": _confidence(said, probabilities, found),
        "assessed": (said != UNKNOWN).sum(axis=1),
        "contradicted": contradictions(said),
        **{name: aligned.buildings[name].to_numpy(float) for name in ("area_m2", "lon", "lat")},
    }
    return geopandas.GeoDataFrame(
        pd.DataFrame(data), geometry=aligned.buildings.geometry.to_numpy(), crs=aligned.buildings.crs
    )


def _confidence(said: np.ndarray, probabilities: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Probability of the last state by the last map that assessed the building; NaN where none did."""
    seen = said != UNKNOWN
    last = said.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    rows = np.arange(len(said))
    return np.where(seen.any(axis=1), probabilities[rows, last, np.maximum(found[:, -1], 0)].round(4), np.nan)


def _changes(aligned: Aligned, found: np.ndarray, days: Sequence[str]) -> geopandas.GeoDataFrame:
    """A row for each building and date whose state is another than on the date before."""
    rows = [
        (building, number)
        for number in range(1, found.shape[1])
        for building in np.flatnonzero(found[:, number] != found[:, number - 1]).tolist()
    ]
    words = (*_CLASSES, NOT_ASSESSED)
    frame = aligned.buildings.iloc[[building for building, _ in rows]].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "building_id": frame["building_id"],
            "from": [words[found[building, number - 1]] for building, number in rows],
            "damage": [words[found[building, number]] for building, number in rows],
            "after": [days[number - 1] for _, number in rows],
            "until": [days[number] for _, number in rows],
            "first_assessed": [bool(found[building, number - 1] == UNKNOWN) for building, number in rows],
            **{name: frame[name].astype(float) for name in ("area_m2", "lon", "lat")},
        }
    )
    for name in ("building_id", "from", "damage", "after", "until"):
        table[name] = table[name].astype(object)
    return geopandas.GeoDataFrame(table, geometry=frame.geometry.to_numpy(), crs=aligned.buildings.crs)


def _summary(
    maps: Sequence[FinishedMap],
    aligned: Aligned,
    said: np.ndarray,
    found: np.ndarray,
    days: Sequence[str],
    allow_repair: bool,
) -> dict[str, Any]:
    against = contradictions(said)
    return {
        "format": 1,
        "rule": "as the maps say" if allow_repair else "never falls",
        "buildings": len(found),
        "contradicted": int(against.sum()),
        "notes": list(aligned.notes),
        "dates": [
            {
                "date": day,
                "map": finished.folder.name,
                "model": finished.provenance.get("model", {}).get("name"),
                "outlines_sha256": finished.outlines_sha256,
                "assessed": int((said[:, number] != UNKNOWN).sum()),
                "held_over": int(((said[:, number] == UNKNOWN) & (found[:, number] != UNKNOWN)).sum()),
                "states": _counts(found[:, number]),
            }
            for number, (day, finished) in enumerate(zip(days, maps, strict=True))
        ],
        "changes": [_change(found[:, n - 1], found[:, n], days[n - 1], days[n]) for n in range(1, len(days))],
    }


def _change(before: np.ndarray, after: np.ndarray, since: str, until: str) -> dict[str, Any]:
    known = before != UNKNOWN
    newly = {
        name: int((known & (before < level) & (after >= level)).sum())
        for level, name in ((1, "newly_damaged"), (len(_CLASSES) - 1, "newly_destroyed"))
    }
    first = ~known & (after != UNKNOWN)
    return {
        "after": since,
        "until": until,
        **newly,
        "worse": int((known & (after > before)).sum()),
        "better": int((known & (after < before)).sum()),
        "first_assessed": int(first.sum()),
        "first_assessed_destroyed": int((first & (after == len(_CLASSES) - 1)).sum()),
    }


def _counts(found: np.ndarray) -> dict[str, int]:
    return {
        **{name: int((found == number).sum()) for number, name in enumerate(_CLASSES)},
        NOT_ASSESSED: int((found == UNKNOWN).sum()),
    }


def _last_change(row: np.ndarray, days: Sequence[str]) -> str:
    changed = np.flatnonzero(row[1:] != row[:-1])
    return days[int(changed[-1]) + 1] if len(changed) else ""


def _first(is_so: np.ndarray, days: Sequence[str]) -> str:
    return days[int(np.argmax(is_so))] if is_so.any() else ""


def _write_page(
    path: Path,
    maps: Sequence[FinishedMap],
    buildings: geopandas.GeoDataFrame,
    found: np.ndarray,
    days: Sequence[str],
    summary: dict[str, Any],
    title: str,
) -> None:
    grid = maps[0].grid
    pictures = [
        page_or_ground(finished.folder / "map.html", width=grid.width, height=grid.height)
        for finished in maps
    ]
    last = found[:, -1]
    kinds = np.where(last == UNKNOWN, len(_CLASSES), last)
    counts = np.bincount(kinds, minlength=len(DAMAGE_VALUES)).tolist()
    assessed = sum(counts[:-1])
    legend = tuple(
        Kind(
            name,
            label(name),
            _COLOURS[name],
            f"{amount:,}",
            amount / assessed if assessed and name != NOT_ASSESSED else None,
            assessed=name != NOT_ASSESSED,
        )
        for name, amount in zip(DAMAGE_VALUES, counts, strict=True)
    )
    headlines, notes = _told(found, summary)
    rule = (
        "States are what each map says."
        if summary["rule"] != "never falls"
        else "Damage stays: where the classes of a building fall from one map to the next, the most likely sequence "
        f"that never falls is shown ({counted(summary['contradicted'], 'building')})."
    )
    view = View(
        heading="Damage over time",
        headline=headlines[-1],
        pictures=pictures[0].pictures,
        mode="swipe",
        kinds=legend,
        about=(
            rule,
            "A building that a map did not assess keeps its state from before.",
            *(f"{note[:1].upper()}{note[1:]}." for note in summary["notes"]),
            describe_size(grid),
        ),
        objects=Objects(buildings, in_pixels(buildings, grid), kinds, on=1),
    )
    times = Times(
        tuple(days),
        tuple(column(day) for day in days),
        tuple(headlines),
        tuple(notes),
        tuple(
            _tiles(stored, pictures[0], finished, maps[0])
            for stored, finished in zip(pictures, maps, strict=True)
        ),
    )
    warnings = dict.fromkeys(warning for stored in pictures for warning in stored.warnings)
    write_page(
        path,
        view,
        grid,
        title=title,
        model=f"{days[0]} to {days[-1]}",
        warnings=list(warnings),
        stored=pictures[0],
        times=times,
    )


def _tiles(
    stored: StoredPage, first: StoredPage, finished: FinishedMap, base: FinishedMap
) -> list[dict[str, Any]] | None:
    """The picture of a date, where it lies as the first one does."""
    same = finished.grid == base.grid and (stored.width, stored.height) == (first.width, first.height)
    return stored.tiles[1] if same and stored.tiles[1] else None


def _told(found: np.ndarray, summary: dict[str, Any]) -> tuple[list[tuple[str, str]], list[str]]:
    """Of each date a headline, and what is new since the one before."""
    headlines, notes = [], [counted(int((found[:, 0] == len(_CLASSES) - 1).sum()), "destroyed", "destroyed")]
    for number in range(found.shape[1]):
        assessed = int((found[:, number] != UNKNOWN).sum())
        damaged = int((found[:, number] > 0).sum())
        headlines.append(
            (
                f"{damaged:,}",
                f" of {counted(assessed, 'assessed building is', 'assessed buildings are')} damaged",
            )
        )
    for change in summary["changes"]:
        notes.append(f"{change['newly_destroyed']:,} newly destroyed")
    return headlines, notes
