"""Splits into train, validation and test that cannot leak: scenes that share images or ground stay together."""

import difflib
import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from aftermap.classes import DAMAGE
from aftermap.data.checking.folds import group_labels
from aftermap.data.checking.overlap import ground, groups, same_ground, same_images
from aftermap.data.masks import DAMAGE_NAMES
from aftermap.data.scene import Manifest, Scene, Split
from aftermap.errors import DataError, DataWarning
from aftermap.wording import counted

By = Literal["event", "group", "block", "random", "source"]
SPLITS: tuple[Split, Split, Split] = ("train", "validation", "test")
_SOURCE: dict[str, Split] = {"train": "train", "tier3": "train", "hold": "validation", "test": "test"}

# How strips are dealt out: most strips of an event and fewest places in one, the cost of a border between two splits
# and of a class that a split lacks; a class with fewer buildings than _RARE counts for less.
_MOST_STRIPS, _LEAST_PLACES = 9, 3
_BORDER, _LACKING, _RARE = 0.05, 0.5, 20


def assign_splits(
    manifest: Manifest,
    *,
    by: By = "event",
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    hold_out: Iterable[str] = (),
    validate_on: Iterable[str] = (),
    group_zoom: int | None = None,
) -> Manifest:
    """Assign every scene to train, validation or test.

    Scenes with the same image, or whose ground overlaps, always come into the same split. The result depends on
    nothing but the arguments.

    Args:
        manifest: scenes; their present splits do not matter.
        by: `event`: whole events. `group`: the same, or whole cells of the ground where `group_zoom` is given.
            `block`: each event is cut across its longer side into at most nine strips, which are dealt out so that
            scenes, buildings and damage classes are balanced; `seed` 0 takes the best balanced way, 1 the second
            best and so on. `random`: scenes. `source`: as the publisher split them (xBD: train and tier3, hold as
            validation, test), whatever they share.
        fractions: shares of train, validation and test, by scenes and buildings.
        seed: see `by`; any whole number >= 0.
        hold_out: events that become the test split; the others are split into train and validation only.
        validate_on: events that become the validation split; nothing else comes into it.
        group_zoom: cells of the web-mercator pyramid at this zoom, each with the scenes whose centre it holds, take the
            place of events for `group`.

    Returns:
        A manifest with the same scenes, the choice noted in its options.

    Raises:
        DataError: an unknown event, or too few events for the splits wanted.
        ValueError: fractions that are not three shares of 1, or a zoom without groups.
    """
    if group_zoom is not None and by != "group":
        raise ValueError(f"a zoom makes groups of scenes, but the split is by {by}: split by group")
    if by not in get_args(By):
        raise ValueError(f"by is {by!r}, expected one of {', '.join(get_args(By))}")
    shares = np.asarray(list(fractions), float)
    if shares.shape != (3,) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"fractions are {list(fractions)}, expected three shares >= 0 that sum to 1")
    scenes, held, judged = manifest.scenes, sorted(set(hold_out)), sorted(set(validate_on))
    _check_events(scenes, held, judged)
    atoms = groups(
        len(scenes), [(pair.first, pair.second) for pair in (*same_images(scenes), *same_ground(scenes))]
    )
    splits: dict[int, Split] = {}
    if (held or judged) and by == "source":
        raise ValueError("the publisher's split holds out nothing: split by event or block with hold_out")
    for named, position in ((held, 2), (judged, 1)):
        if named:
            split = SPLITS[position]
            atoms = _take(scenes, atoms, named, split, splits)
            shares[position] = 0
            if shares.sum() == 0:
                raise ValueError(f"with events for {split} named, another split needs a share above 0")
            shares /= shares.sum()
    match by:
        case "event":
            chosen = _by_event(scenes, [scene.event for scene in scenes], atoms, shares, seed)
        case "group":
            rest = [index for index in range(len(scenes)) if index not in splits]
            labels = group_labels([scenes[index] for index in rest], group_zoom=group_zoom)
            own = dict(zip(rest, labels, strict=True))
            names = [own.get(index, "") for index in range(len(scenes))]
            chosen = _by_event(scenes, names, atoms, shares, seed, what="groups")
        case "block":
            chosen = _by_block(scenes, atoms, shares, seed)
        case "random":
            chosen = _by_random(atoms, shares, seed)
        case "source":
            chosen = _by_source(scenes)
    splits.update(chosen)
    options = {key: value for key, value in manifest.options.items() if not key.startswith("split")}
    options |= {
        "split": by,
        "split_fractions": ",".join(f"{f:g}" for f in fractions),
        "split_seed": str(seed),
    }
    if group_zoom is not None:
        options["split_group_zoom"] = str(group_zoom)
    if held:
        options["split_hold_out"] = ",".join(held)
    if judged:
        options["split_validate_on"] = ",".join(judged)
    assigned = [scene.model_copy(update={"split": splits[index]}) for index, scene in enumerate(scenes)]
    return manifest.model_copy(update={"scenes": assigned, "options": options})


def _take(
    scenes: Sequence[Scene],
    atoms: list[list[int]],
    events: Sequence[str],
    split: Split,
    splits: dict[int, Split],
) -> list[list[int]]:
    """Put events into a split; returns the scenes that are left."""
    inside = [any(scenes[index].event in events for index in atom) for atom in atoms]
    splits.update(
        (index, split) for atom, taken in zip(atoms, inside, strict=True) if taken for index in atom
    )
    return [atom for atom, taken in zip(atoms, inside, strict=True) if not taken]


def random_holdout(count: int, seed: int, fraction: float = 0.1) -> tuple[list[int], list[int]]:
    """Numbers of the scenes that are learned from, and of those held out, as the xView2 winner chose them.

    Scenes of one event come into both, and may even show the same ground: other than `assign_splits`, this leaks.

    Args:
        count: scenes.
        seed: 0 or more.
        fraction: share that is held out, rounded up to whole scenes.

    Source: xView2 first place (scikit-learn's `train_test_split`, of which this is the permutation).
    """
    order = np.random.RandomState(seed).permutation(count)
    held = math.ceil(fraction * count)
    return order[held:].tolist(), order[:held].tolist()


def buildings(scene: Scene) -> int:
    """How many labelled buildings a scene has; where only masks are known, their pixels stand for them.

    Where masks hold the classes of a legend, every pixel of a known class counts.
    """
    if scene.class_mask is not None:
        return sum(scene.class_pixels)
    return sum(scene.polygons.values()) if scene.polygons else sum(scene.class_pixels[1:])


def _by_event(
    scenes: Sequence[Scene],
    names: Sequence[str],
    atoms: list[list[int]],
    shares: np.ndarray,
    seed: int,
    *,
    what: str = "events",
) -> dict[int, Split]:
    """Whole events, named per scene, to the split that lacks most, in an order drawn from the seed."""
    events = sorted({names[index] for atom in atoms for index in atom})
    number = {event: position for position, event in enumerate(events)}
    joined = [(number[names[atom[0]]], number[names[index]]) for atom in atoms for index in atom]
    wanted = [position for position in range(3) if shares[position] > 0]
    parts = groups(len(events), joined)
    if len(parts) < len(wanted):
        finer = "hold out one event" if what == "events" else "make smaller groups with a finer --group-zoom"
        raise DataError(
            f"{len(parts)} separate {what} cannot be split into {len(wanted)}: split by block, or {finer}"
        )
    members: dict[str, list[int]] = {event: [] for event in events}
    for atom in atoms:
        for index in atom:
            members[names[index]].append(index)
    order = np.random.default_rng(seed).permutation(len(parts))
    weight = np.array([[_weight(scenes, members, events, part)] for part in parts], float)
    target, given = shares * weight.sum(), np.zeros(3)
    empty, result = set(wanted), dict[int, Split]()
    for done, position in enumerate(order):
        candidates = sorted(empty) if len(order) - done <= len(empty) else wanted
        best = max(candidates, key=lambda split: (target[split] - given[split]) / max(shares[split], 1e-9))
        empty.discard(best)
        given[best] += weight[position, 0]
        for event in parts[position]:
            result.update((index, SPLITS[best]) for index in members[events[event]])
    return result


def _weight(
    scenes: Sequence[Scene], members: dict[str, list[int]], events: list[str], part: list[int]
) -> int:
    return sum(1 + buildings(scenes[index]) for event in part for index in members[events[event]])


def _by_source(scenes: Sequence[Scene]) -> dict[int, Split]:
    unknown = [scene.name for scene in scenes if scene.source_split not in _SOURCE]
    if unknown:
        raise DataError(
            f"{counted(len(unknown), 'scene comes', 'scenes come')} from no published split, such as {unknown[0]}: "
            "split by event or block"
        )
    return {index: _SOURCE[str(scene.source_split)] for index, scene in enumerate(scenes)}


def _by_random(atoms: list[list[int]], shares: np.ndarray, seed: int) -> dict[int, Split]:
    order = np.random.default_rng(seed).permutation(len(atoms))
    sizes = np.array([len(atoms[position]) for position in order], float)
    middle = (np.cumsum(sizes) - sizes / 2) / max(sizes.sum(), 1)
    choice = np.searchsorted(np.cumsum(shares)[:2], middle, side="right")
    return {
        index: SPLITS[split]
        for position, split in zip(order, choice, strict=True)
        for index in atoms[position]
    }


def _by_block(
    scenes: Sequence[Scene], atoms: list[list[int]], shares: np.ndarray, seed: int
) -> dict[int, Split]:
    positions = _positions(scenes)
    by_event: dict[str, list[list[int]]] = {}
    for atom in atoms:
        by_event.setdefault(scenes[atom[0]].event, []).append(atom)
    result: dict[int, Split] = {}
    for _, mine in sorted(by_event.items()):
        mine = sorted(mine, key=lambda atom: (float(np.mean([positions[index] for index in atom])), atom))
        for atom, split in zip(
            mine, _strips([_features(scenes, atom) for atom in mine], shares, seed), strict=True
        ):
            result.update((index, split) for index in atom)
    return result


def _positions(scenes: Sequence[Scene]) -> np.ndarray:
    """Place of each scene along its event's longer side, in degrees; interpolated in name order where unknown."""
    result = np.zeros(len(scenes))
    lost: dict[str, int] = {}
    for event in sorted({scene.event for scene in scenes}):
        mine = sorted(
            (i for i, scene in enumerate(scenes) if scene.event == event), key=lambda i: scenes[i].name
        )
        outlines = [ground(scenes[index]) for index in mine]
        known = np.array([outline is not None for outline in outlines])
        if not known.all():
            lost[event] = int((~known).sum())
        order = np.arange(len(mine), dtype=float)
        if not known.any():
            result[mine] = order
            continue
        centres = np.array([outline.centroid.coords[0] for outline in outlines if outline is not None])
        centres[:, 0] *= np.cos(np.deg2rad(centres[:, 1].mean()))
        along = centres[:, int(np.ptp(centres, axis=0).argmax())]
        result[mine] = np.interp(order, order[known], along)
    if lost:
        counts = ", ".join(f"{event} {count}" for event, count in lost.items())
        warnings.warn(
            f"scenes without georeference are placed by their names, so their blocks may touch: {counts}",
            DataWarning,
            4,
        )
    return result


def _features(scenes: Sequence[Scene], atom: Sequence[int]) -> list[float]:
    """What the strips are balanced by: scenes, buildings, buildings of each damage class."""
    counts = [0.0] * len(DAMAGE_NAMES)
    for index in atom:
        scene = scenes[index]
        for position, name in enumerate(DAMAGE_NAMES):
            if scene.polygons:
                counts[position] += scene.polygons.get(name, 0)
            elif len(scene.class_pixels) == len(DAMAGE):
                counts[position] += scene.class_pixels[position + 1]
    return [float(len(atom)), float(sum(buildings(scenes[index]) for index in atom)), *counts]


def _strips(features: Sequence[Sequence[float]], shares: np.ndarray, seed: int) -> list[Split]:
    """Cut a row of places into strips and deal these out; returns the split of each place.

    All ways of dealing out are ranked by balance and `seed` counts along. Few borders are better than many.
    """
    values = np.asarray(features, float)
    wanted = [position for position in range(3) if shares[position] > 0]
    count = min(max(len(values) // _LEAST_PLACES, len(wanted)), _MOST_STRIPS, len(values))
    strip = _cut(values[:, 0], count)
    total = values.sum(0)
    per_strip = np.stack([values[strip == number].sum(0) for number in range(count)]) / np.maximum(total, 1)
    weights = np.concatenate([[1.0, 2.0], np.minimum(1, total[2:] / _RARE)])
    dealt = np.array(list(itertools.product(wanted, repeat=count)))  # (N, strips)
    cost = _BORDER * (np.diff(dealt, axis=1) != 0).sum(1)
    for split in wanted:
        has = (dealt == split) @ per_strip  # (N, features)
        lacks = (has <= 0) & (total > 0)
        cost = cost + (np.abs(has - shares[split]) + _LACKING * lacks) @ weights
        if count >= len(wanted):
            cost = np.where((dealt == split).any(1), cost, np.inf)
    ranked = np.argsort(np.round(cost, 9), kind="stable")[: int(np.isfinite(cost).sum())]
    chosen = dealt[ranked[seed % len(ranked)]]
    return [SPLITS[chosen[number]] for number in strip]


def _cut(scenes: np.ndarray, count: int) -> np.ndarray:
    """Strip number of each place in a row: `count` strips, none empty, alike in scenes."""
    middle = (np.cumsum(scenes) - scenes / 2) / scenes.sum()
    number: np.ndarray = np.minimum((middle * count).astype(int), count - 1)
    # No strip is skipped: the number rises by at most 1 per place, and what is left suffices for the rest.
    low = 0
    for place in range(len(scenes)):
        least = max(low, count - (len(scenes) - place))
        number[place] = np.clip(number[place], least, max(least, low + 1) if place else 0)
        low = int(number[place])
    return number


def _check_events(scenes: Sequence[Scene], held: Sequence[str], judged: Sequence[str]) -> None:
    known = sorted({scene.event for scene in scenes})
    if both := sorted(set(held) & set(judged)):
        raise DataError(f"event {both[0]} is named for test and for validation: name it once")
    for event in (*held, *judged):
        if event not in known:
            near = difflib.get_close_matches(event, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise DataError(f"no event {event!r} in the manifest: {hint}")
    if (held or judged) and {*held, *judged} == set(known):
        raise DataError("all events are held out, nothing is left to train on: hold out fewer")
