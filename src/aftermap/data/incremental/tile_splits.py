"""Training and validation tiles of class-incremental learning: by large image, or tile by tile as the original."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from aftermap.data.scene import Scene
from aftermap.errors import DataError


def source_split(
    scenes: Sequence[Scene],
    label_sets: Sequence[frozenset[int]],
    *,
    fraction: float = 0.1,
    seed: int = 0,
) -> tuple[list[int], list[int]]:
    """Numbers of the tiles to train and to validate on: all tiles of one large image are on the same side.

    Images come to validation until they hold `fraction` of the tiles. The next one is that which adds most classes
    there, among those that leave no class without an image to train on; of equal ones that of the lowest hash of seed
    and name. The order of the tiles does not matter.

    Args:
        scenes: tiles; one that is no part of a larger image counts as an image of its own.
        label_sets: labels in each.
        fraction: share of the tiles to validate on, above 0 and below 1.
        seed: another choice.

    Raises:
        DataError: all tiles are of one image.
        ValueError: a fraction that is none.
    """
    _check_fraction(fraction)
    names = [scene.name if scene.tile is None else scene.tile.source for scene in scenes]
    waiting = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    if len(waiting) < 2:
        raise DataError(
            f"all {len(scenes)} tiles are of one image, so none can be kept for validation: prepare more images, or "
            "split the dataset by block with 'aftermap data split'"
        )
    tiles = {name: [i for i, own in enumerate(names) if own == name] for name in waiting}
    classes = {name: _union(label_sets[i] for i in tiles[name]) for name in waiting}
    held: list[str] = []
    met: frozenset[int] = frozenset()
    count = 0
    while count < fraction * len(scenes) and len(waiting) > 1:
        left = {name: _union(classes[other] for other in waiting if other != name) for name in waiting}
        harmless = [name for name in waiting if classes[name] <= left[name]] or waiting
        best = max(harmless, key=lambda name: len(classes[name] - met))
        waiting.remove(best)
        held.append(best)
        met |= classes[best]
        count += len(tiles[best])
    validation = {tile for name in held for tile in tiles[name]}
    return [i for i in range(len(scenes)) if i not in validation], sorted(validation)


def bernoulli_split(count: int, seed: int, fraction: float = 0.1) -> tuple[list[int], list[int]]:
    """Numbers of the tiles to train and to validate on as the original draws them, each for itself.

    Tiles of one large image, overlapping ones too, come to both sides, and the share is met on average only.

    Args:
        count: tiles.
        seed: of numpy's old generator.
        fraction: chance of a tile to be validated on.

    Source: MiB-CD (Arnaudo et al. 2022), the split of its training command.
    """
    _check_fraction(fraction)
    drawn = np.random.RandomState(seed).rand(count)
    learned = drawn < 1 - fraction
    return np.flatnonzero(learned).tolist(), np.flatnonzero(~learned).tolist()


def _union(sets: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*sets)


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}, expected a share above 0 and below 1")
