"""Figures of a benchmark: by fold, mean over folds, with intervals over scenes and events, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aftermap.scoring.counts import INTERVAL_PERCENT, Metrics, plain, ratio
from aftermap.scoring.given_buildings import given_metrics, reliability, risk_coverage
from aftermap.scoring.objects import building_metrics
from aftermap.scoring.pixels import pixel_metrics
from aftermap.workflows.benchmark.counting import SceneCounts

FIGURES = {
    "localization_f1": "localization F1",
    "official_score": "xView2 score",
    "found_f1": "buildings found, F1",
    "phantoms": "phantoms",
    "auc_damaged": "AUC damaged",
    "auc_destroyed": "AUC destroyed",
    "accuracy": "accuracy",
    "none_accuracy": "accuracy of “none”",
    "macro_f1": "macro F1",
    "f1_damaged": "F1 damaged",
    "ece": "ECE",
    "brier": "Brier",
    "aurc": "AURC",
}
"""Every figure and what it is called."""

LOWER_IS_BETTER = frozenset({"phantoms", "ece", "brier", "aurc"})
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures with their draws.

    Attributes:
        values: by figure; nan where it could not be measured.
        draws: by figure, (resamples,); empty without resamples.
    """

    values: dict[str, float]
    draws: Metrics

    def as_dict(self) -> dict[str, Any]:
        """Plain values and 95 % intervals for JSON."""
        return {
            "values": {name: plain(round(value, 5)) for name, value in self.values.items()},
            "intervals": {
                name: [round(float(edge), 5) for edge in edges]
                for name, draw in self.draws.items()
                if (edges := interval(draw)) is not None
            },
        }


def of_scenes(counts: Sequence[SceneCounts], *, resamples: int, seed: int) -> Figures:
    """Figures of scenes pooled; draws resample the scenes, alike for all models of the same scenes and seed."""
    scenes = len(counts)
    values = _measured(counts, np.ones((1, scenes)))
    drawn: list[Metrics] = []
    generator = np.random.default_rng(seed)
    if scenes > 1:
        for start in range(0, resamples, _AT_ONCE):
            size = min(_AT_ONCE, resamples - start)
            times = generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=size).astype(np.float64)
            drawn.append(_measured(counts, times))
    draws = {name: np.concatenate([part[name] for part in drawn]) for name in FIGURES} if drawn else {}
    return Figures({name: float(value[0]) for name, value in values.items()}, draws)


def mean_over(folds: Sequence[Figures], *, seed: int) -> Figures:
    """The mean over folds; draws resample the folds, and the scenes within each.

    A figure that a fold cannot have, such as an AUC without a damaged building, takes no part in it.
    """
    values = {name: _mean([fold.values[name] for fold in folds]) for name in FIGURES}
    if len(folds) == 1:
        return Figures(values, folds[0].draws)
    if not all(fold.draws for fold in folds):
        return Figures(values, {})
    resamples = len(next(iter(folds[0].draws.values())))
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(folds), size=(resamples, len(folds)))
    # the same fold drawn twice stands for two sets of scenes: each takes a resample of its own
    shifted = (np.arange(resamples)[:, None] + np.arange(len(folds)) * (resamples // len(folds))) % resamples
    draws = {}
    for name in FIGURES:
        table = np.stack([fold.draws[name] for fold in folds])
        drawn = table[chosen, shifted]
        known = ~np.isnan(drawn)
        draws[name] = ratio(np.where(known, drawn, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
    return Figures(values, draws)


def mean_of_seeds(seeds: Sequence[Figures]) -> Figures:
    """The mean over runs that differ in their seed alone, draw by draw."""
    values = {name: _mean([one.values[name] for one in seeds]) for name in FIGURES}
    if not all(one.draws for one in seeds):
        return Figures(values, {})
    return Figures(values, {name: np.mean([one.draws[name] for one in seeds], axis=0) for name in FIGURES})


def difference(one: Figures, other: Figures) -> dict[str, dict[str, Any]]:
    """By figure: `one` less `other` over the same draws, its 95 % interval, and whether 0 lies outside."""
    found = {}
    for name in FIGURES:
        gap = one.values[name] - other.values[name]
        edges = interval(one.draws[name] - other.draws[name]) if one.draws and other.draws else None
        if np.isfinite(gap):
            found[name] = {
                "difference": round(gap, 5),
                "interval": None if edges is None else [round(float(edge), 5) for edge in edges],
                "clear": edges is not None and not edges[0] <= 0 <= edges[1],
            }
    return found


def interval(draws: np.ndarray) -> tuple[float, float] | None:
    """Edges between which 95 % of the draws lie; None where fewer than half could be measured."""
    known = draws[~np.isnan(draws)]
    if not len(draws) or len(known) < len(draws) / 2:
        return None
    low, high = np.percentile(known, [(100 - INTERVAL_PERCENT) / 2, (100 + INTERVAL_PERCENT) / 2])
    return float(low), float(high)


def curves(counts: Sequence[SceneCounts]) -> dict[str, Any]:
    """Reliability and risk-coverage of all given buildings, for JSON."""
    own, truth = (np.concatenate([getattr(one, name) for one in counts]) for name in ("own", "truth"))
    if not len(truth):
        return {"reliability": [], "risk_coverage": []}
    return {
        "reliability": [[round(p, 4), round(share, 4), count] for p, share, count in reliability(own, truth)],
        "risk_coverage": [[round(told, 4), round(risk, 4)] for told, risk in risk_coverage(own, truth)],
    }


def cost(counts: Sequence[SceneCounts]) -> float:
    """Processor seconds of the network per megapixel; the median over scenes, as the first one warms up."""
    return float(np.median([one.seconds / one.mpx for one in counts]))


def _measured(counts: Sequence[SceneCounts], times: np.ndarray) -> Metrics:
    """All figures for rows of how often each scene counts (resamples, scenes)."""
    pixels = pixel_metrics(times @ np.stack([one.pixels for one in counts]).astype(np.float64))
    summed = times @ np.stack([one.buildings for one in counts]).astype(np.float64)
    buildings = building_metrics(summed)
    own, decided, truth = (
        np.concatenate([getattr(one, name) for one in counts]) for name in ("own", "decided", "truth")
    )
    scene = np.repeat(np.arange(len(counts)), [len(one.truth) for one in counts])
    given = given_metrics(own, decided, truth, times[:, scene])
    named: Mapping[str, np.ndarray] = {
        "localization_f1": pixels["localization_f1"],
        "official_score": pixels["score"],
        "found_f1": buildings["localization_f1"],
        "phantoms": ratio(summed[:, :5].sum(axis=1), summed[:, 25] + summed[:, 26]),
        **given,
    }
    return {name: named[name] for name in FIGURES}


def _mean(values: Sequence[float]) -> float:
    """Mean of what could be measured; nan of nothing."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
