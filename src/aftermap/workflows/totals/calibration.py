"""What the model's probabilities are worth on an event: calibrated, sets that hold the truth, and when to be silent.

All three are learned from the answers of the probability sample, each weighted by the buildings that it stands for, and
so speak of all buildings of the map. Answers "not a building" and "cannot tell" take no part.

Sources: Guo et al. 2017, temperature; Zadrozny & Elkan 2002, isotonic; Vovk et al., "Algorithmic learning in a random
world" (2005), Mondrian conformal prediction; Tibshirani et al. 2019, weights; Angelopoulos et al., "Learn then test"
(2021), a threshold with a stated risk.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

FEWEST = 50
"""Answers below which confidence is not calibrated."""

UNCHANGED = "none"
"""The method where no calibration does better than the model."""

FOLDS = 5
_LEAST_P = 1e-4

Calibration = Callable[[np.ndarray], np.ndarray]
"""Probabilities (n, K) to calibrated ones (n, K)."""


@dataclass(frozen=True)
class Points:
    """Answered buildings to learn from.

    Attributes:
        probabilities: of the model, (n, K): of no damage to destroyed, or of not destroyed and destroyed.
        predicted: class of the map, int (n,).
        truth: class that was answered, int (n,).
        weights: buildings that each stands for, (n,).
    """

    probabilities: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, rows: np.ndarray) -> "Points":
        """Some of them."""
        return Points(self.probabilities[rows], self.predicted[rows], self.truth[rows], self.weights[rows])


@dataclass(frozen=True)
class Calibrated:
    """How confidence was calibrated.

    Attributes:
        method: temperature, isotonic, or none where neither does better on answers that it has not seen.
        losses: mean negative log-likelihood of each on those, by cross-validation.
        apply: the calibration.
    """

    method: str
    losses: dict[str, float]
    apply: Calibration = field(repr=False)


def calibrate(points: Points, *, seed: int = 0) -> Calibrated | None:
    """Calibrate on the event, by whatever does best in cross-validation; None for fewer than `FEWEST` answers."""
    if len(points) < FEWEST:
        return None
    fits: dict[str, Callable[[Points], Calibration]] = {
        UNCHANGED: lambda _: _unchanged,
        "temperature": _temperature,
        "isotonic": _isotonic,
    }
    fold = np.random.default_rng(seed).permutation(len(points)) % FOLDS
    losses = {}
    for name, fit in fits.items():
        losses[name] = 0.0
        for number in range(FOLDS):
            held = points.part(fold == number)
            shares = fit(points.part(fold != number))(held.probabilities)
            losses[name] += _loss(shares, held) * held.weights.sum() / points.weights.sum()
    best = min(losses, key=lambda name: losses[name])
    return Calibrated(best, losses, fits[best](points))


def conformal_sets(
    points: Points, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray, *, level: float
) -> np.ndarray:
    """Sets of classes that hold the truth of a building with a probability of `level`.

    The statement holds among the buildings of each predicted class (Mondrian), not only over all. Where a class has too
    few answers its sets hold every class.

    Args:
        points: answered buildings.
        probabilities: of the buildings that are asked about, (m, K).
        predicted: their classes, int (m,).
        weights: buildings that each of them would stand for in the sample, (m,).
        level: such as 0.9.

    Returns:
        Whether each class is in the set, bool (m, K).
    """
    inside = np.ones(probabilities.shape, bool)
    for kind in range(probabilities.shape[1]):
        mine = points.part(points.predicted == kind)
        asked = predicted == kind
        scores = 1 - mine.probabilities[np.arange(len(mine)), mine.truth]
        order = np.argsort(scores)
        ahead = np.concatenate([np.cumsum(mine.weights[order][::-1])[::-1], [0]])
        own = weights[asked, None]
        place = np.searchsorted(scores[order], 1 - probabilities[asked] - 1e-12)
        p_value = (ahead[place] + own) / (mine.weights.sum() + own)
        inside[asked] = p_value > 1 - level
    return inside


@dataclass(frozen=True)
class Silence:
    """From which confidence on the map speaks.

    Attributes:
        risk: share of wrong classes that is promised among what is told.
        threshold: least confidence; None where no threshold keeps the promise with these answers.
        curve: for each threshold the share of buildings told, the share of wrong classes among them, and its upper bound.
    """

    risk: float
    threshold: float | None
    curve: tuple[dict[str, float], ...]


def silence(points: Points, confidence: np.ndarray, *, risk: float, level: float = 0.95) -> Silence:
    """The lowest confidence from which on a share of wrong classes is promised.

    Thresholds are tried from the most confident down, and the first one whose upper bound breaks the promise ends it: the
    promise holds with a probability of `level` although many are tried.

    Args:
        points: answered buildings.
        confidence: of the predicted class of each, (n,).
        risk: share of wrong classes that is allowed.
        level: of the upper bound.
    """
    from scipy import special

    wrong = points.predicted != points.truth
    curve: list[dict[str, float]] = []
    threshold, is_kept = None, True
    everyone = points.weights.sum()
    for least in np.unique(np.round(confidence, 3))[::-1]:
        told = confidence >= least - 5e-4
        weights = points.weights[told]
        share = float((weights * wrong[told]).sum() / weights.sum())
        answers = float(weights.sum() ** 2 / (weights**2).sum())  # Kish's effective number
        bound = float(special.betaincinv(share * answers + 1, max(answers * (1 - share), 1e-9), level))
        bound = max(bound, share)
        curve.append(
            {
                "threshold": float(least),
                "told": float(weights.sum() / everyone),
                "risk": share,
                "bound": bound,
            }
        )
        # too few to promise anything are no reason to stop trying
        is_kept = is_kept and (bound <= risk or (1 - (1 - level) ** (1 / answers)) > risk)
        if is_kept and bound <= risk:
            threshold = float(least)
    return Silence(risk, threshold, tuple(curve))


def _unchanged(probabilities: np.ndarray) -> np.ndarray:
    return probabilities


def _loss(shares: np.ndarray, points: Points) -> float:
    own = np.clip(shares[np.arange(len(points)), points.truth], _LEAST_P, 1)
    return float(-(points.weights * np.log(own)).sum() / points.weights.sum())


def _cooled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    logits = np.log(np.clip(probabilities, _LEAST_P, 1)) / temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _temperature(points: Points) -> Calibration:
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: _loss(_cooled(points.probabilities, float(np.exp(log))), points),
        bounds=(-2.5, 2.5),
        method="bounded",
    )
    temperature = float(np.exp(found.x))
    return lambda probabilities: _cooled(probabilities, temperature)


def _isotonic(points: Points) -> Calibration:
    """p(damaged) made right; the levels of damage keep their shares of it."""
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0.5 / len(points), y_max=1 - 0.5 / len(points), out_of_bounds="clip")
    fit.fit(1 - points.probabilities[:, 0], points.truth > 0, sample_weight=points.weights)

    def apply(probabilities: np.ndarray) -> np.ndarray:
        damaged = np.asarray(fit.predict(1 - probabilities[:, 0]))
        levels = np.clip(probabilities[:, 1:], _LEAST_P, 1)
        levels = levels / levels.sum(axis=1, keepdims=True) * damaged[:, None]
        return np.column_stack([1 - damaged, levels])

    return apply
