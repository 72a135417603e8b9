"""How two gradings of the same things agree: a confusion with its shares and intervals, kappa, the area under the ROC."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_Z = 1.959963984540054
"""Of 95 %."""


@dataclass(frozen=True)
class Share:
    """A share with its Wilson interval of 95 %.

    Attributes:
        count: so many.
        of: of so many.
    """

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Limits of Wilson's score interval; None of nothing.

        Source: Wilson 1927; Brown, Cai and DasGupta 2001, equation 4.
        """
        if not self.of:
            return None
        n, p = self.of, self.count / self.of
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        reach = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, to four decimals."""
        limits = self.interval
        return {
            "value": None if self.value is None else round(self.value, 4),
            "interval_95": None if limits is None else [round(limit, 4) for limit in limits],
            "count": self.count,
            "of": self.of,
        }


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts, int (classes, classes): rows are the truth, columns what was predicted.

    Args:
        truth: (n,) class indices.
        predicted: (n,) likewise.
        classes: how many.
    """
    counts: np.ndarray = np.bincount(truth * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def accuracy(counts: np.ndarray) -> Share:
    """The share on the diagonal."""
    return Share(int(np.trace(counts)), int(counts.sum()))


def recall(counts: np.ndarray, index: int) -> Share:
    """Of what is of a class, the share that was predicted so."""
    return Share(int(counts[index, index]), int(counts[index].sum()))


def precision(counts: np.ndarray, index: int) -> Share:
    """Of what was predicted of a class, the share that is so."""
    return Share(int(counts[index, index]), int(counts[:, index].sum()))


def f1(counts: np.ndarray, index: int) -> float | None:
    """Harmonic mean of precision and recall; None where the class occurs on neither side."""
    of = int(counts[index].sum() + counts[:, index].sum())
    return 2 * int(counts[index, index]) / of if of else None


def kappa(counts: np.ndarray) -> float | None:
    """Agreement beyond chance; None where all are of one class on both sides, or there are none.

    Source: Cohen 1960.
    """
    total = counts.sum()
    if not total:
        return None
    expected = float(counts.sum(axis=0) @ counts.sum(axis=1)) / float(total) ** 2
    return None if expected >= 1 else float((np.trace(counts) / total - expected) / (1 - expected))


def area_under_roc(is_positive: np.ndarray, score: np.ndarray) -> float | None:
    """How likely a positive has a higher score than a negative, ties counting half; None where one kind is absent.

    Args:
        is_positive: bool (n,).
        score: float (n,), finite.
    """
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        return None
    _, which, count = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    rank = (ends - (count - 1) / 2)[which]
    wins = rank[is_positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))
