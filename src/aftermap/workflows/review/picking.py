"""Which buildings to show next so that the map's own model learns most: those in doubt, and unlike each other.

Picks are no probability sample: nothing is counted from them (see `answers.Answer.origin`).
"""

from collections.abc import Collection

import geopandas
import numpy as np

from aftermap.classes import NOT_ASSESSED
from aftermap.products.vectors import PROBABILITIES

_AS_MANY, _FEWEST_IN_DOUBT = 1.5, 30
_DIMENSIONS = 24
_LEAST_DOUBT = 0.05
"""Even where the model is sure a building may come up: it may be surely wrong."""


def pick(
    buildings: geopandas.GeoDataFrame,
    features: np.ndarray | None,
    answered_ids: Collection[str],
    count: int,
    seed: int,
) -> list[str]:
    """Buildings to ask about, the most useful first; the same arguments give the same ones.

    Of the buildings whose class is most in doubt (by the entropy of the probabilities), half as many again as wanted,
    the next one is drawn with a chance that grows with its doubt and with the square of its distance, among the features,
    to the nearest one that was answered or picked. It pays to learn from the answers and to pick again every 20 or so:
    then the doubt is that of the event's own model.

    Args:
        buildings: the table of a map, with the columns of `products.vectors.COLUMNS`.
        features: one row for each building (n, k), in order, NaN where unknown; without them the distance is one
            between the columns of the table.
        answered_ids: `building_id` of those that need no answer any more; others than the table's are passed over.
        count: how many to pick; fewer where there are not as many.
        seed: of the draws.

    Returns:
        `building_id` of each. Buildings that were not assessed are not among them.

    Raises:
        ValueError: the features are of another number of buildings, or `count` is negative.

    Source: Arthur and Vassilvitskii 2007 (k-means++), weighted by entropy; the same draws in the space of gradients are
        Ash et al. 2020 (BADGE). Measured in docs/benchmarks.md: diversity over all buildings was worse than doubt alone.
    """
    if count < 0:
        raise ValueError(f"{count} buildings to pick: expected 0 or more")
    if features is not None and len(features) != len(buildings):
        raise ValueError(f"features of {len(features)} buildings for a table of {len(buildings)}")
    ids = buildings["building_id"].astype(str).to_numpy()
    answered = np.isin(ids, list(answered_ids))
    shares = buildings[list(PROBABILITIES)].to_numpy(np.float64)
    known = (buildings["damage"] != NOT_ASSESSED).to_numpy() & np.isfinite(shares).all(axis=1)
    open_ = known & ~answered
    if not open_.any() or count == 0:
        return []
    space = _space(_columns(buildings) if features is None else np.asarray(features, np.float64), known)
    doubt = np.where(open_, _LEAST_DOUBT + _entropy(shares), 0)
    random = np.random.default_rng(seed)
    wanted = min(count, int(open_.sum()))
    order = np.lexsort((random.random(len(ids)), -doubt))  # equal ones by lot
    doubt[order[max(_FEWEST_IN_DOUBT, round(_AS_MANY * wanted)) :]] = 0
    far = np.full(len(ids), np.inf)
    for row in np.flatnonzero(answered & known).tolist():
        np.minimum(far, _squared(space, row), out=far)
    picked: list[int] = []
    for _ in range(wanted):
        weights = doubt * np.where(np.isfinite(far), far, 1)
        if not weights.any():  # all that is left is the same as what was answered
            weights = doubt
        row = int(random.choice(len(ids), p=weights / weights.sum()))
        picked.append(row)
        doubt[row] = 0
        np.minimum(far, _squared(space, row), out=far)
    return [str(ids[row]) for row in picked]


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Entropy of each row of probabilities (n, k), 1 where all are equal, 0 where they are unknown."""
    kept = np.clip(np.nan_to_num(shares), 1e-9, 1)
    kept /= kept.sum(axis=1, keepdims=True)
    entropy: np.ndarray = -(kept * np.log(kept)).sum(axis=1) / np.log(shares.shape[1])
    return entropy


def _columns(buildings: geopandas.GeoDataFrame) -> np.ndarray:
    """What the table itself says of likeness: probabilities, presence and size."""
    shares = np.sqrt(np.clip(buildings[[*PROBABILITIES, "p_building"]].to_numpy(np.float64), 0, 1))
    areas = buildings["area_m2"].to_numpy(np.float64)
    if np.isnan(areas).all():  # a map without georeference
        areas = buildings.geometry.area.to_numpy()
    size = np.log1p(np.clip(areas[:, None], 0, None))
    return np.concatenate([shares, size], axis=1)


def _space(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Standardised features in their principal directions, the unknown ones in the middle (n, at most _DIMENSIONS)."""
    kept = np.where(known[:, None] & np.isfinite(features), features, np.nan)
    kept = kept[:, np.isfinite(kept[known]).any(axis=0)]
    middle, spread = np.nanmean(kept[known], axis=0), np.nanstd(kept[known], axis=0)
    usable = spread > 0
    scaled: np.ndarray = np.clip(np.nan_to_num((kept[:, usable] - middle[usable]) / spread[usable]), -5, 5)
    if scaled.shape[1] <= _DIMENSIONS:
        return scaled
    _, vectors = np.linalg.eigh(scaled[known].T @ scaled[known])
    turned: np.ndarray = scaled @ vectors[:, -_DIMENSIONS:]
    return turned


def _squared(space: np.ndarray, row: int) -> np.ndarray:
    distance: np.ndarray = ((space - space[row]) ** 2).sum(axis=1)
    return distance
