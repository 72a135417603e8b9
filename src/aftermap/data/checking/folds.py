"""Folds for cross-validation: whole groups of scenes, dealt out by their names alone."""

import hashlib
from collections.abc import Sequence

import numpy as np
from rasterio.warp import transform as warp_points

from aftermap.data.checking.overlap import groups, same_ground, same_images
from aftermap.data.geotransform import to_grid
from aftermap.data.readers.webtiles import tile_at
from aftermap.data.scene import Manifest, Scene, Split
from aftermap.errors import DataError
from aftermap.wording import counted

OPEN_CITIES_FOLDS, OPEN_CITIES_SEED = 7, 777
"""Number and seed of the folds of the Open Cities system."""


def assign_folds(
    manifest: Manifest,
    *,
    folds: int,
    fold: int,
    group_zoom: int | None = None,
    hold_out: Sequence[str] = (),
    compat_leak: bool = False,
) -> Manifest:
    """Make one of several folds the validation split, the others the training split.

    Scenes of one group, of one image or of common ground are in one fold. Which one follows from the names of the
    groups alone: neither the order of the scenes nor their number matters. Folds are equal in groups, to within one.

    Args:
        manifest: scenes; their present splits do not matter.
        folds: how many, 2 or more.
        fold: the one to validate on, from 0.
        group_zoom: groups are the cells of the web-mercator pyramid at this zoom that hold the scenes' centres, instead
            of events.
        hold_out: events that become the test split.
        compat_leak: deal out single scenes at random, in their order in the manifest, as the Open Cities system does with
            files: tiles of one place come into all folds.

    Raises:
        DataError: fewer groups than folds, an unknown event, or scenes without georeference where a zoom is given.
        ValueError: a fold that does not exist.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise ValueError(f"fold {fold} of {folds}, expected 2 folds or more, counted from 0")
    scenes = manifest.scenes
    if unknown := sorted(set(hold_out) - {scene.event for scene in scenes}):
        raise DataError(f"no event {unknown[0]!r} in the manifest, so it cannot be held out")
    tested = _joined(scenes, {i for i, scene in enumerate(scenes) if scene.event in set(hold_out)})
    rest = [index for index in range(len(scenes)) if index not in tested]
    if compat_leak:
        if len(rest) < folds:
            raise DataError(
                f"{counted(len(rest), 'scene')} cannot be dealt out to {folds} folds: ask for fewer"
            )
        validation = {rest[position] for position in random_folds(len(rest), folds)[fold]}
    else:
        labels = group_labels([scenes[index] for index in rest], group_zoom=group_zoom)
        names = sorted(set(labels))
        if len(names) < folds:
            raise DataError(
                f"{len(names)} separate groups of scenes cannot be dealt out to {folds} folds: ask for fewer"
                " folds, or for smaller groups with a finer --group-zoom"
            )
        chosen = {
            name for name, number in zip(names, hashed_folds(names, folds), strict=True) if number == fold
        }
        validation = {index for index, label in zip(rest, labels, strict=True) if label in chosen}
    splits: dict[int, Split] = {i: "validation" if i in validation else "train" for i in rest}
    splits.update((index, "test") for index in tested)
    options = {key: value for key, value in manifest.options.items() if not key.startswith("split")}
    options |= {"split": "folds-leak" if compat_leak else "folds", "split_fold": f"{fold} of {folds}"}
    if group_zoom is not None and not compat_leak:
        options["split_group_zoom"] = str(group_zoom)
    if hold_out:
        options["split_hold_out"] = ",".join(sorted(set(hold_out)))
    assigned = [scene.model_copy(update={"split": splits[index]}) for index, scene in enumerate(scenes)]
    return manifest.model_copy(update={"scenes": assigned, "options": options})


def group_labels(scenes: Sequence[Scene], *, group_zoom: int | None = None) -> list[str]:
    """Name of each scene's group: scenes of one event or cell, and scenes that share ground or images, have one name.

    Joined groups are called after the first of their names.

    Args:
        scenes: any.
        group_zoom: cells of the web-mercator pyramid at this zoom take the place of events.

    Raises:
        DataError: a zoom is given, and a scene has no georeference.
    """
    own = [scene.event if group_zoom is None else _cell(scene, group_zoom) for scene in scenes]
    first = {label: index for index, label in reversed(list(enumerate(own)))}
    pairs = [(first[label], index) for index, label in enumerate(own) if first[label] != index]
    pairs += [(pair.first, pair.second) for pair in (*same_images(scenes), *same_ground(scenes))]
    labels = list(own)
    for group in groups(len(scenes), pairs):
        name = min(own[index] for index in group)
        for index in group:
            labels[index] = name
    return labels


def hashed_folds(names: Sequence[str], folds: int) -> list[int]:
    """Fold of each name by its SHA-256; one that is full passes the name on to the next, so that all are equal to one.

    A new name changes the fold of few others.
    """
    digests = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names}
    least, larger = divmod(len(digests), folds)
    counts = [0] * folds
    chosen: dict[str, int] = {}
    for name, digest in sorted(digests.items(), key=lambda item: item[1]):
        fold = digest % folds
        while counts[fold] > least or (counts[fold] == least and larger == 0):
            fold = (fold + 1) % folds
        larger -= counts[fold] == least
        counts[fold] += 1
        chosen[name] = fold
    return [chosen[name] for name in names]


def random_folds(count: int, folds: int = OPEN_CITIES_FOLDS, seed: int = OPEN_CITIES_SEED) -> list[list[int]]:
    """Numbers of the files in each fold, as the Open Cities system deals them out.

    Source: Open Cities AI Challenge, third place (scikit-learn's `KFold` with shuffling, of which this is the
        permutation; the first `count % folds` folds are larger by one).
    """
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    return [sorted(part.tolist()) for part in np.array_split(order, folds)]


def _cell(scene: Scene, zoom: int) -> str:
    if scene.grid is None:
        raise DataError(
            f"scene {scene.name} has no georeference, so it lies in no cell of zoom {zoom}: leave --group-zoom out"
            " to keep events together"
        )
    grid = to_grid(scene.grid, height=scene.height, width=scene.width)
    x, y = grid.transform * (scene.width / 2, scene.height / 2)
    assert grid.crs is not None
    xs, ys = warp_points(grid.crs, "EPSG:3857", [x], [y])
    return tile_at(xs[0], ys[0], zoom).name


def _joined(scenes: Sequence[Scene], chosen: set[int]) -> set[int]:
    """The chosen scenes with all that share ground or images with them."""
    if not chosen:
        return chosen
    pairs = [(pair.first, pair.second) for pair in (*same_images(scenes), *same_ground(scenes))]
    return {i for group in groups(len(scenes), pairs) if chosen & set(group) for i in group}
