"""Buildings whose outlines are given: how well their damage is told, ranked, and believed.

Figures are functions of the buildings and of weights, one row of weights for each resample, so that a thousand of them
cost a few matrix products.
"""

import numpy as np

from aftermap.scoring.counts import Metrics, f1, ratio

BINS = 15
"""Bins of equal width of the expected calibration error, Guo et al. 2017."""


def given_metrics(own: np.ndarray, decided: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> Metrics:
    """All figures of given buildings, each (resamples,); nan where nothing could be measured.

    Args:
        own: probabilities (n, 4) of none, minor, major, destroyed that sum to 1.
        decided: class 0 to 3 that was decided (n,).
        truth: class 0 to 3 (n,).
        weights: how often each building counts (resamples, n), 0 or more.

    Returns:
        `accuracy` and `none_accuracy`, that of "no damage" for all; `f1_damaged` and `macro_f1` of what was decided;
        `auc_damaged` and `auc_destroyed`; `ece` and `brier` of the probabilities; `aurc`, the mean error when the
        surest buildings are told first, over all shares that are told (Geifman and El-Yaniv 2017).
    """
    weights = np.asarray(weights, np.float64)
    total = weights.sum(axis=1)
    right = (own.argmax(axis=1) == truth).astype(np.float64)
    sure = own.max(axis=1)
    pairs = np.zeros((len(truth), 16))
    pairs[np.arange(len(truth)), truth * 4 + decided] = 1
    confusion = (weights @ pairs).reshape(-1, 4, 4)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    false, missed = confusion.sum(axis=1) - hits, confusion.sum(axis=2) - hits
    damaged = [confusion[:, 1:, 1:].sum((1, 2)), confusion[:, 0, 1:].sum(1), confusion[:, 1:, 0].sum(1)]
    there = hits + false + missed > 0
    return {
        "accuracy": ratio(hits.sum(axis=1), total),
        "none_accuracy": ratio(confusion[:, 0].sum(axis=1), total),
        "f1_damaged": np.where(np.sum(damaged, axis=0) > 0, f1(*damaged), np.nan),
        "macro_f1": ratio(np.where(there, f1(hits, false, missed), 0).sum(axis=1), there.sum(axis=1)),
        "auc_damaged": auc(1 - own[:, 0], truth > 0, weights),
        "auc_destroyed": auc(own[:, 3], truth == 3, weights),
        "ece": _calibration_error(sure, right, weights),
        "brier": ratio(weights @ ((own - np.eye(4)[truth]) ** 2).sum(axis=1), total),
        "aurc": _risk_area(sure, 1 - right, weights),
    }


def auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve (resamples,): that a positive ranks above a negative, ties by half; nan without either.

    Args:
        score: (n,), higher says positive.
        positive: bool (n,).
        weights: (resamples, n).
    """
    if not len(score):
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    ones = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    zeros = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros / 2
    return ratio((ones * below).sum(axis=1), ones.sum(axis=1) * zeros.sum(axis=1))


def reliability(own: np.ndarray, truth: np.ndarray, *, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean probability of the likeliest class, share that is right, how many) by bin of it; empty bins are left out."""
    sure, right = own.max(axis=1), own.argmax(axis=1) == truth
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return [
        (float(sure[place == b].mean()), float(right[place == b].mean()), int((place == b).sum()))
        for b in np.unique(place)
    ]


def risk_coverage(own: np.ndarray, truth: np.ndarray, *, points: int = 100) -> list[tuple[float, float]]:
    """(share that is told, share of it that is wrong) when the surest buildings are told first; at most `points`."""
    order = np.argsort(-own.max(axis=1), kind="stable")
    wrong = np.cumsum(own.argmax(axis=1)[order] != truth[order])
    told = np.unique(np.linspace(1, len(truth), min(points, len(truth))).round().astype(int))
    return [(float(n / len(truth)), float(wrong[n - 1] / n)) for n in told]


def _calibration_error(sure: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean distance between what was believed and what was right, over bins (resamples,)."""
    bins = np.zeros((len(sure), BINS))
    bins[np.arange(len(sure)), np.minimum((sure * BINS).astype(int), BINS - 1)] = 1
    return ratio(np.abs(weights @ (bins * (sure - right)[:, None])).sum(axis=1), weights.sum(axis=1))


def _risk_area(sure: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area below the risk-coverage curve (resamples,); buildings that are equally sure are told together."""
    if not len(sure):
        return np.full(len(weights), np.nan)
    order = np.argsort(-sure, kind="stable")
    starts = np.flatnonzero(np.diff(-sure[order], prepend=-np.inf))
    told = np.add.reduceat(weights[:, order], starts, axis=1)
    errors = np.cumsum(np.add.reduceat(weights[:, order] * wrong[order], starts, axis=1), axis=1)
    risk = errors / np.maximum(np.cumsum(told, axis=1), 1e-12)
    return ratio((risk * told).sum(axis=1), told.sum(axis=1))
