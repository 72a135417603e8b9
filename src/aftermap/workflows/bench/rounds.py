"""Measures candidates in turns, so that what drifts in the machine meets all of them alike."""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aftermap.workflows.bench.process import CandidateError

VISIT_SECONDS = 0.5
MOST_CALLS = 20
_UNTIMED_BELOW_SECONDS = 1.0


@dataclass
class Track:
    """One participant of the rounds and what was measured of it.

    Attributes:
        name: for messages.
        ask: measures `calls` calls after `untimed` ones; raises `CandidateError` where the process died.
        calls: per visit.
        untimed: calls before them in each visit.
        judged: whether the rounds go on until its median is stable.
        visits: what `ask` gave, by round.
        failure: why it takes no part any more.
    """

    name: str
    ask: Callable[[int, int], dict[str, Any]]
    calls: int = 1
    untimed: int = 1
    judged: bool = True
    visits: dict[int, dict[str, Any]] = field(default_factory=dict)
    failure: str | None = None

    @property
    def medians(self) -> dict[int, float]:
        """Seconds per call, by round: the median of the visit's calls."""
        return {number: statistics.median(visit["seconds"]) for number, visit in self.visits.items()}

    @property
    def is_settled(self) -> bool:
        """Whether nothing more needs to be measured of it."""
        return not self.judged or self.failure is not None or is_stable(list(self.medians.values()))

    def pace(self, seconds: float) -> None:
        """Choose the calls per visit: about `VISIT_SECONDS`; one call warms the caches up where that is cheap.

        Args:
            seconds: that one call takes.
        """
        self.calls = min(MOST_CALLS, max(1, round(VISIT_SECONDS / seconds)))
        self.untimed = 1 if seconds < _UNTIMED_BELOW_SECONDS else 0


def run_rounds(
    tracks: Sequence[Track],
    *,
    seconds: float,
    clock: Callable[[], float],
    seed: int = 0,
    on_round: Callable[[int], None] | None = None,
) -> str:
    """Visit every participant once per round, in an order that is shuffled for each, until all are stable.

    The first round is always finished; after it the rounds end in the middle of one where the time is spent, which
    harms nothing as ratios are taken within rounds.

    Args:
        tracks: filled in place; one whose process dies leaves the rounds with its `failure`.
        seconds: the time to spend at most.
        clock: the time in seconds.
        seed: of the orders.
        on_round: called with the number of rounds finished.

    Returns:
        Why it ended: `stable`, `time` or `failed` (nothing is left to measure).
    """
    generator, begin, number = random.Random(seed), clock(), 0
    while True:
        alive = [track for track in tracks if track.failure is None]
        if not any(track.judged for track in alive):
            return "failed"
        for track in generator.sample(alive, len(alive)):
            if number and clock() - begin >= seconds:
                return "time"
            try:
                track.visits[number] = track.ask(track.calls, track.untimed)
            except CandidateError as error:
                track.failure = f"{error} (in round {number + 1})"
        number += 1
        if on_round is not None:
            on_round(number)
        if all(track.is_settled for track in tracks) and any(
            track.failure is None for track in tracks if track.judged
        ):
            return "stable"


CONFIDENCE = 0.95
STABLE_HALF_WIDTH = 0.02


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and its interval.

    Attributes:
        median: of the values.
        low: lower end of the 95 % interval of the median; None with fewer than six values, which cannot give one.
        high: upper end.
    """

    median: float
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float:
        """Half of the interval as a share of the median; infinite where there is none."""
        if self.low is None or self.high is None:
            return math.inf
        return (self.high - self.low) / 2 / self.median


def estimate(values: Sequence[float]) -> Estimate:
    """The median of values and its distribution-free interval between two order statistics.

    Args:
        values: independent repeats, at least one.

    Source: the sign test: the number of values below the true median is binomial(n, 1/2), so the k-th smallest and
    the k-th largest enclose it with probability 1 - 2 P(B < k).
    """
    ordered = sorted(values)
    rank = _rank(len(ordered))
    median = statistics.median(ordered)
    return Estimate(median) if rank == 0 else Estimate(median, ordered[rank - 1], ordered[-rank])


def is_stable(values: Sequence[float], *, half_width: float = STABLE_HALF_WIDTH) -> bool:
    """Whether the interval of the median reaches less than `half_width` (a share of it) to either side."""
    return bool(values) and estimate(values).half_width < half_width


def paired_ratio(above: Mapping[int, float], below: Mapping[int, float]) -> Estimate | None:
    """`above / below` in the rounds that both have: what drifts over a run changes both and cancels.

    Args:
        above: value by round.
        below: value by round.

    Returns:
        Median and interval of the ratios by round; None where no round has both.
    """
    shared = [above[number] / below[number] for number in sorted(above.keys() & below.keys())]
    return estimate(shared) if shared else None


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, linear between neighbours (numpy's default)."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _rank(count: int) -> int:
    """Largest k with 2 P(B < k) <= 1 - `CONFIDENCE` for B binomial(count, 1/2); 0 where none is."""
    rank, tail = 0, 0.0
    while True:
        tail += math.comb(count, rank) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            return rank
        rank += 1
