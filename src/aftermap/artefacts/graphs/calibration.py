"""Windows of the user's own scenes by which the ranges of 8-bit numbers are measured."""

from collections.abc import Iterator, Sequence

import numpy as np

from aftermap.artefacts.card import Normalisation
from aftermap.classes import IGNORE
from aftermap.data.loading.crops import crop_around
from aftermap.data.loading.sampling import ClassSampling
from aftermap.data.scene import Scene, read_mask, read_pixels
from aftermap.errors import DataError

LEAST_SCENES = 3
"""Fewer say too little about what a model will see."""

_ANYWHERE = -1


def calibration_windows(
    scenes: Sequence[Scene], dates: int, *, size_px: int, count: int, seed: int = 0
) -> Iterator[np.ndarray]:
    """Draw windows that show buildings and every degree of damage as often as open ground.

    In turn a window lies anywhere, then around a pixel of each class that some scene holds (of buildings, for a
    model of one date). Scenes without labels, or without the second date where it is needed, are only used for
    what they have. Windows larger than a scene are filled up by mirroring.

    Args:
        scenes: of a prepared dataset, not those that the result is judged on.
        dates: images that the model looks at, 1 or 2.
        size_px: height and width of a window, a multiple of the model's.
        count: windows to draw.
        seed: the same seed draws the same windows.

    Yields:
        Raw values uint8 (1, T, C, H, W), red, green, blue.

    Raises:
        DataError: too few scenes.
    """
    usable = [scene for scene in scenes if dates == 1 or scene.post is not None]
    if len(usable) < LEAST_SCENES:
        kind = "pairs" if dates == 2 else "scenes"
        raise DataError(
            f"{len(usable)} {kind} to measure 8-bit ranges on, at least {LEAST_SCENES} are needed: give more "
            "scenes or another precision than int8"
        )
    return _draw(usable, dates, size_px, count, np.random.default_rng(seed))


def normalised(windows: np.ndarray, normalisation: Normalisation, band_order: Sequence[int]) -> np.ndarray:
    """What a graph without normalisation inside takes: float32 in the model's order of bands.

    Args:
        windows: raw values (B, T, C, H, W) in the order of the card's `given_bands`.
        normalisation: of the card.
        band_order: of the card.
    """
    pair = (normalisation.mean, normalisation.std)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in pair)
    scaled: np.ndarray = (windows[:, :, list(band_order)].astype(np.float32) - mean) / std
    return scaled


def _draw(
    scenes: Sequence[Scene], dates: int, size_px: int, count: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    holders = _holders(scenes, dates)
    sampling = ClassSampling(crop_px=size_px)
    for index in range(count):
        kinds = list(holders)
        kind = kinds[index % len(kinds)]
        scene = holders[kind][int(rng.integers(len(holders[kind])))]
        paths = [scene.pre, scene.post][:dates]
        crop = crop_around(
            [read_pixels(path) for path in paths if path is not None],
            _mask(scene, dates),
            wanted=None if kind == _ANYWHERE else kind,
            sampling=sampling,
            geometry=(),
            classes=5,
            rng=rng,
        )
        yield np.ascontiguousarray(crop.images.transpose(0, 3, 1, 2)[None])


def _holders(scenes: Sequence[Scene], dates: int) -> dict[int, list[Scene]]:
    """The scenes that hold each class, and all of them under `_ANYWHERE`."""
    holders: dict[int, list[Scene]] = {_ANYWHERE: list(scenes)}
    for scene in scenes:
        for kind in np.unique(_mask(scene, dates)):
            if kind not in (0, IGNORE):
                holders.setdefault(int(kind), []).append(scene)
    return dict(sorted(holders.items()))


def _mask(scene: Scene, dates: int) -> np.ndarray:
    """Damage for a model of two dates, building for one; of a scene without damage labels whatever it has."""
    if dates == 2 and scene.damage_mask is not None:
        return read_mask(scene, target="damage")
    return read_mask(scene, target="building" if scene.class_mask is None else "classes")
