"""Estimates of a total that lean on what the model said: difference, and prediction-powered (PPI++).

The model's probability of each building is summed over all of them, and the mean error that the sample shows, by stratum,
is put right. Unbiased whatever the model is worth. The weight of the model is 1 (difference), or tuned to what it
explains (PPI++), in folds, so that no building's answer sets its own weight.

Sources: Särndal et al., "Model assisted survey sampling" (1992), difference estimator; Angelopoulos, Duchi & Zrnic,
"PPI++" (2023), power tuning; Zrnic & Candès, PNAS 121 (2024), cross-fitting.
"""

from dataclasses import dataclass

import numpy as np

FOLDS = 5


@dataclass(frozen=True)
class Drawn:
    """A stratified sample; the leading axes of `values` and `predicted` may be many draws.

    Attributes:
        sizes: buildings of each stratum, int (H,).
        sums: of the model's probabilities over each stratum, looked at or not, (H,).
        stratum: of each building in the sample, int (n,); the order within a stratum is random.
        values: 1 where a building counts, else 0, (..., n).
        predicted: the model's probability that it does, (..., n).
    """

    sizes: np.ndarray
    sums: np.ndarray
    stratum: np.ndarray
    values: np.ndarray
    predicted: np.ndarray

    @property
    def looked(self) -> np.ndarray:
        """Buildings of each stratum in the sample, int (H,)."""
        return np.bincount(self.stratum, minlength=len(self.sizes))

    def by_stratum(self, values: np.ndarray) -> np.ndarray:
        """Sums over each stratum, (..., H)."""
        return np.asarray(values @ (self.stratum[:, None] == np.arange(len(self.sizes))))

    def means(self, values: np.ndarray) -> np.ndarray:
        """Means over each stratum, (..., H)."""
        return np.asarray(self.by_stratum(values) / np.maximum(self.looked, 1))


def model_assisted(drawn: Drawn, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate a total.

    Args:
        drawn: the sample.
        weight: of the model, for each building in the sample, (..., n).

    Returns:
        The estimate, its variance, and the degrees of freedom that are behind the variance; all (...). A variance needs
        two buildings in each stratum; with one it counts nothing for that stratum.
    """
    looked = drawn.looked
    errors = drawn.values - weight * drawn.predicted
    means = drawn.means(errors)
    estimate = (drawn.means(weight) * drawn.sums + drawn.sizes * means).sum(axis=-1)
    squares = drawn.by_stratum((errors - means[..., drawn.stratum]) ** 2) / np.maximum(looked - 1, 1)
    parts = drawn.sizes**2 * (1 - looked / drawn.sizes) / looked * squares
    variance = parts.sum(axis=-1)
    freedom = variance**2 / np.maximum((parts**2 / np.maximum(looked - 1, 1)).sum(axis=-1), 1e-300)
    return estimate, variance, freedom


def tuned_weight(drawn: Drawn, folds: int = FOLDS) -> np.ndarray:
    """The weight of the model with which the estimate varies least, between 0 and 1, (..., n).

    Args:
        drawn: the sample.
        folds: each building's weight is tuned by the other folds; 1 tunes it once, by all.
    """
    place = np.zeros(len(drawn.stratum), np.int64)
    for part in range(len(drawn.sizes)):
        mine = drawn.stratum == part
        place[mine] = np.arange(mine.sum())
    fold = place % max(folds, 1)
    weight = np.zeros(np.shape(drawn.values))
    for number in range(max(folds, 1)):
        others = fold != number if folds > 1 else np.ones(len(fold), bool)
        # the share of each building in the variance of the total
        looked = np.bincount(drawn.stratum[others], minlength=len(drawn.sizes))
        each = drawn.sizes**2 * (1 - looked / drawn.sizes) / np.maximum(looked, 1) / np.maximum(looked - 1, 1)
        share = np.where(looked > 1, each, 0)[drawn.stratum] * others
        ones = (drawn.stratum[:, None] == np.arange(len(drawn.sizes))) * others[:, None]
        centre = [
            (column @ ones / np.maximum(looked, 1))[..., drawn.stratum]
            for column in (drawn.values, drawn.predicted)
        ]
        apart = drawn.predicted - centre[1]
        together = (share * (drawn.values - centre[0]) * apart).sum(axis=-1)
        alone = (share * apart**2).sum(axis=-1)
        tuned = np.clip(together / np.maximum(alone, 1e-300), 0, 1)
        weight[..., fold == number] = tuned[..., None]
    return weight


def logit_interval(
    estimate: np.ndarray, variance: np.ndarray, freedom: np.ndarray, most: float, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a total between 0 and `most`, by the logit of its share and Student's t.

    Returns:
        Bounds; not a number where the estimate lies on 0 or `most`, of which this interval knows nothing.
    """
    from scipy import stats

    share = estimate / most
    inside = (share > 0) & (share < 1)
    safe = np.where(inside, share, 0.5)
    reach = (
        stats.t.ppf((1 + level) / 2, np.maximum(freedom, 1)) * np.sqrt(variance) / most / (safe * (1 - safe))
    )
    centre = np.log(safe / (1 - safe))
    bounds = [np.where(inside, most / (1 + np.exp(-(centre + side * reach))), np.nan) for side in (-1, 1)]
    return bounds[0], bounds[1]
