"""Intervals for a total that is sampled by strata; numpy only, for many draws at once.

A total T is kept where what was found is not too improbable under it. What the strata may hold under T is what makes the
answers most likely (restricted maximum likelihood); the estimate's mean, variance and skewness under it are matched by a
shifted Poisson variable, whose tails, half of what was found itself counted in (mid-P), are compared with 2.5 % each. So

- the whole population looked at gives one number; anything less never does;
- no error found in n gives 3 / n of the buildings not looked at, the exact one-sided bound of 95 %;
- strata in which nothing was found are not added up as if each were at its worst;
- many answers give Wilson's interval with the finite population's correction, by strata.

Source: Gart & Nam, Biometrics 44 (1988), score intervals with restricted nuisance; Lancaster, JASA 56 (1961), mid-P.
"""

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
_STEPS = 30
_SMALLEST, _LARGEST = -14.0, 12.0


@dataclass(frozen=True)
class _Moments:
    total: np.ndarray
    variance: np.ndarray
    third: np.ndarray


def stratified_interval(
    buildings: np.ndarray, looked: np.ndarray, found: np.ndarray, *, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a total.

    Args:
        buildings: of each stratum, (H,) or (..., H).
        looked: how many of them have an answer, at least one, (H,) or (..., H).
        found: how many of those count, (..., H).
        level: of confidence.

    Returns:
        Lower and upper bound, float (...).
    """
    size, n, x = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (buildings, looked, found)))
    estimate = (size / n * x).sum(axis=-1)
    certain, possible = x.sum(axis=-1), (size - (n - x)).sum(axis=-1)
    tail = (1 - level) / 2
    bounds = []
    for side in (1.0, -1.0):  # a multiplier above 0 lowers the total
        low = np.full(estimate.shape, _SMALLEST)
        high = np.full(estimate.shape, _LARGEST)
        scale = (n / size).max(axis=-1)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            moments = _restricted(size, n, x, side * scale * np.exp(middle))
            kept = _tail(estimate, moments, upper=side > 0) > tail
            low, high = np.where(kept, middle, low), np.where(kept, high, middle)
        total = _restricted(size, n, x, side * scale * np.exp(high)).total
        bounds.append(total)
    whole = (n >= size).all(axis=-1)
    lower = np.where(whole, estimate, np.clip(bounds[0], certain, estimate))
    upper = np.where(whole, estimate, np.clip(bounds[1], estimate, possible))
    return lower, upper


def _restricted(size: np.ndarray, n: np.ndarray, x: np.ndarray, multiplier: np.ndarray) -> _Moments:
    """What is most likely under a total, by the Lagrange multiplier of its restriction."""
    weight = multiplier[..., None] * size
    linear = n + weight
    root = np.sqrt(np.maximum(linear**2 - 4 * weight * x, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(linear > 0, 2 * x / (linear + root), (linear - root) / (2 * weight))
    share = np.clip(np.nan_to_num(share), x / size, 1 - (n - x) / size)
    spread = share * (1 - share)
    rest = (size - n) / np.maximum(size - 1, 1)
    variance = size**2 * spread / n * rest
    # what is estimated by stratum varies less than the truth; what the total fixes does not
    part = variance / np.maximum(variance.sum(axis=-1, keepdims=True), 1e-300)
    is_mixed = (x > 0) & (x < n)
    variance = variance / np.maximum(1 - is_mixed * (1 - part) * rest / n, 0.25)
    skew = (1 - 2 * share) * (size - 2 * n) / np.maximum(size - 2, 1)
    third = variance * size / n * skew
    return _Moments((size * share).sum(axis=-1), variance.sum(axis=-1), third.sum(axis=-1))


def _tail(estimate: np.ndarray, moments: _Moments, *, upper: bool) -> np.ndarray:
    """Probability of an estimate as high (or low) as this one, half of its own counted in."""
    from scipy import special

    variance = np.maximum(moments.variance, 1e-12)
    # a skewness of nearly nothing is a normal variable, which a Poisson one of 1e6 is
    unit = moments.third / variance
    smallest = np.sqrt(variance) * 1e-3
    unit = np.where(np.abs(unit) < smallest, np.where(unit < 0, -smallest, smallest), unit)
    mean = variance / unit**2
    count = np.maximum((estimate - moments.total) / unit + mean, 0)
    fewer = np.where(count > 0, special.gammaincc(np.maximum(count, 1e-12), mean), 0)
    below = (special.gammaincc(count + 1, mean) + fewer) / 2
    return np.asarray(np.where((unit > 0) == upper, 1 - below, below))
