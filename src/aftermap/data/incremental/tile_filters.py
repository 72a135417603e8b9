"""Which tiles a step of class-incremental learning sees, from the classes in each tile alone: no image is read."""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.incremental.protocol import Filter, Protocol
from aftermap.data.scene import Scene, Target, read_mask
from aftermap.errors import DataError
from aftermap.wording import counted


def label_counts(scene: Scene, *, target: Target = "classes") -> dict[int, int]:
    """Pixels of each label that occurs in a scene's mask, 255 among them where a pixel is unknown.

    They come from the counts of the manifest; the mask is read only where there are none. A scene without labels has
    nothing.
    """
    if not scene.is_labelled:
        return {}
    if not scene.class_pixels:
        labels, numbers = np.unique(read_mask(scene, target=target), return_counts=True)
        return dict(zip(labels.tolist(), numbers.tolist(), strict=True))
    counts = list(scene.class_pixels)
    if target == "building":
        counts = [counts[0], sum(counts[1:])]
    found = {label: count for label, count in enumerate(counts) if count}
    unknown = scene.width * scene.height - sum(counts)
    return found | ({IGNORE: unknown} if unknown > 0 else {})


def relabelled(counts: Mapping[int, int], table: np.ndarray) -> dict[int, int]:
    """Pixels of each label after a table, uint8 (256,), has been applied to the mask."""
    total: dict[int, int] = {}
    for label, pixels in counts.items():
        becomes = int(table[label])
        total[becomes] = total.get(becomes, 0) + pixels
    return total


def label_sets(scenes: Sequence[Scene], *, target: Target = "classes") -> list[frozenset[int]]:
    """Labels that occur in each scene's mask; see `label_counts`."""
    return [frozenset(label_counts(scene, target=target)) for scene in scenes]


def select_tiles(
    label_sets: Sequence[frozenset[int]],
    protocol: Protocol,
    step: int,
    *,
    mode: Filter | None = None,
    events: Sequence[str] | None = None,
) -> list[int]:
    """Numbers of the tiles that a step learns from, ascending.

    `overlapped`: a class that is new at this step occurs. `disjoint`: the same, and no class of a later step does.
    `image-split`: each tile is dealt out to one class, and so to one step; see `image_split`.

    Where steps add places: all tiles of these with a known pixel.

    Args:
        label_sets: labels in each tile, as in the dataset's masks.
        protocol: task, filter, seed and compat switches.
        step: from 0.
        mode: another filter than the protocol's.
        events: of each tile; needed where steps add places.

    Raises:
        DataError: no tile is left, or none of a place.
        RecipeError: no such step.
        ValueError: events are needed and were not given.

    Source: MiB (Cermelli et al. 2020) for the first two; the image split is that of MiB-CD (Arnaudo et al. 2022).
    """
    if protocol.places:
        return _of_places(label_sets, protocol, step, events)
    mode = mode or protocol.filter
    new, later = set(protocol.new(step)), set(protocol.later(step))
    if mode == "image-split":
        chosen = [i for i, label in enumerate(image_split(label_sets, protocol)) if label in new]
    else:
        if protocol.compat_background_selects and protocol.background is not None and step == 0:
            new.add(protocol.background)
        barred = {IGNORE} | later if protocol.compat_ignored_excludes else later
        chosen = [
            i
            for i, labels in enumerate(label_sets)
            if labels & new and (mode == "overlapped" or not labels & barred)
        ]
    if not chosen:
        raise DataError(_nothing(label_sets, protocol, step, mode))
    return chosen


def image_split(label_sets: Sequence[frozenset[int]], protocol: Protocol) -> list[int | None]:
    """The class that each tile is dealt out to, as a label; None for tiles without a class of any step.

    In an order drawn from the protocol's seed, each tile goes to that of its classes that has the fewest tiles so far;
    of those with equally many, to the one with the lowest label. No tile belongs to two steps.

    Source: MiB-CD (Arnaudo et al. 2022), in the order of tiles that Python's generator gives for the seed.
    """
    order = random.Random(protocol.seed).sample(range(len(label_sets)), len(label_sets))
    counts = dict.fromkeys(sorted(protocol.seen(len(protocol.steps) - 1)), 0)
    dealt: list[int | None] = [None] * len(label_sets)
    for tile in order:
        present = [label for label in counts if label in label_sets[tile]]
        if present:
            chosen = min(present, key=lambda label: counts[label])
            dealt[tile] = chosen
            counts[chosen] += 1
    return dealt


def _of_places(
    label_sets: Sequence[frozenset[int]], protocol: Protocol, step: int, events: Sequence[str] | None
) -> list[int]:
    """Numbers of the tiles of a step's places."""
    if events is None:
        raise ValueError(f"task {protocol.task} chooses tiles by place: give the event of each tile")
    protocol.new(step)  # refuses a step that there is not
    wanted = protocol.places[step]
    tiles = zip(events, label_sets, strict=True)
    known = [(number, event) for number, (event, labels) in enumerate(tiles) if labels - {IGNORE}]
    chosen = [number for number, event in known if event in wanted]
    lacking = [place for place in wanted if place not in {event for _, event in known}]
    if lacking:
        there = ", ".join(sorted({event for _, event in known})) or "none"
        raise DataError(
            f"step {step} of task {protocol.task} has no tile of {', '.join(lacking)}: there are tiles of {there}; leave "
            "the place out of the task, or add tiles"
        )
    return chosen


def _nothing(label_sets: Sequence[frozenset[int]], protocol: Protocol, step: int, mode: Filter) -> str:
    """Why no tile is left, and what to do."""
    labels = protocol.new(step)
    names = ", ".join(protocol.names(labels))
    found = sum(bool(labels_here & set(labels)) for labels_here in label_sets)
    it = "it" if len(labels) == 1 else "one of them"
    all_that_hold = f"the one tile that holds {it}" if found == 1 else f"all {found} tiles that hold {it}"
    start = f"step {step} of task {protocol.task} has no tile to learn {names} from"
    if not found:
        return (
            f"{start}: none of {counted(len(label_sets), 'tile')} holds {'it' if len(labels) == 1 else 'any of them'}: "
            "leave the step out of the task, or add tiles"
        )
    if mode == "disjoint":
        return (
            f"{start}: the filter disjoint bars {all_that_hold}, for a class of a later step beside: use the filter "
            "overlapped, or another order"
        )
    return (
        f"{start}: the filter image-split dealt out {all_that_hold} to other classes: use the filter overlapped, or "
        "another seed"
    )


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
