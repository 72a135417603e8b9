"""Measures candidates in turns, so that what drifts in the machine meets all of them alike."""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aftermap.workflows.bench.process import CandidateError
from aftermap.workflows.bench.statistics import is_stable

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
