"""Answers out to other tools, and in from them: GeoPackage, GeoJSON and CSV, and the JSON of an offline page."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from pydantic import ValidationError
from rasterio.crs import CRS

from aftermap.errors import InputError
from aftermap.files import safe_cell, write_text
from aftermap.products.vectors import write_file
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import Answer, Journal, check_shown
from aftermap.workflows.review.areas import Mark, add_marks, make_mark, mark_lines
from aftermap.workflows.review.crops import from_geojson, onto
from aftermap.workflows.review.edited import Outlines
from aftermap.workflows.review.foreign import Foreign, read_foreign
from aftermap.workflows.review.plan import origins
from aftermap.workflows.review.said import make_answer
from aftermap.workflows.review.values import Meaning

OFFLINE = "aftermap-review-answers"
LAYER = "answers"
COLUMNS = (
    *("building_id", "verdict", "reason", "reviewer", "at", "origin", "seconds", "note"),
    *("map_damage", "map_confidence", "map_shown", "outline", "source", "key", "outlines_sha256"),
)
_MOST_TOLD = 3
_ENDINGS = (".gpkg", ".geojson", ".json", ".csv")


@dataclass(frozen=True)
class Taken:
    """What an import took in.

    Attributes:
        rows: of the file.
        answers: new ones, which are in the journal now.
        known: rows that were taken in before.
        marks: of ground that was surveyed or not, new ones.
        left_out: why others were not, a line for each kind.
    """

    rows: int
    answers: int
    known: int = 0
    marks: int = 0
    left_out: list[str] = field(default_factory=list)


def answer_table(found: FinishedMap, answers: Iterable[Answer] | None = None) -> geopandas.GeoDataFrame:
    """Answers as a table: a row for each that stands, with the outline that it is about.

    Args:
        found: the map.
        answers: by default those of its journal.

    Returns:
        Columns `COLUMNS` and `geometry` in the map's reference system. `outline` says whose outline it is: the map's, one
        that the reviewer moved, or one that they drew.

    Raises:
        InputError: an answer was given to other outlines than the map's.
    """
    standing = Journal(found.folder).answers() if answers is None else list(answers)
    check_shown(standing, found.outlines_sha256, found.folder)
    shapes = dict(zip(found.buildings["building_id"].astype(str), found.buildings.geometry, strict=True))
    rows, placed = [], []
    for answer in standing:
        known = shapes.get(answer.building_id)
        own = None if answer.geometry is None else from_geojson(answer.geometry, found)
        if own is None and known is None:
            continue  # of a building that the map no longer has
        whose = "map" if own is None else ("moved" if known is not None else "drawn")
        confidence = answer.shown.get("confidence")
        rows.append(
            {
                **answer.model_dump(include={*COLUMNS}),
                "seconds": np.nan if answer.seconds is None else answer.seconds,
                "map_damage": str(answer.shown.get("damage", "")),
                "map_confidence": np.nan if confidence is None else float(confidence),
                "map_shown": str(answer.shown.get("map_shown", "")).lower(),
                "outline": whose,
                "outlines_sha256": found.outlines_sha256,
            }
        )
        placed.append(known if own is None else own)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return geopandas.GeoDataFrame(frame, geometry=np.array(placed, object), crs=found.buildings.crs)


def export_answers(found: FinishedMap, path: Path) -> int:
    """Write all answers that stand, in the format of the file's ending; how many.

    Raises:
        InputError: there are none, or the ending is of no format.
        OutputError: the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise InputError(f"--export {path} ends in no known format: use {', '.join(_ENDINGS)}")
    frame = answer_table(found)
    if frame.empty:
        raise InputError(f"{found.folder} has no answers yet: 'aftermap review {found.folder}' asks for them")
    if ending == ".csv":
        middles = geopandas.GeoSeries(frame.geometry.representative_point(), crs=frame.crs)
        if frame.crs is not None:
            middles = middles.to_crs("EPSG:4326")
        table = frame.drop(columns="geometry").assign(
            x=np.round(middles.x.to_numpy(), 7), y=np.round(middles.y.to_numpy(), 7)
        )
        names = {"x": "lon", "y": "lat"} if frame.crs is not None else {}
        cells = table.rename(columns=names).map(
            lambda value: safe_cell(value) if isinstance(value, str) else value
        )
        buffer = io.StringIO()
        cells.to_csv(buffer, index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        write_text(path, buffer.getvalue())
    else:
        write_file(frame, path, LAYER)
    return len(frame)


def import_answers(
    found: FinishedMap,
    path: Path,
    *,
    reviewer: str = "",
    column: str | None = None,
    ids: str | None = None,
    mapping: str | None = None,
) -> Taken:
    """Take answers in; all that fit are in the journal when this returns.

    A row is matched to a building by its id; where the file has no ids, by its point, or the middle of its outline,
    within the outline of a building. A file may be taken in twice: what is known already is not added again. An export of
    ours brings edited outlines back, and outlines that were added to it as buildings that the map misses.

    Args:
        found: the map.
        path: the JSON of an offline page, or a GeoPackage, GeoJSON or CSV.
        reviewer: whose answers they are, where the file does not say.
        column: that holds the answers; found by its name where it is not given.
        ids: column of the building ids, likewise.
        mapping: what its values mean, `value=verdict` with commas between.

    Raises:
        InputError: the file cannot be read, is of another map, or nothing in it fits.
        OutputError: the journal cannot be written.
    """
    meaning = Meaning.parse(mapping, binary=found.one_date is not None)
    if not path.exists():
        raise InputError(f"cannot read {path}: no such file or directory")
    known = {line.key: line for line in Journal(found.folder).lines()}
    tree = _offline_tree(path)
    ground: list[Mark] = []
    if tree is not None:
        answers, left_out = _from_page(found, path, tree, reviewer)
        rows = len(answers) + sum(left_out.values())
        ground = _marks_of(found, tree, reviewer, left_out)
    else:
        table = read_foreign(path, column=column, ids=ids)
        answers, left_out = _from_table(found, path, table, reviewer, meaning, known)
        rows = len(table.values)
    fresh = [answer for answer in answers if answer.key not in known]
    if not answers and not ground:
        why = "; ".join(_told(left_out)) or "it holds no answers"
        raise InputError(f"nothing was taken in from {path}: {why}")
    if fresh:
        Journal(found.folder).add(fresh)
    fresh_marks = [mark for mark in ground if mark.key not in {line.key for line in mark_lines(found.folder)}]
    if fresh_marks:
        add_marks(found, fresh_marks)
    told = _told(left_out)
    if len(fresh) < len(answers):
        told.append(f"{len(answers) - len(fresh)} were taken in before")
    return Taken(rows, len(fresh), len(answers) - len(fresh), len(fresh_marks), told)


def _told(left_out: dict[str, int]) -> list[str]:
    return [f"{count} left out: {why}" for why, count in left_out.items()]


def _offline_tree(path: Path) -> dict[str, Any] | None:
    """What an offline page saved; None where the file is something else."""
    if path.suffix.lower() != ".json" or path.is_dir():
        return None
    try:
        tree = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InputError(f"cannot read {path}: it is not JSON, or was cut short") from None
    return tree if isinstance(tree, dict) and tree.get("format") == OFFLINE else None


def _from_page(
    found: FinishedMap, path: Path, tree: dict[str, Any], reviewer: str
) -> tuple[list[Answer], dict[str, int]]:
    check_same_map(found, path, {str(tree.get("outlines_sha256"))})
    given = tree.get("answers")
    if not isinstance(given, list):
        raise InputError(f"{path} holds no answers")
    origin = origins(found)
    said_of = {
        str(name): {
            "damage": str(damage),
            "confidence": None if confidence != confidence else float(confidence),
        }
        for name, damage, confidence in zip(
            found.buildings["building_id"],
            found.buildings["damage"],
            found.buildings["confidence"],
            strict=True,
        )
    }
    answers: list[Answer] = []
    left_out: dict[str, int] = {}
    for each in given:
        try:
            said = {**each, "source": path.name[:200]}
            name = reviewer or str(said.pop("reviewer", "")) or "offline"
            said.pop("reviewer", None)
            answers.append(make_answer(found, name, said, origin, said_of.__getitem__))
        except ValidationError as error:
            _count(left_out, f"no answer ({error.errors()[0]['msg']})")
        except (InputError, TypeError, KeyError, ValueError) as error:
            _count(left_out, str(error) or "no answer")
    return answers, left_out


def _marks_of(
    found: FinishedMap, tree: dict[str, Any], reviewer: str, left_out: dict[str, int]
) -> list[Mark]:
    """Ground that was marked in an offline page."""
    given = tree.get("marks")
    told: list[Mark] = []
    for each in given if isinstance(given, list) else ():
        try:
            name = reviewer or str(each.get("reviewer", "")) or "offline"
            told.append(make_mark(found, name, {k: v for k, v in each.items() if k != "reviewer"}))
        except (ValidationError, InputError, AttributeError, TypeError):
            _count(left_out, "no mark of ground")
    return told


def _from_table(
    found: FinishedMap,
    path: Path,
    table: Foreign,
    reviewer: str,
    meaning: Meaning,
    known: Mapping[str, Answer],
) -> tuple[list[Answer], dict[str, int]]:
    check_same_map(found, path, table.outlines)
    names = _matched(found, table)
    outlines = Outlines(found, table)
    answers: list[Answer] = []
    left_out: dict[str, int] = {}
    odd: dict[str, int] = {}
    for row, (name, value) in enumerate(zip(names, table.values, strict=True)):
        if not value.strip():
            _count(left_out, "without an answer")
            continue
        verdict = meaning.of(value)
        if verdict is None:
            _count(odd, value.strip()[:40])
            continue
        before = known.get(table.keys[row])
        if before is not None and before.origin == "drawn":
            name = before.building_id
        origin = "imported" if before is None or before.origin != "drawn" else "drawn"
        outline: dict[str, Any] | None = None
        try:
            if name is None and not table.named(row) and (new := outlines.added(row)) is not None:
                (name, outline), origin = new, "drawn"
            elif name is not None:
                outline = outlines.edited(row, name, before)
        except InputError as error:
            _count(left_out, str(error))
            continue
        if before is not None and before.verdict == verdict and before.geometry == outline:
            answers.append(before)  # one of ours, which went out and came back as it was
            continue
        if name is None:
            _count(left_out, table.unmatched)
            continue
        who = reviewer or table.reviewers[row] or path.stem[:60]
        key = table.key(row, name, verdict, who, outline)
        try:
            answers.append(
                Answer(
                    key=key,
                    building_id=name,
                    verdict=verdict,  # type: ignore[arg-type]  # one of them, by Meaning
                    reason=table.reason(row, verdict),  # type: ignore[arg-type]
                    reviewer=who[:200],
                    origin=origin,  # type: ignore[arg-type]  # one of two
                    geometry=outline,
                    seconds=None,
                    note=table.notes[row][:2000],
                    source=path.name[:200],
                    shown={"outlines_sha256": found.outlines_sha256},
                )
            )
        except ValidationError as error:
            _count(left_out, f"no answer ({error.errors()[0]['msg']})")
    if odd:
        some = ", ".join(f"{value!r} ({count})" for value, count in list(odd.items())[:_MOST_TOLD])
        more = ", ..." if len(odd) > _MOST_TOLD else ""
        left_out[
            f"values that mean nothing here: {some}{more}; pass --mapping '{next(iter(odd))}=destroyed,...'"
        ] = sum(odd.values())
    return answers, left_out


def _matched(found: FinishedMap, table: Foreign) -> list[str | None]:
    """The building of each row: by id where there are ids, else by place."""
    known = found.buildings["building_id"].astype(str).to_numpy()
    if table.ids is not None:
        here = set(known)
        return [name if name in here else None for name in table.ids]
    if table.points is None:
        raise InputError(
            "the file has neither ids nor places: give the column of the ids with --ids, or points as lon and lat"
        )
    points = table.points
    if found.grid.crs is None and table.crs is not None and not table.crs_is_guessed:
        raise InputError("the map counts pixels, and the file lies on the ground: match by id")
    if found.grid.crs is not None:
        if table.crs is None:
            raise InputError(
                "the places of the file name no reference system, and are not degrees: match by id"
            )
        there = table.crs == "EPSG:4326"
        series = geopandas.GeoSeries(points, crs=table.crs)
        points = onto(points, found.grid) if there else series.to_crs(CRS(found.grid.crs).to_wkt()).to_numpy()
    tree = shapely.STRtree(found.buildings.geometry.to_numpy())
    matched: list[str | None] = [None] * len(points)
    rows, buildings = tree.query(points, predicate="within")  # None and empty ones lie nowhere
    for row, building in zip(rows.tolist(), buildings.tolist(), strict=True):
        matched[row] = matched[row] or str(known[building])
    return matched


def check_same_map(found: FinishedMap, path: Path, outlines: set[str]) -> None:
    """Refuse answers that were given on other outlines.

    Args:
        found: the map.
        path: of the answers.
        outlines: what they say of the map they are about; none where they do not say.

    Raises:
        InputError: another map.
    """
    others = outlines - {"", found.outlines_sha256}
    if others:
        raise InputError(
            f"{path} holds answers for another map, or for other footprints than those of {found.folder}: take them in "
            "where they belong"
        )


def _count(counts: dict[str, int], why: str) -> None:
    counts[why] = counts.get(why, 0) + 1
