"""How many buildings of each kind there are, from the answered part of a probability sample.

The estimate that counts is always the stratified one: what was found in each stratum, times what it stands for, with the
interval of `intervals`. The strata hold what the model knows already: on real events the difference and the
prediction-powered estimators scatter as much, and their intervals fail for rare classes. Both stand beside it as a check,
and are never chosen by what they say.

What cannot be told is left out, as if it were missing at random within its stratum; what the total would be at worst and
at best stands beside it. Answers "not a building" are a kind of their own, so phantoms are taken out of every class.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from aftermap.classes import DAMAGE
from aftermap.workflows.review.answers import NOT_A_BUILDING, NOT_DESTROYED, Answer, settle
from aftermap.workflows.totals.estimators import Drawn, logit_interval, model_assisted, tuned_weight
from aftermap.workflows.totals.intervals import LEVEL, stratified_interval
from aftermap.workflows.totals.sampling import Sample

PHANTOM = 4
KINDS: dict[str, tuple[int, ...]] = {
    "damaged": (1, 2, 3),
    "major or destroyed": (2, 3),
    **{name: (level,) for level, name in enumerate(DAMAGE.names[1:])},
    "buildings": (0, 1, 2, 3),
    NOT_A_BUILDING: (PHANTOM,),
}
"""What is counted, as verdicts: 0 for no damage to 3 for destroyed, 4 for what is not a building."""

POST_ONLY_KINDS: dict[str, tuple[int, ...]] = {
    "destroyed": (3,),
    NOT_DESTROYED: (0, 1, 2),
    "buildings": (0, 1, 2, 3),
    NOT_A_BUILDING: (PHANTOM,),
}
"""The same of a map of the image after alone, which tells destroyed from not: never a total of a lesser degree."""

MODEL_ASSISTED = "model-assisted"
DESIGN_BASED = "design-based"
COUNTED = "counted"

_FEWEST = 10
_MOST_OPEN = 0.2
_CODES = {name: code for code, name in enumerate((*DAMAGE.names[1:], NOT_A_BUILDING))}


@dataclass(frozen=True)
class Total:
    """How many there are of one kind.

    Attributes:
        name: of the kind, a key of `kinds_of`.
        mapped: what the map says; None for what it does not.
        found: among the answers.
        estimate: of all.
        low, high: interval, of `LEVEL` confidence.
        least, most: the estimate if none, or all, of those that nobody could tell were of this kind.
        others: further estimates, each with its interval; None where an interval cannot be given.
    """

    name: str
    mapped: int | None
    found: int
    estimate: float
    low: float
    high: float
    least: float
    most: float
    others: dict[str, tuple[float, float | None, float | None]]


@dataclass(frozen=True)
class Estimate:
    """What is known of some buildings.

    Attributes:
        buildings: that the map has assessed there.
        answers: that count.
        cannot_tell: answers beside them that told nothing.
        unused: buildings of the sample whose answers came out of turn; they are not used.
        kind: what the figures rest on: the design of the sample, a model corrected by it, or a full count.
        totals: by kind; empty where nothing can be said.
        notes: what there is to know, in words.
    """

    buildings: int
    answers: int
    cannot_tell: int
    unused: int
    kind: str
    totals: dict[str, Total]
    notes: tuple[str, ...] = ()

    @property
    def damaged(self) -> Total | None:
        """Minor damage and above; None where nothing can be said."""
        return self.totals.get("damaged")


@dataclass(frozen=True)
class Looked:
    """The part of a sample that is estimated from.

    Attributes:
        rows: of the sample's buildings, int (n,), in the order of the sample.
        codes: verdict of each: 0 to 3 a class, 4 not a building, -1 cannot be told.
        unused: buildings with an answer that came out of turn.
    """

    rows: np.ndarray
    codes: np.ndarray
    unused: int


def kinds_of(*, binary: bool) -> dict[str, tuple[int, ...]]:
    """What is counted of a map; the first is what its report leads with."""
    return POST_ONLY_KINDS if binary else KINDS


def looked_at(sample: Sample, answers: Iterable[Answer]) -> Looked:
    """What was answered of a sample, as far as it may be used; see `Sample.used`.

    Args:
        sample: the sample.
        answers: those that stand (`Journal.answers`); of several on one building the majority counts.
    """
    given = list(answers)
    settled = settle(given)
    in_turn = {answer.building_id for answer in given if answer.origin == "sample"}
    places = sample.used(settled.keys(), in_turn)
    rows = sample.order[places]
    meant = _CODES | ({NOT_DESTROYED: 0} if sample.binary else {})
    codes = np.array([meant.get(settled[sample.ids[row]].verdict or "", -1) for row in rows], np.int64)
    known = sum(name in settled for name in sample.drawn)
    return Looked(rows, codes, known - len(rows))


def estimate(
    buildings: Collection[str] | None,
    sample: Sample,
    answers: Iterable[Answer] | Looked,
    *,
    level: float = LEVEL,
) -> Estimate:
    """Estimate the totals of all buildings, or of some.

    Args:
        buildings: `building_id` of those, such as a district's; all by default. Others, and those that the map has not
            assessed, are passed over. A district must not be chosen by its answers.
        sample: the sample of the map.
        answers: those that stand, or what `looked_at` made of them.
        level: of confidence.

    Returns:
        The totals. Of a part with few answers they are model-assisted: what the model says there, corrected by the
        errors that the whole sample shows. Without enough answers there are none.
    """
    looked = answers if isinstance(answers, Looked) else looked_at(sample, answers)
    inside = np.ones(len(sample.ids), bool)
    if buildings is not None:
        wanted = set(map(str, buildings))
        inside = np.array([name in wanted for name in sample.ids], bool)
    mine = inside[looked.rows]
    told = mine & (looked.codes >= 0)
    answered, silent = int(told.sum()), int((mine & (looked.codes < 0)).sum())
    head = (int(inside.sum()), answered, silent, looked.unused)
    if not inside.any():
        return Estimate(*head, DESIGN_BASED, {}, ("no building of the sample's map lies there",))
    try:
        frame = _Frame.of(sample, inside, looked, told)
    except ValueError as error:
        if buildings is None or not (looked.codes >= 0).any():
            return Estimate(*head, DESIGN_BASED, {}, (str(error),))
        return _small_area(sample, inside, looked, head, level)
    kinds = kinds_of(binary=sample.binary)
    totals = {name: _total(name, codes, sample, inside, frame, level) for name, codes in kinds.items()}
    whole = answered == int(inside.sum())
    return Estimate(*head, COUNTED if whole else DESIGN_BASED, totals, frame.notes)


@dataclass(frozen=True)
class _Frame:
    """Strata of a part of the map with at least one answer each.

    Attributes:
        sizes: buildings, int (H,).
        stratum: of each building of the sample's map within the part, -1 outside, int (N,).
        rows, codes: of the answers.
        silent: answers that told nothing, by stratum, int (H,).
        notes: what was joined.
    """

    sizes: np.ndarray
    stratum: np.ndarray
    rows: np.ndarray
    codes: np.ndarray
    silent: np.ndarray
    notes: tuple[str, ...]

    @classmethod
    def of(cls, sample: Sample, inside: np.ndarray, looked: Looked, told: np.ndarray) -> "_Frame":
        """The strata of a part; those without an answer join their neighbour.

        Raises:
            ValueError: too few answers for that, in words.
        """
        count = len(sample.strata)
        stratum = np.where(inside, sample.stratum, -1)
        sizes = np.bincount(sample.stratum[inside], minlength=count)
        rows = looked.rows[told]
        has = np.bincount(stratum[rows], minlength=count)
        open_ = (has == 0) & (sizes > 0)
        share = sizes[open_].sum() / sizes.sum()
        is_part = not inside.all()
        if not has.any() or share > _MOST_OPEN or (is_part and has.sum() < min(_FEWEST, sizes.sum())):
            visited, wanted = int((has > 0).sum()), int((sizes > 0).sum())
            raise ValueError(
                f"too few answers: {visited} of {wanted} strata have one; go on in the order of the sample"
            )
        notes: tuple[str, ...] = ()
        if open_.any():
            filled = np.flatnonzero(has)
            joined = np.arange(count)
            joined[open_] = [filled[np.abs(filled - part).argmin()] for part in np.flatnonzero(open_)]
            stratum = np.where(inside, joined[sample.stratum], -1)
            notes = (
                f"{int(sizes[open_].sum()):,} buildings are of strata without an answer and are counted with the "
                "stratum beside them",
            )
        kept, number = np.unique(stratum[inside], return_inverse=True)
        renamed = np.full(len(stratum), -1)
        renamed[inside] = number
        silent_rows = looked.rows[(looked.codes < 0) & inside[looked.rows]]
        return cls(
            np.bincount(number, minlength=len(kept)),
            renamed,
            rows,
            looked.codes[told],
            np.bincount(renamed[silent_rows], minlength=len(kept)),
            notes,
        )

    @property
    def looked(self) -> np.ndarray:
        return np.bincount(self.stratum[self.rows], minlength=len(self.sizes))

    def found(self, codes: Sequence[int]) -> np.ndarray:
        """Answers of some kind, by stratum, int (H,)."""
        chosen = self.rows[np.isin(self.codes, codes)]
        return np.bincount(self.stratum[chosen], minlength=len(self.sizes))


def _total(
    name: str, codes: Sequence[int], sample: Sample, inside: np.ndarray, frame: _Frame, level: float
) -> Total:
    found, looked = frame.found(codes), frame.looked
    low, high = stratified_interval(frame.sizes, looked, found, level=level)
    all_looked = looked + frame.silent
    weights = frame.sizes / all_looked
    return Total(
        name,
        _mapped(sample, inside, codes),
        int(found.sum()),
        float((frame.sizes / looked * found).sum()),
        float(low),
        float(high),
        float((weights * found).sum()),
        float((weights * (found + frame.silent)).sum()),
        _others(sample, frame, codes, level),
    )


def _mapped(sample: Sample, inside: np.ndarray, codes: Sequence[int]) -> int | None:
    """What the map said of these buildings when the sample was drawn."""
    if PHANTOM in codes:
        return None
    return int(np.isin(sample.predicted[inside], codes).sum())


def _others(
    sample: Sample, frame: _Frame, codes: Sequence[int], level: float
) -> dict[str, tuple[float, float | None, float | None]]:
    """The difference and the prediction-powered estimate; neither is there for what the model says nothing of."""
    if PHANTOM in codes or len(codes) == len(DAMAGE.names) - 1:
        return {}
    chance = sample.probabilities[:, list(codes)].sum(axis=1)
    inside = frame.stratum >= 0
    drawn = Drawn(
        frame.sizes,
        np.bincount(frame.stratum[inside], weights=chance[inside], minlength=len(frame.sizes)),
        frame.stratum[frame.rows],
        np.isin(frame.codes, codes).astype(float),
        chance[frame.rows],
    )
    estimates = {}
    for name, weight in (
        ("difference", np.ones(len(frame.rows))),
        ("prediction-powered", tuned_weight(drawn)),
    ):
        point, variance, freedom = model_assisted(drawn, weight)
        bounds: tuple[float | None, float | None] = (None, None)
        if frame.looked.min() > 1:
            low, high = logit_interval(point, variance, freedom, float(frame.sizes.sum()), level=level)
            if np.isfinite(low) and variance > 0:
                bounds = (float(low), float(high))
        estimates[name] = (float(point), *bounds)
    return estimates


def _small_area(
    sample: Sample, inside: np.ndarray, looked: Looked, head: tuple[int, int, int, int], level: float
) -> Estimate:
    """What the model says of a part, with the errors that the whole sample shows, by stratum."""
    everywhere = np.ones(len(sample.ids), bool)
    try:
        frame = _Frame.of(sample, everywhere, looked, looked.codes >= 0)
    except ValueError as error:
        return Estimate(*head, MODEL_ASSISTED, {}, (str(error),))
    sizes = np.bincount(frame.stratum[inside], minlength=len(frame.sizes))
    count, most = frame.looked, float(sizes.sum())
    totals = {}
    for name, codes in kinds_of(binary=sample.binary).items():
        is_known = PHANTOM not in codes and len(codes) < len(DAMAGE.names) - 1
        chance = sample.probabilities[:, list(codes)].sum(axis=1) if is_known else np.zeros(len(sample.ids))
        values = np.isin(frame.codes, codes).astype(float)
        drawn = Drawn(frame.sizes, frame.sizes * 0.0, frame.stratum[frame.rows], values, chance[frame.rows])
        weight = tuned_weight(drawn, folds=1)
        errors = drawn.means(values - weight * chance[frame.rows])
        tuned = float(weight[0])
        point = float(np.clip(tuned * chance[inside].sum() + (sizes * errors).sum(), 0, most))
        # a share that is one half of an answer away from nothing: never without any spread
        share = (frame.found(codes) + 0.5) / (count + 1)
        spread = share * (1 - share)
        variance = float((sizes**2 * spread / count + sizes * spread).sum())
        safe = float(np.clip(point, 0.5, most - 0.5)) if most > 1 else most / 2
        low, high = logit_interval(
            np.array(safe), np.array(variance), np.array(float(count.sum())), most, level=level
        )
        found = int(np.isin(looked.codes[inside[looked.rows]], codes).sum())
        totals[name] = Total(
            name,
            _mapped(sample, inside, codes),
            found,
            point,
            min(float(low), point),
            max(float(high), point),
            point,
            point,
            {},
        )
    note = (
        "model-assisted: too few answers lie here, so this is what the model says, corrected by its errors elsewhere; "
        "it holds as far as it errs here as it does there"
    )
    return Estimate(*head, MODEL_ASSISTED, totals, (note, *frame.notes))
