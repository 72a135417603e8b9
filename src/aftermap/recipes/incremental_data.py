"""The tiles of an incremental run: which classes they hold, and which of them a step learns from and is judged on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aftermap.classes import BUILDING, DAMAGE, IGNORE
from aftermap.data.doctor import check
from aftermap.data.legends import Legend, legend_of
from aftermap.data.loader import has_labels
from aftermap.data.protocol import Protocol, protocol_for
from aftermap.data.replay import choose_replay
from aftermap.data.scene import Manifest, Scene, Target
from aftermap.data.tile_filters import label_sets, select_tiles
from aftermap.data.tile_splits import bernoulli_split, source_split
from aftermap.errors import DataError, RecipeError
from aftermap.recipes.incremental_config import IncrementalDataConfig, IncrementalRecipe, TileHoldout, joined


@dataclass(frozen=True, slots=True)
class Tiles:
    """Scenes and the labels that occur in each, IGNORE among them where a pixel is unknown."""

    scenes: tuple[Scene, ...]
    labels: tuple[frozenset[int], ...]

    def __len__(self) -> int:
        return len(self.scenes)

    def pick(self, numbers: Sequence[int]) -> "Tiles":
        """Some of them, by position."""
        return Tiles(tuple(self.scenes[n] for n in numbers), tuple(self.labels[n] for n in numbers))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a step learns from.

    Attributes:
        scenes: tiles of the step, then those that are replayed.
        lookups: of the masks of each, uint8 (256,).
        fresh: how many are the step's own.
    """

    scenes: tuple[Scene, ...]
    lookups: tuple[np.ndarray, ...]
    fresh: int


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that a run learns from and is judged on."""

    protocol: Protocol
    legend: Legend
    target: Target
    training: Tiles
    validation: Tiles
    test: Tiles

    def lesson(self, step: int, *, memory_mb: float = 0.0, seed: int = 0, channels: int = 3) -> Lesson:
        """The tiles of a step and, within a memory, of those before, with the labels that they had then.

        Args:
            step: of the task.
            memory_mb: decoded size of the tiles that are replayed; 0 replays none.
            seed: of their choice.
            channels: bytes of an image per pixel.

        Raises:
            DataError: no tile holds what the step is to learn.
        """
        chosen = select_tiles(self.training.labels, self.protocol, step)
        scenes = [self.training.scenes[n] for n in chosen]
        lookups = [self.protocol.lookup(step, "train")] * len(chosen)
        if memory_mb and step:
            for number, learned in self._replayed(step, memory_mb, seed, channels):
                scenes.append(self.training.scenes[number])
                lookups.append(self.protocol.lookup(learned, "replay"))
        return Lesson(tuple(scenes), tuple(lookups), len(chosen))

    def judged(self, step: int, *, filtered: bool = False, most: int = 0) -> Tiles:
        """Validation tiles that tell something about a step.

        Args:
            step: of the task.
            filtered: only those that the filter of training would choose.
            most: at most so many, spread evenly; 0 takes all.

        Raises:
            DataError: there is none.
        """
        lookup = self.protocol.lookup(step, "validation")
        numbers: Sequence[int] = [
            n
            for n, labels in enumerate(self.validation.labels)
            if any(lookup[label] != IGNORE for label in labels)
        ]
        if filtered:
            numbers = select_tiles(self.validation.labels, self.protocol, step)
        if not numbers:
            names = ", ".join(self.protocol.channel_names(step)[1:])
            raise DataError(
                f"step {step} of task {self.protocol.task}: none of {len(self.validation)} validation tiles holds a "
                f"pixel of {names}: assign splits so that one does ('aftermap data split')"
            )
        return self.validation.pick(spaced(numbers, most))

    def _replayed(self, step: int, memory_mb: float, seed: int, channels: int) -> list[tuple[int, int]]:
        """Training tiles of earlier steps that are kept, each with the step in which it was learned from."""
        learned: dict[int, int] = {}
        for earlier in range(step):
            for number in select_tiles(self.training.labels, self.protocol, earlier):
                learned.setdefault(number, earlier)
        numbers = sorted(learned)
        known = [self.training.labels[n] & set(self.protocol.new(learned[n])) for n in numbers]
        kept = choose_replay(
            [self.training.scenes[n] for n in numbers],
            known,
            memory_mb,
            classes=self.protocol.seen(step - 1),
            channels=channels,
            seed=seed,
        )
        return [(numbers[k], learned[numbers[k]]) for k in sorted(kept)]


def spaced(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of them, spread evenly; 0 takes all."""
    if not most or len(numbers) <= most:
        return list(numbers)
    return [numbers[round(place)] for place in np.linspace(0, len(numbers) - 1, most)]


def gather(recipe: IncrementalRecipe, *, dates: int, deep: bool = False) -> Material:
    """The tiles of a recipe, and the protocol by which they are learned.

    Args:
        recipe: what to learn, from where.
        dates: images that the model looks at.
        deep: decode every image and mask in the check of the data.

    Raises:
        DataError: the data did not pass its check, a split is empty, or a step has nothing to learn from.
        RecipeError: the task does not fit the classes, or the masks do not fit the model.
    """
    manifests = [Manifest.load(path) for path in recipe.data.manifests]
    for path, manifest in zip(recipe.data.manifests, manifests, strict=True):
        report = check(manifest, deep=deep)
        if report.errors:
            raise DataError(
                f"{path} did not pass its check ({len(report.errors)} errors; first: {report.errors[0].message}): "
                f"see 'aftermap data check {path}'"
            )
    target = _target(recipe.data, manifests, dates)
    legend = _legend(recipe, manifests, target)
    protocol = _protocol(recipe, legend)
    scenes = [
        scene
        for manifest in manifests
        for scene in manifest.scenes
        if scene.event not in recipe.data.exclude_events and has_labels(scene, target)
    ]
    if dates == 2:
        scenes = [scene for scene in scenes if scene.post is not None]
    training = [s for s in scenes if s.split in recipe.data.train_splits]
    validation = [s for s in scenes if s.split == recipe.data.validation_split]
    test = [s for s in scenes if s.split == recipe.data.test_split]
    if recipe.data.holdout is not None:
        training, validation = _held_out(training, target, recipe.data.holdout)
    for found, what in ((training, "training"), (validation, "validation"), (test, "test")):
        if not found:
            raise DataError(
                f"no {what} tiles with masks of target {target}: assign splits with 'aftermap data split', or name "
                f"others in data (train_splits, validation_split, test_split, holdout)"
            )
    material = Material(protocol, legend, target, *(_tiles(s, target) for s in (training, validation, test)))
    for step in range(steps_of(recipe, protocol)):
        material.lesson(step)
        material.judged(step, filtered=recipe.selection.compat_filtered)
    return material


def steps_of(recipe: IncrementalRecipe, protocol: Protocol) -> int:
    """How many steps of the task are run.

    Raises:
        RecipeError: `last_step` is beyond the task.
    """
    count = len(protocol.steps)
    if recipe.last_step is None or recipe.joint:
        return count
    if recipe.last_step >= count:
        raise RecipeError(
            f"last_step is {recipe.last_step}, task {protocol.task} has the steps 0 to {count - 1}"
        )
    return recipe.last_step + 1


def _target(wanted: IncrementalDataConfig, manifests: Sequence[Manifest], dates: int) -> Target:
    """Which masks are learned; the model's dates must fit them."""
    target: Target
    if wanted.target != "auto":
        target = wanted.target
    elif any(manifest.legend is not None for manifest in manifests):
        target = "classes"
    else:
        target = "damage" if dates == 2 else "building"
    if (target == "damage") != (dates == 2):
        needs = "a model of two dates, such as siamese-unet" if target == "damage" else "a model of one date"
        raise RecipeError(
            f"target {target} needs {needs}, this model takes {dates}: choose another model.kind"
        )
    return target


def _legend(recipe: IncrementalRecipe, manifests: Sequence[Manifest], target: Target) -> Legend:
    if target != "classes":
        return legend_of(DAMAGE if target == "damage" else BUILDING)
    legends = [manifest.legend for manifest in manifests]
    first = legends[0]
    for path, legend in zip(recipe.data.manifests, legends, strict=True):
        if legend is None:
            raise DataError(
                f"{path} has no legend, so no classes to learn: prepare it with --legend, or set data.target to "
                "building or damage"
            )
        assert first is not None
        if legend.names != first.names or legend.background != first.background:
            raise DataError(
                f"{path} has the classes of {legend.name} ({', '.join(legend.names)}), the first manifest those of "
                f"{first.name} ({', '.join(first.names)}): datasets of one run share a legend"
            )
    assert first is not None
    return first


def _protocol(recipe: IncrementalRecipe, legend: Legend) -> Protocol:
    options = recipe.protocol.model_dump()
    protocol = protocol_for(legend, recipe.task, **options)
    if not recipe.joint:
        return protocol
    names = [protocol.names(labels) for labels in protocol.steps]
    return protocol_for(legend, joined(names), name=f"{protocol.task}-joint", **options)


def _tiles(scenes: Sequence[Scene], target: Target) -> Tiles:
    return Tiles(tuple(scenes), tuple(label_sets(scenes, target=target)))


def _held_out(
    scenes: Sequence[Scene], target: Target, config: TileHoldout
) -> tuple[list[Scene], list[Scene]]:
    """Training and validation tiles."""
    if config.compat_tiles:
        train, held = bernoulli_split(len(scenes), config.seed, config.fraction)
    else:
        labels = label_sets(scenes, target=target)
        train, held = source_split(scenes, labels, fraction=config.fraction, seed=config.seed)
    return [scenes[n] for n in train], [scenes[n] for n in held]
