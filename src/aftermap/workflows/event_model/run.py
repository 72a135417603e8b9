"""`aftermap learn`: from answers to some buildings of a map to a model of the event, and a table that it judged."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.classes import DAMAGE
from aftermap.errors import InputError
from aftermap.products.summary import summarise
from aftermap.products.vectors import DAMAGE_VALUES
from aftermap.wording import counted
from aftermap.workflows.event_model.check import Check, check_model
from aftermap.workflows.event_model.described import describe
from aftermap.workflows.event_model.judged import judge
from aftermap.workflows.event_model.kept import bring_back, original_folder, rewrite
from aftermap.workflows.mapping.features import read_features
from aftermap.workflows.mapping.finished import FinishedMap, open_map, read_buildings
from aftermap.workflows.review.answers import (
    CANNOT_TELL,
    NOT_A_BUILDING,
    Answer,
    Journal,
    check_shown,
    settle,
)
from aftermap.workflows.totals.sampling import Sample, place_of

FEWEST = 30
"""Answers below which nothing is learnt."""

_LEVELS = DAMAGE.names[1:]


@dataclass(frozen=True)
class Learnt:
    """What came of the answers.

    Attributes:
        folder: the map.
        better: whether the event's own model replaced the classes of the map.
        answers: by verdict.
        check: both models on the answers.
        with_features: whether the map kept features.
        changed: buildings whose class is another one now, by an answer or by the model.
        summary: what `summary.json` holds now.
        seconds: wall time.
    """

    folder: Path
    better: bool
    answers: dict[str, int]
    check: Check
    with_features: bool
    changed: int
    summary: dict[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "output": str(self.folder),
            "better": self.better,
            "answers": self.answers,
            "check": self.check.as_dict(),
            "with_features": self.with_features,
            "changed": self.changed,
            "summary": self.summary,
            "seconds": round(self.seconds, 2),
        }


def learn_from_answers(folder: Path) -> Learnt:
    """Learn the event's own model from the answers to a map, and rewrite the map where it is better.

    Answers always win in the table. What the map's model said stays in `damage_model`, and `undo` brings every file back.
    The same answers give the same files, however often they are learnt from.

    Args:
        folder: of a finished map of damage, with `review/answers.jsonl`.

    Raises:
        InputError: the folder is no such map, or there are too few answers, of one kind only, or to other buildings.
        OutputError: nothing can be written there.
    """
    begun = time.monotonic()
    now = open_map(folder)
    source = original_folder(folder)
    original = now if source == folder else replace(now, buildings=read_buildings(source, now.grid))
    settled = settle(Journal(folder).answers())
    verdicts = _verdicts(settled, original)
    rows, levels, phantoms = _sorted_out(verdicts)
    _require(folder, verdicts, levels)
    features = read_features(folder, original.buildings["building_id"].astype(str).tolist())
    described = describe(original.buildings, now.grid, features)
    usable = described.assessed[rows]
    rows, levels = rows[usable], levels[usable]
    phantoms = phantoms[described.assessed[phantoms]]
    _require(folder, verdicts, levels)
    damage = original.buildings["damage"].to_numpy()
    before = np.array([DAMAGE_VALUES.index(name) for name in damage])
    names = original.buildings["building_id"].astype(str).to_numpy()
    drawn = np.array([settled[names[row]].origin == "sample" for row in rows.tolist()])
    weights = answer_weights(folder, names[rows], drawn)
    check = check_model(described, before, rows, levels, phantoms, drawn, weights)
    told = {row: verdict for row, verdict in verdicts.items() if verdict != CANNOT_TELL}
    frame = judge(original.buildings, described, check, told, (rows, levels, phantoms), weights)
    answers = {
        name: sum(verdict == name for verdict in verdicts.values())
        for name in (*_LEVELS, NOT_A_BUILDING, CANNOT_TELL)
    }
    record = {
        "format": 1,
        "outlines_sha256": now.outlines_sha256,
        "answers": answers,
        "with_features": features is not None,
        "better": check.better,
        "check": check.as_dict(),
    }
    summary = summarise(frame, now.grid)
    summary = {**original.summary, **summary, "learnt": record}
    summary["reviewed"] = int(frame["reviewed"].sum())
    if check.better:
        summary["confidence"] = f"calibrated on this event by {summary['reviewed']} answers"
    rewrite(now, frame, summary, _sentence(check, summary["reviewed"]), record)
    return Learnt(
        folder=folder,
        better=check.better,
        answers=answers,
        check=check,
        with_features=features is not None,
        changed=int((frame["damage"].to_numpy() != frame["damage_model"].to_numpy()).sum()),
        summary=summary,
        seconds=time.monotonic() - begun,
    )


def answer_weights(folder: Path, names: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """What each answer counts in fitting: those of the random sample as many buildings as they stand for, mean 1.

    Args:
        folder: of the map.
        names: ids of the buildings that were answered (m,).
        drawn: which of them came up at random, bool (m,).
    """
    weights = np.ones(len(names))
    if not drawn.any() or not place_of(folder).exists():
        return weights
    sample = Sample.load(folder)
    part = dict(zip(sample.ids, sample.stratum.tolist(), strict=True))
    parts = np.array([part.get(name, -1) if is_in else -1 for name, is_in in zip(names, drawn, strict=True)])
    known = parts >= 0
    if known.any():
        counts = np.bincount(parts[known], minlength=len(sample.sizes))
        stands_for = (sample.sizes / np.maximum(counts, 1))[parts[known]]
        weights[known] = stands_for / stands_for.mean()
    return weights


def undo(folder: Path) -> None:
    """Bring the files of a map back as its model left them, byte for byte.

    Raises:
        InputError: the folder is no map, or nothing was learnt there.
        OutputError: nothing can be written there.
    """
    open_map(folder)
    bring_back(folder)


def _verdicts(settled: Mapping[str, Answer], original: FinishedMap) -> dict[int, str]:
    """Verdicts by row of the table; buildings that a reviewer drew are none of the table's.

    Raises:
        InputError: an answer was given to another map.
    """
    place = {name: row for row, name in enumerate(original.buildings["building_id"].astype(str))}
    found: dict[int, str] = {}
    check_shown(settled.values(), original.outlines_sha256, original.folder)
    for name, answer in settled.items():
        if answer.origin == "drawn" and name not in place:
            continue
        if name not in place:
            raise InputError(
                f"{original.folder} has no building {name}, which was answered: the answers are another map's"
            )
        assert answer.verdict is not None
        found[place[name]] = answer.verdict
    return found


def _sorted_out(verdicts: Mapping[int, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with a level, their levels, and rows that are no building."""
    levelled = [(row, _LEVELS.index(verdict)) for row, verdict in verdicts.items() if verdict in _LEVELS]
    rows, levels = np.array(levelled, np.int64).reshape(-1, 2).T
    order = np.argsort(rows)
    phantoms = sorted(row for row, verdict in verdicts.items() if verdict == NOT_A_BUILDING)
    return rows[order], levels[order], np.array(phantoms, np.int64)


def _require(folder: Path, verdicts: Mapping[int, str], levels: np.ndarray) -> None:
    """Refuse answers that nothing can be learnt from.

    Raises:
        InputError: there are too few, or all say the same.
    """
    if len(levels) < FEWEST:
        given = counted(len(levels), "answer")
        also = "" if len(levels) == len(verdicts) else f" (of {len(verdicts)} in all)"
        raise InputError(
            f"{folder} has {given} that tell the damage of an assessed building{also}: at least {FEWEST} are needed to "
            f"learn from; give them with 'aftermap review {folder}'"
        )
    if len(np.unique(levels)) < 2:
        raise InputError(
            f"all {len(levels)} answers say {_LEVELS[int(levels[0])]}: nothing can be told apart yet; answer "
            "buildings that the map calls something else"
        )


def _sentence(check: Check, reviewed: int) -> str:
    """Where the classes come from, for the page."""
    if not check.better:
        return f"{counted(reviewed, 'building')} as a reviewer answered; the others as the map's model said."
    return (
        f"{counted(reviewed, 'building')} as a reviewer answered; the others by a model that learnt from these answers, "
        f"macro F1 {check.macro_f1_after:.2f} instead of {check.macro_f1_before:.2f} on answers that it had not seen."
    )
