"""The model: a logistic regression over the levels of damage that begins with what the map says, and one of phantoms."""

from dataclasses import dataclass

import numpy as np

from aftermap.workflows.event_model.described import Described

LEVELS = 4
STRENGTH = 0.3
"""Inverse of the penalty; with columns scaled as `described` scales them, right for 30 to 500 answers."""

CONSTANT = 1.0
"""The same for what is added to a level everywhere."""

FEWEST_OF_A_LEVEL = 3
"""Answered buildings of a level of the map below which the others of that level stay as they are."""

_LEAST_P = 1e-3

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


def fit_levels(
    described: Described, rows: np.ndarray, levels: np.ndarray, weights: np.ndarray | None = None
) -> LevelModel:
    """Fit to some buildings and predict all.

    The map's own probabilities are the prior: what is learnt are corrections to their logarithms, linear in the
    features and a constant for each level, both drawn towards none. So few answers change little, and a level that nobody
    answered keeps what the map says of it.

    Args:
        described: the buildings.
        rows: those that were answered, int (m,).
        levels: what was answered, 0 (no damage) to 3 (destroyed), int (m,).
        weights: of the answers, of any mean, (m,); alike by default.
    """
    from scipy.optimize import minimize

    width = described.values.shape[1]
    prior = np.log(np.clip(np.nan_to_num(described.own, nan=1 / LEVELS), _LEAST_P, 1))
    features, start, truth = described.values[rows], prior[rows], np.eye(LEVELS)[levels]
    weight = np.ones(len(rows)) if weights is None else weights / weights.mean()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        slopes, constants = flat[:-LEVELS].reshape(width, LEVELS), flat[-LEVELS:]
        told = _shares(start + features @ slopes + constants)
        own = np.maximum(told[np.arange(len(levels)), levels], 1e-300)
        penalty = (slopes**2).sum() / STRENGTH + (constants**2).sum() / CONSTANT
        error = weight[:, None] * (told - truth)
        slope = np.concatenate(
            [(features.T @ error + slopes / STRENGTH).ravel(), error.sum(axis=0) + constants / CONSTANT]
        )
        return float(-(weight * np.log(own)).sum() + penalty / 2), slope

    found = minimize(
        loss, np.zeros((width + 1) * LEVELS), jac=True, method="L-BFGS-B", options={"maxiter": 300}
    ).x
    slopes, constants = found[:-LEVELS].reshape(width, LEVELS), found[-LEVELS:]
    counts = np.bincount(levels, weights=weight, minlength=LEVELS) + 0.5
    return LevelModel(_shares(prior + described.values @ slopes + constants), counts / counts.sum())


def unknown_levels(before: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Levels of the map of which so few buildings were answered that nothing is known of them, bool (4,).

    Buildings that the map gives such a level keep what the map says: a level that nobody looked at must not vanish.

    Args:
        before: level of each building by the map, int (n,).
        rows: those that were answered, int (m,).
    """
    few: np.ndarray = np.bincount(before[rows], minlength=LEVELS)[:LEVELS] < FEWEST_OF_A_LEVEL
    return few


def _shares(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


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
