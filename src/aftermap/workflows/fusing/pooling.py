"""Opinion pools: the probabilities of several sources as those of one.

Every source says how likely each class is, or only how likely some groups of classes are ("damaged", against not).
What a group gets is split among its classes as the sources that part them do for this building, else as they do on the
whole map, so that a coarse source moves the line that it knows and nothing else. A source that says nothing of a
building abstains: the weights of the others then sum to one.

linear       sum of w p: the mean; keeps what any one source holds possible
logarithmic  product of p to the w, normed: sources that are sure count more, and one that rules a class out can veto it
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from aftermap.errors import InputError

Pool = Literal["linear", "logarithmic"]

LEAST = 0.005
"""Of a probability in a logarithmic pool, so that a single source never rules a class out for good."""


@dataclass(frozen=True)
class Opinions:
    """What one source says of every building.

    Attributes:
        probabilities: float (n, K) of the classes, rows summing to 1; NaN where the source abstains.
        groups: int (n, K): classes of one number are not parted by the source.
    """

    probabilities: np.ndarray
    groups: np.ndarray

    @property
    def speaks(self) -> np.ndarray:
        """Bool (n,), where it does not abstain."""
        known: np.ndarray = np.isfinite(self.probabilities).all(axis=1)
        return known

    @property
    def parts_all(self) -> np.ndarray:
        """Bool (n,), where it tells every class from every other."""
        ordered = np.sort(self.groups, axis=1)
        apart: np.ndarray = np.asarray((np.diff(ordered, axis=1) > 0).all(axis=1)) & self.speaks
        return apart


def pool(sources: list[Opinions], weights: list[float], rule: Pool) -> np.ndarray:
    """Pooled probabilities, float (n, K); NaN where every source abstains.

    Args:
        sources: of the same buildings.
        weights: of the sources, above 0.
        rule: see the module.

    Raises:
        InputError: a weight is not above 0, or there are not as many as sources.

    Source: Genest and Zidek 1986; Clemen and Winkler 1999, section 2.
    """
    if len(weights) != len(sources) or not all(0 < weight < float("inf") for weight in weights):
        raise InputError(
            f"--weights has {len(weights)} for {len(sources)} sources: pass a number above 0 for each, such as 1,0.5"
        )
    shares = _shares(sources, weights)
    total = np.zeros(sources[0].probabilities.shape)
    spoken = np.zeros(len(total))
    for source, weight in zip(sources, weights, strict=True):
        here = source.speaks
        full = refined(source, shares)[here]
        term = full if rule == "linear" else np.log(np.maximum(full, LEAST))
        total[here] += weight * term
        spoken[here] += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / spoken[:, None]
        found = mean if rule == "linear" else np.exp(mean)
        normed: np.ndarray = found / found.sum(axis=1, keepdims=True)
    return np.where(spoken[:, None] > 0, normed, np.nan)


def refined(source: Opinions, shares: np.ndarray) -> np.ndarray:
    """A source's groups split among their classes.

    Args:
        source: of n buildings.
        shares: float (n, K), how the classes relate to each other; see `_shares`.
    """
    count = source.probabilities.shape[1]
    found = np.empty(source.probabilities.shape)
    for index in range(count):
        same = source.groups == source.groups[:, index : index + 1]
        mass = np.where(same, source.probabilities, 0).sum(axis=1)
        within = np.where(same, shares, 0).sum(axis=1)
        alone = same.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(within > 0, shares[:, index] / within, 1 / alone)
        found[:, index] = mass * share
    return found


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """How open the classes are, float (n,): 0 where one is sure, 1 where all are alike; NaN where nothing is known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(probabilities > 0, probabilities * np.log(probabilities), 0.0)
    found = -terms.sum(axis=1) / np.log(probabilities.shape[1]) + 0.0
    return np.where(np.isfinite(probabilities).all(axis=1), found, np.nan)


def _shares(sources: list[Opinions], weights: list[float]) -> np.ndarray:
    """How the classes relate by the sources that part them all: per building, and on the whole map where none does."""
    shape = sources[0].probabilities.shape
    total, spoken = np.zeros(shape), np.zeros(shape[0])
    for source, weight in zip(sources, weights, strict=True):
        here = source.parts_all
        total[here] += weight * source.probabilities[here]
        spoken[here] += weight
    known = spoken > 0
    whole = total[known].sum(axis=0) / spoken[known].sum() if known.any() else np.full(shape[1], 1 / shape[1])
    total[known] /= spoken[known, None]
    total[~known] = whole
    return total
