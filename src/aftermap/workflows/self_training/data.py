"""The scenes of a self-training: which are labelled, which form the pool, and what a student is given of both."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aftermap.classes import BUILDING, DAMAGE, IGNORE
from aftermap.data.checking.overlap import same_ground
from aftermap.data.scene import POOLED, Manifest, Scene, has_labels, read_mask
from aftermap.errors import DataError, DataWarning
from aftermap.wording import counted
from aftermap.workflows.scoring.evaluate import spread
from aftermap.workflows.self_training.config import SelfTrainingRecipe
from aftermap.workflows.training.config import LearnedTask
from aftermap.workflows.training.scenes import Chosen, choose_scenes


@dataclass(frozen=True, slots=True)
class SelfTrainingScenes:
    """What a self-training works with.

    Attributes:
        labelled: training and validation scenes with labels.
        pool: scenes without labels (or stripped of them), of names that occur once.
        shares: share of every class among the labelled training pixels, background first.
        options: of the labelled manifests, as far as they say how masks are to be read.
    """

    labelled: Chosen
    pool: list[Scene]
    shares: list[float]
    options: dict[str, str]


def gather_material(recipe: SelfTrainingRecipe) -> SelfTrainingScenes:
    """The labelled scenes and the pool.

    Raises:
        DataError: the pool is empty, or holds an image that is labelled, validated with or tested on.

    Warns:
        DataWarning: scenes of the pool show ground of the validation or test scenes.
    """
    chosen = choose_scenes(recipe.data, recipe.task)
    every = [scene for path in recipe.data.manifests for scene in Manifest.load(path).scenes]
    held = [
        scene
        for scene in every
        if scene.split in (recipe.data.validation_split, "test")
        and scene.split not in recipe.data.train_splits
        and has_labels(scene, recipe.task)
    ]
    pool = _pool(recipe)
    for what, scenes in (
        ("learned from with labels", chosen.training),
        ("kept for validation or test", held),
    ):
        shared = _same_image(pool, scenes)
        if shared:
            raise DataError(
                f"{len(shared)} of the {counted(len(pool), 'scene')} of the pool are {what} (first: {shared[0].name}): "
                "take them out with pool.splits, pool.events or another pool.manifests"
            )
    _warn_of_ground(pool, held)
    options = [Manifest.load(path).options.get("unclassified") for path in recipe.data.manifests]
    unclassified = {"unclassified": "ignore"} if "ignore" in options else {}
    return SelfTrainingScenes(
        chosen, _named_once(pool), class_shares(chosen.training, recipe.task), unclassified
    )


def class_shares(scenes: Sequence[Scene], task: LearnedTask) -> list[float]:
    """Share of every class, background first, among the pixels whose class is known."""
    classes = len(BUILDING) if task == "building" else len(DAMAGE)
    counts = np.zeros(classes)
    for scene in (s for s in scenes if has_labels(s, task)):
        pixels: list[int] = list(scene.class_pixels)
        if len(pixels) < classes:
            mask = read_mask(scene, target=task)
            pixels = np.bincount(mask[mask != IGNORE], minlength=classes).tolist()
        if task == "building":
            pixels = [pixels[0], sum(pixels[1:])]
        counts += pixels[:classes]
    return [float(share) for share in counts / max(counts.sum(), 1)]


def write_manifest(
    folder: Path,
    material: SelfTrainingScenes,
    learned: Sequence[Scene],
    negatives: Sequence[Scene],
    *,
    task: LearnedTask,
) -> Path:
    """Write what a student is given: the labelled scenes, those with the teacher's labels, and the negatives.

    For buildings every scene is of one date where one of them is: the labels are those of the first.

    Args:
        folder: gets `manifest.json`.
        material: the labelled scenes.
        learned: scenes of the pool with `soft`.
        negatives: scenes of the pool with masks of background.
        task: which masks are learned.

    Returns:
        The manifest.

    Warns:
        DataWarning: second dates are left out.
    """
    training = [scene.model_copy(update={"split": "train"}) for scene in material.labelled.training]
    training += [scene.model_copy(update={"split": "train"}) for scene in (*learned, *negatives)]
    validation = [scene.model_copy(update={"split": "validation"}) for scene in material.labelled.validation]
    scenes = training + validation
    paired = [scene for scene in scenes if scene.post is not None]
    if task == "building" and len(paired) < len(scenes):
        if paired:
            warnings.warn(
                f"{len(scenes) - len(paired)} of {len(scenes)} scenes have one date: students see the first of all",
                DataWarning,
                stacklevel=2,
            )
        scenes = [scene.model_copy(update={"post": None}) for scene in scenes]
    scheme = DAMAGE if any(scene.damage_mask is not None for scene in scenes) else BUILDING
    manifest = Manifest(kind=POOLED, scheme=scheme.name, options=material.options, scenes=scenes)
    folder.mkdir(parents=True, exist_ok=True)
    return manifest.save(folder)


def _pool(recipe: SelfTrainingRecipe) -> list[Scene]:
    """Scenes of the pool without any labels, at most `max_scenes`."""
    wanted, found, labelled = recipe.pool, [], 0
    manifests = [Manifest.load(path) for path in wanted.manifests]
    events = {scene.event for manifest in manifests for scene in manifest.scenes}
    for event in wanted.events:
        if event not in events:
            raise DataError(
                f"pool.events names {event}: the pool has {', '.join(sorted(events)) or 'no scene'}"
            )
    for manifest in manifests:
        for scene in manifest.select(*wanted.splits):
            if wanted.events and scene.event not in wanted.events:
                continue
            if recipe.task == "damage" and scene.post is None:
                continue
            if has_labels(scene, recipe.task) and not wanted.hide_labels:
                labelled += 1
            else:
                found.append(scene.without_labels())
    if not found:
        hint = (
            f"{counted(labelled, 'scene has', 'scenes have')} labels, and pool.hide_labels: true would take those "
            "without looking at them"
            if labelled
            else f"expected images without labels in the splits {', '.join(wanted.splits)}"
            + (", of two dates" if recipe.task == "damage" else "")
        )
        raise DataError(f"the pool has no scene without labels for task {recipe.task}: {hint}")
    return spread(found, wanted.max_scenes)


def _same_image(pool: Sequence[Scene], others: Sequence[Scene]) -> list[Scene]:
    """Scenes of the pool that share a file, or the content of one, with the others."""
    files = {path.resolve() for scene in others for path in (scene.pre, scene.post) if path is not None}
    sums = {scene.checksums[role] for scene in others for role in ("pre", "post") if role in scene.checksums}
    return [
        scene
        for scene in pool
        if any(path is not None and path.resolve() in files for path in (scene.pre, scene.post))
        or sums & set(scene.checksums.values())
    ]


def _warn_of_ground(pool: Sequence[Scene], held: Sequence[Scene]) -> None:
    across = {pair.first for pair in same_ground([*pool, *held]) if pair.first < len(pool) <= pair.second}
    if across:
        warnings.warn(
            f"{counted(len(across), 'scene of the pool shows', 'scenes of the pool show')} ground of validation or test "
            f"scenes (first: {pool[min(across)].name}): scores there will be too good",
            DataWarning,
            stacklevel=3,
        )


def _named_once(scenes: Sequence[Scene]) -> list[Scene]:
    """The scenes, with a number behind names that occurred before: files are named after them."""
    seen: dict[str, int] = {}
    named = []
    for scene in scenes:
        seen[scene.name] = seen.get(scene.name, 0) + 1
        name = scene.name if seen[scene.name] == 1 else f"{scene.name}-{seen[scene.name]}"
        named.append(scene.model_copy(update={"name": name}))
    return named
