"""The mean of building probabilities over runs: right, or as the third place of Open Cities did it."""

from collections.abc import Sequence

import numpy as np

from aftermap.classes import IGNORE

PUBLISHED_THRESHOLD = 0.54
"""What the third place of Open Cities cut its mean at."""

_SURE, _UNSURE_MEAN = 0.5, 0.9


def combine(
    maps: Sequence[np.ndarray],
    *,
    threshold: float | None = None,
    compat_half_size: bool = False,
    compat_drop_run: bool = False,
) -> np.ndarray:
    """The mean of maps of the same place; every map weighs alike, and one that is given twice counts twice.

    Args:
        maps: (..., H, W) each, probabilities 0 to 1 or uint8 (255 is 1). NaN is unknown: the mean is over the maps
            that know a pixel.
        threshold: building from this probability on.
        compat_half_size: average at half the size and bring the mean back, both bilinearly, which blurs outlines.
        compat_drop_run: where the mean is nowhere above 0.9, leave out the map whose positive pixels spread least,
            if it is above 0.5 anywhere. A map without positive pixels never counts as that one, so that beside an
            empty map it is the sure one that goes.

    Returns:
        float64 (..., H, W), NaN where no map knows; with a threshold uint8, 1 for building, 255 unknown.

    Raises:
        ValueError: no map, unlike sizes, or with `compat_half_size` sides that are not even.

    Source: Open Cities AI Challenge, third place, its combination of runs.
    """
    if not maps or len({np.shape(map_) for map_ in maps}) != 1:
        raise ValueError(f"maps of the shapes {[np.shape(map_) for map_ in maps]}: expected one shape")
    probabilities = [_probabilities(map_) for map_ in maps]
    parts = [_halve(p) for p in probabilities] if compat_half_size else probabilities
    mean = _mean(parts, doubled=compat_half_size)
    if compat_drop_run and len(maps) > 1:
        dropped = _least_spread(probabilities)
        if probabilities[dropped].max() > _SURE and mean.max() < _UNSURE_MEAN:
            mean = _mean([p for n, p in enumerate(parts) if n != dropped], doubled=compat_half_size)
    if threshold is None:
        return mean
    building: np.ndarray = np.where(np.isnan(mean), IGNORE, mean >= threshold).astype(np.uint8)
    return building


def _probabilities(map_: np.ndarray) -> np.ndarray:
    return map_ / 255.0 if map_.dtype == np.uint8 else np.asarray(map_, np.float64)


def _mean(maps: Sequence[np.ndarray], *, doubled: bool) -> np.ndarray:
    if any(np.isnan(map_).any() for map_ in maps):
        known = np.sum([~np.isnan(map_) for map_ in maps], axis=0)
        total = np.nansum(maps, axis=0)
        mean: np.ndarray = np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0)
    else:
        mean = np.mean(maps, axis=0)
    return _double(_double(mean).swapaxes(-1, -2)).swapaxes(-1, -2) if doubled else mean


def _least_spread(maps: Sequence[np.ndarray]) -> int:
    """The map with the lowest standard deviation of its positive pixels; those without any come last."""
    spreads = [float(map_[map_ > 0].std()) if (map_ > 0).any() else np.nan for map_ in maps]
    return int(np.argsort(spreads, kind="stable")[0])


def _halve(map_: np.ndarray) -> np.ndarray:
    """Bilinear at half the size, which is the mean of blocks of 2 x 2."""
    height, width = map_.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(
            f"maps of {width} x {height} pixels cannot be averaged at half their size: expected even sides"
        )
    columns = (map_[..., 0::2] + map_[..., 1::2]) * 0.5
    rows: np.ndarray = (columns[..., 0::2, :] + columns[..., 1::2, :]) * 0.5
    return rows


def _double(map_: np.ndarray) -> np.ndarray:
    """Bilinear at twice the width; pixel centres stay where they are, the outermost pixels are repeated."""
    before = np.concatenate([map_[..., :1], map_[..., :-1]], axis=-1)
    after = np.concatenate([map_[..., 1:], map_[..., -1:]], axis=-1)
    doubled = np.stack([before * 0.25 + map_ * 0.75, map_ * 0.75 + after * 0.25], axis=-1)
    return doubled.reshape(*map_.shape[:-1], -1)
