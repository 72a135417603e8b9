"""Which tiles of earlier steps are remembered, within a budget of memory, so that every old class is among them."""

import random
import warnings
from collections.abc import Sequence

from aftermap.data.scene import Scene
from aftermap.errors import DataError, DataWarning
from aftermap.wording import counted

_MB = 1_000_000


def choose_replay(
    scenes: Sequence[Scene],
    label_sets: Sequence[frozenset[int]],
    memory_mb: float,
    *,
    classes: Sequence[int],
    channels: int = 3,
    seed: int = 0,
) -> list[int]:
    """Numbers of the tiles to remember, in the order in which they were taken.

    First come tiles that together hold every old class, those with most of them per byte before others; then, always
    for the class that fewest of the chosen tiles hold, one more of its tiles. A smaller budget gives the beginning of
    what a larger one gives.

    Args:
        scenes: tiles of earlier steps.
        label_sets: labels in each.
        memory_mb: budget in MB of 10**6 bytes; a tile takes height * width * (channels + 1) bytes, image and mask.
        classes: labels of the old classes.
        channels: bytes per pixel of the image.
        seed: of the choice between tiles that serve equally.

    Raises:
        DataError: the budget is above 0 and does not hold the first tile.
        ValueError: a negative budget, or not as many label sets as scenes.

    Warns:
        DataWarning: an old class that occurs in the tiles is not remembered, for want of memory.
    """
    if memory_mb < 0:
        raise ValueError(f"memory_mb is {memory_mb}, expected 0 or more")
    if len(scenes) != len(label_sets):
        raise ValueError(f"{counted(len(scenes), 'scene')} but {len(label_sets)} label sets")
    held = [labels & set(classes) for labels in label_sets]
    size = [scene.height * scene.width * (channels + 1) for scene in scenes]
    chosen: list[int] = []
    left = memory_mb * _MB
    for tile in _order(held, size, seed) if memory_mb else []:
        if size[tile] > left:
            break
        left -= size[tile]
        chosen.append(tile)
    occurring = {label for labels in held for label in labels}
    if memory_mb and occurring and not chosen:
        raise DataError(
            f"a replay memory of {memory_mb:g} MB holds no tile: the smallest that could be remembered takes "
            f"{min(size[i] for i, labels in enumerate(held) if labels) / _MB:.3g} MB"
        )
    lost = occurring - {label for tile in chosen for label in held[tile]}
    if memory_mb and lost:
        warnings.warn(
            f"a replay memory of {memory_mb:g} MB remembers {counted(len(chosen), 'tile')} and none of class "
            f"{', '.join(map(str, sorted(lost)))}: give it more",
            DataWarning,
            stacklevel=2,
        )
    return chosen


def _order(held: Sequence[frozenset[int]], size: Sequence[int], seed: int) -> list[int]:
    """All tiles that hold an old class, in the order in which they are worth remembering."""
    rest = [tile for tile, labels in enumerate(held) if labels]
    random.Random(seed).shuffle(rest)
    order: list[int] = []
    counts = {label: 0 for tile in rest for label in held[tile]}
    while rest:
        missing = {label for label, count in counts.items() if count == 0}
        if missing:
            best = max(rest, key=lambda tile: len(held[tile] & missing) / size[tile])
        else:
            # of the rarest class that has tiles left
            available = {label for tile in rest for label in held[tile]}
            scarce = min(sorted(available), key=lambda label: counts[label])
            best = next(tile for tile in rest if scarce in held[tile])
        rest.remove(best)
        order.append(best)
        for label in held[best]:
            counts[label] += 1
    return order
