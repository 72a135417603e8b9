"""Counts pooled over scenes: F1, harmonic means, and bootstrap intervals that resample the scenes."""

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

INTERVAL_PERCENT = 95.0

Metrics = dict[str, np.ndarray]
Intervals = dict[str, tuple[float, float]]
Scores = TypeVar("Scores", covariant=True)

_HARMONIC_EPSILON = 1e-6
_RESAMPLES_AT_ONCE = 100


class SceneTables:
    """Count vectors of equal length by scene, in the order in which scenes came."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._counts: dict[tuple[str, str], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, counts: np.ndarray, *, event: str, scene: str) -> None:
        """Add counts (length,) to those of the scene."""
        key = (event, scene)
        self._counts[key] = self._counts.get(key, 0) + counts

    def merge(self, other: "SceneTables") -> None:
        """Add what was counted elsewhere, its scenes behind these."""
        for (event, scene), counts in other._counts.items():
            self.add(counts, event=event, scene=scene)

    @property
    def counts(self) -> np.ndarray:
        """int64 (scenes, length)."""
        return np.array(list(self._counts.values()), np.int64).reshape(-1, self._length)

    def by_event(self) -> dict[str, np.ndarray]:
        """int64 (scenes of the event, length) by event, sorted by name."""
        names = np.array([event for event, _ in self._counts], dtype=object)
        counts = self.counts
        return {event: counts[names == event] for event in sorted(set(names.tolist()))}


def f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """F1 from counts, by way of precision and recall; 0 where there is no true positive."""
    found = tp > 0
    precision, recall = (np.divide(tp, tp + wrong, out=np.zeros_like(tp), where=found) for wrong in (fp, fn))
    mean: np.ndarray = np.divide(
        2 * precision * recall, precision + recall, out=np.zeros_like(tp), where=found
    )
    return mean


def harmonic_mean(values: np.ndarray, *, where: np.ndarray | None = None) -> np.ndarray:
    """Harmonic mean of `values` + 1e-6 over the last axis; NaN where `where` leaves none."""
    used = np.ones(values.shape, bool) if where is None else where
    return ratio(
        used.sum(axis=-1).astype(float), np.where(used, 1 / (values + _HARMONIC_EPSILON), 0).sum(axis=-1)
    )


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, NaN where `whole` is 0."""
    share: np.ndarray = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return share


def resample(
    counts: np.ndarray, metrics: Callable[[np.ndarray], Metrics], *, resamples: int, seed: int
) -> Intervals:
    """Percentile bootstrap over scenes: 95 % intervals of pooled metrics.

    Args:
        counts: (scenes, length), one count vector per scene.
        metrics: maps pooled vectors (resamples, length) to metrics (resamples,).
        resamples: draws of as many scenes as there are, with replacement.
        seed: of the draws.

    Returns:
        (low, high) by metric name, without those that no resample could measure; empty below two scenes.
    """
    scenes = len(counts)
    if scenes < 2 or resamples < 1:
        return {}
    generator = np.random.default_rng(seed)
    table = counts.astype(float)  # exact up to 2**53, and float matrices multiply fast
    parts = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        draws = min(_RESAMPLES_AT_ONCE, resamples - start)
        times = generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=draws).astype(float)
        parts.append(metrics(times @ table))
    edges = [(100 - INTERVAL_PERCENT) / 2, (100 + INTERVAL_PERCENT) / 2]
    intervals = {}
    for name in parts[0]:
        drawn = np.concatenate([part[name] for part in parts])
        if not np.isnan(drawn).all():
            low, high = np.nanpercentile(drawn, edges)
            intervals[name] = (float(low), float(high))
    return intervals


class FiguresOf(Protocol[Scores]):
    """Makes scores of the counts of some scenes, (scenes, length), and of the intervals of their metrics."""

    def __call__(self, counts: np.ndarray, intervals: Intervals, events: dict[str, Any], /) -> Scores:
        """The scores; `events` holds those of single events, and is empty for these."""
        ...


def pooled(
    tables: SceneTables,
    metrics: Callable[[np.ndarray], Metrics],
    figures: FiguresOf[Scores],
    *,
    bootstrap: int,
    seed: int,
) -> Scores:
    """Scores over all scenes, with those of every event: the frame that all scores from counts share.

    Args:
        tables: what was counted.
        metrics: of pooled count vectors; see `resample`.
        figures: from counts and intervals to scores.
        bootstrap: resamples of the scenes for the 95 % intervals; 0 leaves them out.
        seed: the same seed gives the same intervals.

    Raises:
        ValueError: no scene was added.
    """
    if not len(tables):
        raise ValueError("no scene was added, so there is nothing to score")

    def of(counts: np.ndarray, events: dict[str, Any]) -> Scores:
        return figures(counts, resample(counts, metrics, resamples=bootstrap, seed=seed), events)

    return of(tables.counts, {event: of(counts, {}) for event, counts in tables.by_event().items()})


def plain(value: Any) -> Any:
    """`value` with tuples as lists and numbers that could not be measured as None, for JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
