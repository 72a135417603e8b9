"""How many more answers a total needs, and where they would fall."""

from dataclasses import dataclass

import numpy as np

from aftermap.errors import InputError
from aftermap.workflows.totals.estimate import Looked, kinds_of
from aftermap.workflows.totals.intervals import LEVEL, stratified_interval
from aftermap.workflows.totals.sampling import Sample, timetable


@dataclass(frozen=True)
class Further:
    """What it takes to know a total so well.

    Attributes:
        kind: of total, a key of `estimate.kinds_of`.
        target: half the interval, as a share of the estimate.
        now: the same today; None where nothing of the kind was found.
        answers: that are there.
        more: answers that are expected to be needed; 0 where the target is met, None where it cannot be told.
        strata: by name, how many of them fall where.
    """

    kind: str
    target: float
    now: float | None
    answers: int
    more: int | None
    strata: dict[str, int]


def answers_needed(
    sample: Sample, looked: Looked, target: float, *, kind: str | None = None, level: float = LEVEL
) -> Further:
    """How many answers in all give an interval of plus or minus `target` of the estimate.

    What further answers will say is expected from those that are there: the share that was found in each stratum, drawn a
    little towards that of the whole sample. The sample goes on in its own order.

    Args:
        sample: the sample.
        looked: its answers; see `estimate.looked_at`.
        target: half the interval, as a share of the estimate, above 0.
        kind: of total; by default the first of the map's.
        level: of confidence.

    Raises:
        InputError: nothing of that kind is counted of the map.
    """
    kinds = kinds_of(binary=sample.binary)
    kind = kind or next(iter(kinds))
    if kind not in kinds:
        raise InputError(
            f"a map of the image after alone has no total of {kind}: it tells destroyed from not; leave --of out"
        )
    told = looked.codes >= 0
    stratum = sample.stratum[looked.rows[told]]
    count = len(sample.strata)
    looked_now = np.bincount(stratum, minlength=count)
    is_found = np.isin(looked.codes[told], kinds[kind])
    found = np.bincount(stratum[is_found], minlength=count)
    answers = int(told.sum())
    if not found.any() or not looked_now.all():
        return Further(kind, target, None, answers, None, {})
    overall = (sample.sizes / looked_now * found).sum() / sample.sizes.sum()
    share = (found + overall) / (looked_now + 1)
    expected = float((sample.sizes * share).sum())

    def half_width(allocation: np.ndarray) -> float:
        low, high = stratified_interval(sample.sizes, allocation, share * allocation, level=level)
        return float(high - low) / 2 / expected

    spreads = np.array([each.spread for each in sample.strata])
    turns = timetable(sample.sizes, spreads, len(sample.ids), looked_now)

    def allocated(more: int) -> np.ndarray:
        return looked_now + np.bincount(np.array(turns[:more], np.int64), minlength=count)

    low, high = stratified_interval(sample.sizes, looked_now, found, level=level)
    now = float(high - low) / 2 / float((sample.sizes / looked_now * found).sum())
    if now <= target:
        return Further(kind, target, now, answers, 0, {})
    few, enough = 0, len(turns)  # a full count always does
    while enough - few > 1:
        middle = (few + enough) // 2
        if half_width(allocated(middle)) <= target:
            enough = middle
        else:
            few = middle
    where = allocated(enough) - looked_now
    strata = {each.name: int(n) for each, n in zip(sample.strata, where, strict=True) if n}
    return Further(kind, target, now, answers, enough, strata)
