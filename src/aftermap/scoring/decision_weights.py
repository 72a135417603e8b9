"""Decision weights of the damage classes, tuned on scenes that took no part in training.

Training on crops that favour rare classes shifts the balance between them. One factor per class puts it right
without touching the probability that there is a building at all.
"""

import numpy as np

from aftermap.scoring.counts import f1, harmonic_mean

STEPS = np.exp(np.linspace(-2.4, 2.4, 25))
ROUNDS = 3


def reweight(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Shift mass between the damage classes; what they hold together stays.

    Args:
        probabilities: (..., K, H, W) with the background first along the third axis from the end.
        weights: (K - 1,) positive factors of the classes after the background.

    Returns:
        The same shape; sums along the class axis are unchanged.
    """
    damage = probabilities[..., 1:, :, :]
    weighted = damage * weights.astype(probabilities.dtype)[:, None, None]
    total, changed = damage.sum(axis=-3, keepdims=True), weighted.sum(axis=-3, keepdims=True)
    scaled = weighted * (total / np.maximum(changed, np.finfo(probabilities.dtype).tiny))
    result: np.ndarray = np.concatenate([probabilities[..., :1, :, :], scaled], axis=-3)
    return result


def tune_weights(probabilities: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Factors that make the harmonic mean of the class F1 over these pixels largest.

    Coordinate ascent from equal weights; the first class keeps factor 1, as only ratios matter. Classes that do not
    occur in the target keep factor 1 too, since nothing can be learned about them.

    Args:
        probabilities: (N, C) of pixels on target buildings.
        target: (N,) class index 0 to C - 1.

    Returns:
        (C,) factors.
    """
    classes = probabilities.shape[1]
    present = np.bincount(target, minlength=classes) > 0
    weights = np.ones(classes)
    values = np.ascontiguousarray(probabilities.T, float)  # (C, N)
    row = target * classes

    def score(table: np.ndarray) -> float:
        hit = np.diag(table).astype(float)
        per_class = f1(hit, table.sum(axis=0) - hit, table.sum(axis=1) - hit)
        return float(harmonic_mean(per_class[present]))

    if present.sum() < 2:
        return weights
    chosen = (values * weights[:, None]).argmax(axis=0)
    best = score(np.bincount(row + chosen, minlength=classes**2).reshape(classes, classes))
    for _ in range(ROUNDS):
        for index in np.flatnonzero(present[1:]) + 1:
            # while one factor changes, the best of the other classes stays: of equal values the first class wins
            others = np.delete(np.arange(classes), index)
            weighted = values[others] * weights[others, None]
            rival = others[weighted.argmax(axis=0)]
            since = _first_wins(values[index], weighted.max(axis=0), index < rival)
            counts = np.bincount(
                (row + rival) * (len(STEPS) + 1) + since, minlength=classes**2 * (len(STEPS) + 1)
            )
            won = counts.reshape(classes, classes, -1).cumsum(axis=2)  # by target, rival and step
            for number, step in enumerate(STEPS):
                table = won[..., -1] - won[..., number]
                table[:, index] += won[..., number].sum(axis=1)
                if (value := score(table)) > best + 1e-6:
                    best, weights[index] = value, step
    return weights


def _first_wins(own: np.ndarray, height: np.ndarray, wins_ties: np.ndarray) -> np.ndarray:
    """The first of STEPS by which values (N,) reach above heights (N,), or to them where ties are won.

    Factors rise, and so do products: whoever wins once wins with every later one. `len(STEPS)` where none will do.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = height / own
    # the quotient is rounded, so that the factor before it may do, or not even itself; those are a fifth apart
    first: np.ndarray = np.maximum(np.searchsorted(STEPS, quotient) - 1, 0)
    for _ in range(2):
        product = own * STEPS.take(first, mode="clip")
        first += ~((product > height) | ((product == height) & wins_ties))
    nothing = own == 0
    first[nothing] = np.where((height[nothing] == 0) & wins_ties[nothing], 0, len(STEPS))
    found: np.ndarray = np.minimum(first, len(STEPS))
    return found
