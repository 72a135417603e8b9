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

    def score(chosen: np.ndarray) -> float:
        table = np.bincount(row + chosen, minlength=classes**2).reshape(classes, classes)
        hit = np.diag(table).astype(float)
        per_class = f1(hit, table.sum(axis=0) - hit, table.sum(axis=1) - hit)
        return float(harmonic_mean(per_class[present]))

    if present.sum() < 2:
        return weights
    best = score((values * weights[:, None]).argmax(axis=0))
    for _ in range(ROUNDS):
        for index in np.flatnonzero(present[1:]) + 1:
            # while one factor changes, the best of the other classes stays: of equal values the first class wins
            others = np.delete(np.arange(classes), index)
            weighted = values[others] * weights[others, None]
            rival = others[weighted.argmax(axis=0)]
            height = weighted.max(axis=0)
            for step in STEPS:
                own = values[index] * step
                wins = (own > height) | ((own == height) & (index < rival))
                if (value := score(np.where(wins, index, rival))) > best + 1e-6:
                    best, weights[index] = value, step
    return weights
