"""Buildings as numbers: what the map's model said of each, its shape, its neighbours, and features that a map kept."""

from dataclasses import dataclass

import geopandas
import numpy as np
import shapely

from aftermap.classes import NOT_ASSESSED
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import to_pixels
from aftermap.inference.objects.features import Features, logit
from aftermap.products.vectors import PROBABILITIES

NEIGHBOURS = 8

_LIMIT = 4.0
_WEIGHT = 3.0
"""How far all columns together reach, however many there are, beside the map's own answer (1 each)."""


@dataclass(frozen=True)
class Described:
    """Buildings as a model takes them.

    Attributes:
        values: (n, k), standardised by the map's own buildings; the first columns are the map's own answer.
        own: the map's probabilities of the levels (n, 4), NaN where it does not assess the building.
        assessed: whether it does, bool (n,).
        centres: of the buildings, in pixels (n, 2).
        with_features: whether the map kept features.
    """

    values: np.ndarray
    own: np.ndarray
    assessed: np.ndarray
    centres: np.ndarray
    with_features: bool


def describe(buildings: geopandas.GeoDataFrame, grid: Grid, features: Features | None) -> Described:
    """Describe the buildings of a map.

    Args:
        buildings: the table as the map's model left it.
        grid: of the map.
        features: of the same buildings in the same order.
    """
    outlines = to_pixels(buildings.geometry.to_numpy(), grid)
    own = buildings[list(PROBABILITIES)].to_numpy(np.float64)
    assessed = (buildings["damage"] != NOT_ASSESSED).to_numpy() & np.isfinite(own).all(axis=1)
    own = np.where(assessed[:, None], own / np.where(assessed, own.sum(axis=1), 1)[:, None], np.nan)
    present = buildings["p_building"].to_numpy(np.float64)
    kept = np.zeros((len(buildings), 0)) if features is None else features.values.astype(np.float64)
    return of_numbers(own, present, outlines, assessed, kept)


def of_numbers(
    own: np.ndarray, present: np.ndarray, outlines: np.ndarray, assessed: np.ndarray, features: np.ndarray
) -> Described:
    """Describe buildings by the map's probabilities (n, 4), p(building) (n,), outlines in pixels and features (n, k)."""
    reached = np.stack([own[:, level:].sum(axis=1) for level in (1, 2, 3)], axis=1)
    centroids = shapely.centroid(outlines)
    centres = np.stack([shapely.get_x(centroids), shapely.get_y(centroids)], axis=1)
    further = np.concatenate(
        [
            logit(reached),
            logit(present)[:, None],
            _shapes(outlines),
            _neighbours(centres, reached, assessed),
            features,
        ],
        axis=1,
    )
    answer = _standardised(logit(reached), assessed)
    scaled = _standardised(further, assessed)
    scaled *= _WEIGHT / np.sqrt(max(scaled.shape[1], 1))
    return Described(np.concatenate([answer, scaled], axis=1), own, assessed, centres, features.shape[1] > 0)


def _shapes(outlines: np.ndarray) -> np.ndarray:
    """Size, how ragged, how far from a rectangle, how long, how far from convex (n, 5)."""
    area, around = shapely.area(outlines), shapely.length(outlines)
    box = shapely.minimum_rotated_rectangle(outlines)
    box_area = shapely.area(box)
    side = np.sqrt(area + 1)
    return np.stack(
        [
            np.log(area + 1),
            around / side,
            box_area / (area + 1),
            shapely.length(box) / np.sqrt(box_area + 1),
            shapely.area(shapely.convex_hull(outlines)) / (area + 1),
        ],
        axis=1,
    )


def _neighbours(centres: np.ndarray, reached: np.ndarray, assessed: np.ndarray) -> np.ndarray:
    """Log odds of the mean answer for the nearest buildings, and the log distance to the nearest one (n, 4)."""
    from scipy.spatial import cKDTree

    found = np.full((len(centres), 4), np.nan)
    known = np.flatnonzero(assessed & np.isfinite(centres).all(axis=1))
    if len(known) < 2:
        return found
    count = min(NEIGHBOURS + 1, len(known))
    distance, place = cKDTree(centres[known]).query(centres[known], k=count)
    found[known, :3] = logit(reached[known][place[:, 1:]].mean(axis=1))
    found[known, 3] = np.log(distance[:, 1] + 1)
    return found


def _standardised(values: np.ndarray, assessed: np.ndarray) -> np.ndarray:
    """Columns with median 0 and spread 1 among the assessed buildings, cut at _LIMIT; what is unknown is 0."""
    used = values[assessed]
    if not len(used):
        return np.zeros(values.shape)
    used = np.where(np.isfinite(used), used, np.nan)
    known = np.isfinite(used).any(axis=0)
    scaled = np.zeros(values.shape)
    low, middle, high = np.nanpercentile(used[:, known], [16, 50, 84], axis=0)
    spread = (high - low) / 2 + 1e-3 * np.nanmean(np.abs(used[:, known]), axis=0) + 1e-6
    scaled[:, known] = np.clip(np.nan_to_num((values[:, known] - middle) / spread), -_LIMIT, _LIMIT)
    return scaled
