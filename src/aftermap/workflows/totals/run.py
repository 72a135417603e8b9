"""`aftermap totals`: how many buildings are damaged, with an interval that covers, from the answers of a sample.

OUT/totals/totals.json     everything, with what the interval covers and what not
OUT/totals/totals.csv      a row for each kind
OUT/totals/totals.png      the same as a picture
OUT/totals/confidence.*    see `confidence`
"""

import html
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pandas

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED
from aftermap.extras import needs
from aftermap.files import csv_text, make_folder, write_json, write_text
from aftermap.products.figures.totals_figure import Bar, draw_totals
from aftermap.workflows.event_model.judged import NO_BUILDING
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.review.answers import NOT_DESTROYED, Answer, Journal, check_shown, settle
from aftermap.workflows.totals.confidence import Confidence, confidence_of, write_confidence
from aftermap.workflows.totals.estimate import (
    COUNTED,
    PHANTOM,
    Estimate,
    Total,
    estimate,
    kinds_of,
    looked_at,
)
from aftermap.workflows.totals.further import Further, answers_needed
from aftermap.workflows.totals.intervals import LEVEL
from aftermap.workflows.totals.sampling import Sample, check_outlines, place_of

FOLDER = "totals"
RISK = 0.1
"""Share of wrong classes that is allowed among the buildings of which the map speaks."""

NO_SAMPLE = (
    "no sample of this map was looked at: these are its counts, and nothing is known of their error; "
    "'aftermap review {folder}' draws a sample and asks"
)
_COLUMNS = (
    *("kind", "mapped", "estimate", "low", "high", "answers_found", "least", "most"),
    *("difference", "prediction_powered"),
)
_COUNTS = ("mapped", "answers_found")


@dataclass(frozen=True, repr=False)
class TotalsResult:
    """The totals of a map.

    Attributes:
        folder: of the map.
        mapped: the map's own counts, by kind.
        not_assessed: buildings that the map says nothing of; they are in none of the totals.
        drawn: buildings that reviewers drew because the map misses them, by verdict; counted, not projected.
        estimate: from the sample; None without one.
        further: what a target takes; None without one.
        confidence: what the answers say of the model's confidence; None without answers.
        is_post_only: whether the map rests on the image after alone, and only destroyed is counted.
        files: that were written.
    """

    folder: Path
    mapped: dict[str, int]
    not_assessed: int
    drawn: dict[str, int]
    estimate: Estimate | None
    further: Further | None
    confidence: Confidence | None
    is_post_only: bool = False
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return f"<totals of {self.folder}: {self.words[0]}>"

    @property
    def totals(self) -> dict[str, Total]:
        """By kind; empty where nothing can be said."""
        return self.estimate.totals if self.estimate else {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is counted."""
        return tuple(kinds_of(binary=self.is_post_only))

    @property
    def worst(self) -> str:
        """What is counted first: damaged, or destroyed."""
        return self.kinds[0]

    @cached_property
    def table(self) -> pandas.DataFrame:
        """A row for each kind: what the map says, the estimate and its interval, what was found, and other estimates."""
        rows = [self._row(name) for name in self.kinds]
        return pandas.DataFrame(rows, columns=list(_COLUMNS)).astype(dict.fromkeys(_COUNTS, "Int64"))

    @cached_property
    def words(self) -> list[str]:
        """The same in words, the most important first."""
        lines = []
        damaged = self.totals.get(self.worst)
        if damaged is None:
            lines.append(
                f"the map counts {self.mapped[self.worst]:,} {self.worst} of {self.mapped['buildings']:,} buildings"
            )
            lines.append(
                NO_SAMPLE.format(folder=self.folder)
                if self.estimate is None
                else f"no interval: {self.estimate.notes[0]}"
            )
        else:
            if self.estimate and self.estimate.kind == COUNTED:
                lines.append(f"{damaged.found:,} {self.worst} buildings: every one was looked at")
            else:
                low, high = rounded_out(damaged)
                lines.append(
                    f"about {damaged.estimate:,.0f} {self.worst} buildings, between {low:,} and {high:,} "
                    f"(95 % interval; the map says {damaged.mapped:,})"
                )
            lines += self._of_answers(damaged)
        if self.is_post_only:
            lines.append("from the image after alone: lesser damage is not told, and in no total")
        if self.not_assessed:
            lines.append(
                f"{self.not_assessed:,} buildings that the map did not assess are not surveyed and are in none of these"
            )
        lines.append(self._of_missed())
        if self.further:
            lines.append(in_words(self.further))
        return lines

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.estimate
        return {
            "map": self.folder,
            "scale": (DESTROYED_OR_NOT if self.is_post_only else DAMAGE).name,
            "level": LEVEL,
            "words": self.words,
            "mapped": self.mapped,
            "not_assessed": self.not_assessed,
            "drawn_by_reviewers": self.drawn,
            "missed_buildings": "not estimated",
            "sample": None
            if found is None
            else {
                "buildings": found.buildings,
                "answers": found.answers,
                "cannot_tell": found.cannot_tell,
                "answers_out_of_turn": found.unused,
                "rests_on": found.kind,
                "notes": found.notes,
            },
            "totals": {name: asdict(total) for name, total in self.totals.items()},
            "target": asdict(self.further) if self.further else None,
            "confidence": self.confidence.as_dict() if self.confidence else None,
        }

    def _repr_html_(self) -> str:
        words = "".join(f"<li>{html.escape(line)}</li>" for line in self.words)
        return f"<ul>{words}</ul>{self.table.to_html(index=False, na_rep='', float_format='{:,.1f}'.format)}"

    def _row(self, name: str) -> tuple[Any, ...]:
        total = self.totals.get(name)
        if total is None:
            return (name, self.mapped.get(name), *(None,) * (len(_COLUMNS) - 2))
        others = [total.others.get(key, (None,))[0] for key in ("difference", "prediction-powered")]
        numbers = (total.estimate, total.low, total.high, total.found, total.least, total.most)
        return (name, total.mapped, *numbers, *others)

    def _of_answers(self, damaged: Total) -> list[str]:
        found = self.estimate
        assert found is not None
        lines = [
            f"from {found.answers:,} answers to a random sample of the {found.buildings:,} buildings that were assessed"
        ]
        if found.cannot_tell:
            lines.append(
                f"{found.cannot_tell:,} more could not be told and are left out; were none of them {self.worst} the "
                f"estimate would be {damaged.least:,.0f}, were all of them {damaged.most:,.0f}"
            )
        if found.unused:
            lines.append(
                f"{found.unused:,} answers to buildings of the sample came out of turn and wait until those before them "
                "have one"
            )
        return lines + list(found.notes)

    def _of_missed(self) -> str:
        if not self.drawn:
            return "buildings that the map misses are not estimated: they are in none of these"
        return (
            f"{sum(self.drawn.values()):,} buildings that the map misses were drawn by reviewers; they come on top, and "
            "how many more there are is not estimated"
        )


class TotalsOptions(TypedDict, total=False):
    """What may be asked beside the totals.

    Attributes:
        target: how many more answers give an interval of plus or minus this share of the estimate; none by default.
        kind: of total that the target is for: damaged (by default), major or destroyed, minor-damage, major-damage,
            destroyed (by default of a map of the image after alone, which tells nothing else).
        risk: share of wrong classes that is allowed among the buildings of which the map speaks; 0.1 by default.
    """

    target: float | None
    kind: str | None
    risk: float


def totals(folder: Path, **options: Unpack[TotalsOptions]) -> TotalsResult:
    """Estimate the totals of a finished map from the answers to its sample, and write them beside it.

    Raises:
        InputError: there is no finished map of damage, or its sample or answers cannot be used.
        OutputError: the results cannot be written.
    """
    needs("aftermap totals", "learn")
    map_ = open_map(folder, also=("post-only",))
    answers = Journal(folder).answers()
    check_shown(answers, map_.outlines_sha256, folder)
    result = estimate_totals(map_, answers, options)
    place = folder / FOLDER
    make_folder(place)
    files = [
        write_text(place / "totals.csv", csv_text(_cells(result.table))),
        draw_totals(place / "totals.png", _bars(result), title="How many buildings", notes=result.words[:2]),
    ]
    if result.confidence is not None:
        files += write_confidence(result.confidence, Sample.load(folder), place)
    files.append(write_json(place / "totals.json", result.as_dict() | {"map": map_.identity}))
    return replace(result, files=tuple(files))


def rounded_out(total: Total) -> tuple[int, int]:
    """The interval as whole buildings, never narrower than it is."""
    return int(total.low + 1e-6), -int(-(total.high - 1e-6) // 1)


def in_words(further: Further) -> str:
    """What a target takes, as a sentence."""
    wanted = f"± {100 * further.target:.0f} % of {further.kind}"
    if further.more is None:
        return f"{wanted}: none was found yet, or a stratum has no answer, so nobody can say how many answers it takes"
    if further.more == 0:
        return f"{wanted}: reached, it is ± {100 * (further.now or 0):.0f} %"
    where = "; ".join(
        f"{n} in {name}" for name, n in sorted(further.strata.items(), key=lambda each: -each[1])[:3]
    )
    rest = "; ..." if len(further.strata) > 3 else ""
    return (
        f"{wanted} takes about {further.more:,} more answers (now ± {100 * (further.now or 0):.0f} % with "
        f"{further.answers:,}): {where}{rest}"
    )


def estimate_totals(map_: FinishedMap, answers: list[Answer], options: TotalsOptions) -> TotalsResult:
    """The totals of a map from the answers that stand; nothing is written."""
    damage, is_post_only = map_.buildings["damage"], map_.one_date == "post-only"
    levels = {name: int((damage == name).sum()) for name in (*DAMAGE.names[1:], *map_.scheme.names[1:])}
    of_code = [levels[name] for name in DAMAGE.names[1:]]
    if is_post_only:
        of_code[0] = levels[NOT_DESTROYED]
    mapped = {
        name: sum(of_code[code] for code in codes)
        for name, codes in kinds_of(binary=is_post_only).items()
        if PHANTOM not in codes
    }
    known = set(map_.buildings["building_id"].astype(str))
    drawn: dict[str, int] = {}
    for answer in settle(answers).values():
        if answer.origin == "drawn" and answer.building_id not in known and answer.verdict in levels:
            drawn[answer.verdict] = drawn.get(answer.verdict, 0) + 1
    # a building that a reviewer called none is 'not-assessed' in the table of a map that has learnt from it
    unseen = (damage == NOT_ASSESSED) & (map_.buildings["reason"].fillna("") != NO_BUILDING)
    not_assessed = int(unseen.sum())
    found = further = confidence = None
    if place_of(map_.folder).exists():
        sample = Sample.load(map_.folder)
        check_outlines(sample, map_)
        looked = looked_at(sample, answers)
        found = estimate(None, sample, looked)
        # the table may have changed since the sample was drawn: by a model of the event, or by reviewed answers
        current = {name: replace(total, mapped=mapped.get(name)) for name, total in found.totals.items()}
        found = replace(found, totals=current)
        confidence = confidence_of(sample, looked, risk=options.get("risk", RISK))
        target = options.get("target")
        if target is not None:
            further = answers_needed(sample, looked, target, kind=options.get("kind"))
    return TotalsResult(map_.folder, mapped, not_assessed, drawn, found, further, confidence, is_post_only)


def _cells(table: pandas.DataFrame) -> list[list[Any]]:
    rows = [
        [None if pandas.isna(cell) else round(cell, 2) if isinstance(cell, float) else cell for cell in row]
        for row in table.itertuples(index=False)
    ]
    return [list(table.columns), *rows]


def _bars(result: TotalsResult) -> list[Bar]:
    bars = []
    for name in result.kinds:
        total = result.totals.get(name)
        if total is not None:
            bars.append(Bar(name, total.mapped, total.estimate, total.low, total.high))
        elif name in result.mapped:
            bars.append(Bar(name, result.mapped[name]))
    return bars
