"""What repeated timings say: a median with its interval, when it is stable, and ratios paired by rounds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
