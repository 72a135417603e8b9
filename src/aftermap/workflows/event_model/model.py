"""The model: a regularised logistic regression over the levels of damage, and one that tells what is no building."""

from dataclasses import dataclass

import numpy as np

LEVELS = 4
STRENGTH = 0.3
"""Inverse of the penalty; with columns scaled as `described` scales them, right for 30 to 500 answers."""

RARE = 0.5
"""Power of a level's share among the answers that divides its probability in the decision: 0 decides for the likeliest
level, 1 counts every level as much as any other. Half is the middle between accuracy and macro F1."""


@dataclass(frozen=True)
class LevelModel:
    """Probabilities of the levels, and a decision.

    Attributes:
        probabilities: of every building (n, 4).
        shares: of the levels among the answers that it was fitted to (4,).
    """

    probabilities: np.ndarray
    shares: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """Level of each building, int (n,): rare ones are not left out for being rare."""
        level: np.ndarray = (self.probabilities * self.shares**-RARE).argmax(axis=1)
        return level


def fit_levels(values: np.ndarray, rows: np.ndarray, levels: np.ndarray) -> LevelModel:
    """Fit to some buildings and predict all.

    Args:
        values: of every building (n, k).
        rows: those that were answered, int (m,).
        levels: what was answered, 0 (no damage) to 3 (destroyed), int (m,).
    """
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(levels, minlength=LEVELS) + 0.5
    found = np.zeros((len(values), LEVELS))
    if len(np.unique(levels)) < 2:
        found[:, levels[:1]] = 1
    else:
        model = LogisticRegression(C=STRENGTH, max_iter=300).fit(values[rows], levels)
        found[:, model.classes_] = model.predict_proba(values)
    return LevelModel(found, counts / counts.sum())


def fit_phantoms(values: np.ndarray, rows: np.ndarray, phantom: np.ndarray) -> np.ndarray:
    """Probability of each building to be none (n,), from answers bool (m,) for some of them."""
    from sklearn.linear_model import LogisticRegression

    if phantom.all() or not phantom.any():
        return np.full(len(values), float(phantom.all()))
    model = LogisticRegression(C=STRENGTH, max_iter=300).fit(values[rows], phantom)
    found: np.ndarray = model.predict_proba(values)[:, 1]
    return found


def softened(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, k) with their logits divided by a temperature."""
    powered = np.clip(probabilities, 1e-6, 1) ** (1 / temperature)
    shares: np.ndarray = powered / powered.sum(axis=1, keepdims=True)
    return shares
