"""The tiles of an incremental run: which classes they hold, and which of them a step learns from and is judged on."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aftermap.classes import IGNORE, ClassScheme
from aftermap.data.incremental.pool import Pool, pool
from aftermap.data.incremental.protocol import Protocol, TileUse
from aftermap.data.incremental.replay import choose_replay
from aftermap.data.incremental.tile_filters import bernoulli_split, select_tiles, source_split
from aftermap.data.legends import Legend
from aftermap.data.scene import RGB, Manifest, Scene, Split, Target
from aftermap.errors import DataError, DataWarning, RecipeError
from aftermap.workflows.incremental.config import (
    IncrementalDataConfig,
    IncrementalRecipe,
    TileHoldout,
    joined,
)
from aftermap.workflows.scoring.evaluate import spread
from aftermap.workflows.training.scenes import checked_manifest


@dataclass(frozen=True, slots=True)
class Tiles:
    """Scenes of a run.

    Attributes:
        scenes: tiles.
        labels: classes of the run's legend that occur in each, IGNORE among them where a pixel is unknown.
        origins: number of the manifest that each is of.
    """

    scenes: tuple[Scene, ...]
    labels: tuple[frozenset[int], ...]
    origins: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.scenes)

    def pick(self, numbers: Sequence[int]) -> "Tiles":
        """Some of them, by position."""
        return Tiles(
            tuple(self.scenes[n] for n in numbers),
            tuple(self.labels[n] for n in numbers),
            tuple(self.origins[n] for n in numbers),
        )


@dataclass(frozen=True, slots=True)
class LearnedTiles:
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
class TaskTiles:
    """Everything that a run learns from and is judged on.

    Attributes:
        protocol: what is learned when.
        legend: of all classes of the datasets, and of the model that the run begins from.
        target: of the masks.
        dates: images that the model looks at.
        manifests: where the datasets are.
        members: number of each manifest's legend among `protocol.datasets`; None where that is empty.
        training, validation, test: tiles.
    """

    protocol: Protocol
    legend: Legend
    target: Target
    dates: Literal[1, 2]
    manifests: tuple[Path, ...]
    members: tuple[int | None, ...]
    training: Tiles
    validation: Tiles
    test: Tiles

    def check(self, steps: Sequence[int], *, filtered: bool = False) -> None:
        """Refuse steps that nothing can be learned from or judged on.

        Args:
            steps: of the task, those that are run.
            filtered: see `judged`.

        Raises:
            DataError: there is such a step.

        Warns:
            DataWarning: a step learns classes together that a dataset which it learns from does not label.
        """
        for step in steps:
            self.learned_from(step)
            self.judged(step, filtered=filtered)
            for number, tiles in enumerate(self.tiles_of(step)):
                new = set(self.protocol.labelled(step))
                hidden = new & set(self.protocol.hidden_in(step, self.members[number]))
                if tiles and hidden:
                    names = ", ".join(self.protocol.names(sorted(hidden)))
                    learned = ", ".join(self.protocol.names(sorted(new - hidden)))
                    warnings.warn(
                        f"step {step}: {self.manifests[number]} has labels of {learned} and none of {names}, which is "
                        "background there and learned as such: learn them in different steps",
                        DataWarning,
                        stacklevel=2,
                    )

    def lookups(self, tiles: Tiles, step: int, use: TileUse) -> list[np.ndarray]:
        """What the values of each tile's mask are at a step, uint8 (256,); see `Protocol.lookup`."""
        tables = [self.protocol.lookup(step, use, dataset=member) for member in self.members]
        return [tables[origin] for origin in tiles.origins]

    def tiles_of(self, step: int) -> list[int]:
        """How many tiles of each manifest a step learns from; none where it has nothing to learn from."""
        counts = Counter(self.training.origins[n] for n in self._chosen(step))
        return [counts[number] for number in range(len(self.manifests))]

    def can_score(self, step: int) -> bool:
        """Whether the test tiles tell anything about the model of a step."""
        return any(self._tells(self.test, n, step, "test") for n in range(len(self.test)))

    def tested(self, step: int) -> Tiles:
        """Test tiles of a step: all; those of the places seen by then, where steps add places."""
        scenes = enumerate(self.test.scenes)
        return self.test.pick([n for n, scene in scenes if self.protocol.is_place_seen(step, scene.event)])

    def overview(self, steps: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        """What each manifest gives to the run.

        Args:
            steps: from `tiles_of`.
        """
        parts = {"training": self.training, "validation": self.validation, "test": self.test}
        return [
            {
                "data": str(path),
                "legend": self.legend.name if member is None else self.protocol.datasets[member].legend,
                "steps": [own[number] for own in steps],
                **{name: tiles.origins.count(number) for name, tiles in parts.items()},
            }
            for number, (path, member) in enumerate(zip(self.manifests, self.members, strict=True))
        ]

    def learned_from(
        self, step: int, *, memory_mb: float = 0.0, seed: int = 0, channels: int = 3
    ) -> LearnedTiles:
        """The tiles of a step and, within a memory, of those before, with the labels that they had then.

        Args:
            step: of the task.
            memory_mb: decoded size of the tiles that are replayed; 0 replays none.
            seed: of their choice.
            channels: bytes of an image per pixel.

        Raises:
            DataError: no tile holds what the step is to learn.
        """
        chosen = self._select(self.training, step)
        own = self.training.pick(chosen)
        scenes, lookups = list(own.scenes), self.lookups(own, step, "train")
        if memory_mb and step:
            for number, learned in self._replayed(step, memory_mb, seed, channels):
                kept = self.training.pick([number])
                scenes += kept.scenes
                lookups += self.lookups(kept, learned, "replay")
        return LearnedTiles(tuple(scenes), tuple(lookups), len(chosen))

    def judged(self, step: int, *, filtered: bool = False, most: int = 0) -> Tiles:
        """Validation tiles that tell something about a step.

        Args:
            step: of the task.
            filtered: only those that the filter of training would choose.
            most: at most so many, spread evenly; 0 takes all.

        Raises:
            DataError: there is none.
        """
        numbers: Sequence[int] = [
            n for n in range(len(self.validation)) if self._tells(self.validation, n, step, "validation")
        ]
        if filtered:
            numbers = self._select(self.validation, step)
        if not numbers:
            names = ", ".join(self.protocol.channel_names(step)[1:])
            if self.protocol.places:
                names += (
                    f" in {', '.join(place for own in self.protocol.places[: step + 1] for place in own)}"
                )
            raise DataError(
                f"step {step} of task {self.protocol.task}: none of {len(self.validation)} validation tiles holds a "
                f"pixel of {names}: assign splits so that one does ('aftermap data split')"
            )
        return self.validation.pick(spread(numbers, most))

    def _replayed(self, step: int, memory_mb: float, seed: int, channels: int) -> list[tuple[int, int]]:
        """Training tiles of earlier steps that are kept, each with the step in which it was learned from."""
        learned: dict[int, int] = {}
        for earlier in range(step):
            for number in self._chosen(earlier):
                learned.setdefault(number, earlier)
        if not learned:
            warnings.warn(
                f"replay: no tile of a step before step {step} is at hand, nothing is remembered",
                DataWarning,
                stacklevel=3,
            )
        numbers = sorted(learned)
        known = [self.training.labels[n] & set(self.protocol.labelled(learned[n])) for n in numbers]
        kept = choose_replay(
            [self.training.scenes[n] for n in numbers],
            known,
            memory_mb,
            classes=self.protocol.seen(step - 1),
            channels=channels,
            seed=seed,
        )
        return [(numbers[k], learned[numbers[k]]) for k in sorted(kept)]

    def _chosen(self, step: int) -> list[int]:
        """Training tiles of a step; none where there are none, as of years whose images are not at hand."""
        try:
            return self._select(self.training, step)
        except DataError:
            return []

    def _select(self, tiles: Tiles, step: int) -> list[int]:
        """See `select_tiles`."""
        return select_tiles(tiles.labels, self.protocol, step, events=[scene.event for scene in tiles.scenes])

    def _tells(self, tiles: Tiles, number: int, step: int, use: TileUse) -> bool:
        """Whether a tile is of a place seen, and has a known pixel, at a step."""
        if not self.protocol.is_place_seen(step, tiles.scenes[number].event):
            return False
        lookup = self.protocol.lookup(step, use)
        known = {label for label in tiles.labels[number] if lookup[label] != IGNORE}
        if self.protocol.hidden_in(step, self.members[tiles.origins[number]]):
            known -= {self.protocol.background}
        return bool(known)


def gather(
    recipe: IncrementalRecipe, *, dates: int, deep: bool = False, earlier: ClassScheme | None = None
) -> TaskTiles:
    """The tiles of a recipe, and the protocol by which they are learned.

    Args:
        recipe: what to learn, from where.
        dates: images that the model looks at.
        deep: decode every image and mask in the check of the data.
        earlier: classes of the model that the run begins from; no dataset need label them.

    Raises:
        DataError: the data did not pass its check or lacks a band, a split is empty, or it cannot be known which classes
            of the datasets are the same.
        RecipeError: the task does not fit the classes, or the masks do not fit the model.
    """
    manifests = [checked_manifest(path, deep=deep) for path in recipe.data.manifests]
    target = _target(recipe.data, manifests, dates)
    pooled = pool(
        manifests,
        target=target,
        names=[path.stem if path.suffix == ".json" else path.name for path in recipe.data.manifests],
        rename=recipe.data.rename,
        earlier=earlier,
        without_events=recipe.data.exclude_events,
    )
    if dates == 2 and set(recipe.bands) != set(RGB):
        raise RecipeError(
            f"bands are {', '.join(recipe.bands)}: a model of two dates is shown red, green and blue of both"
        )
    _check_bands(recipe, pooled)
    protocol = _protocol(recipe, pooled)
    counts = pooled.counts()
    usable = [n for n, scene in enumerate(pooled.scenes) if dates == 1 or scene.post is not None]
    whole = Tiles(pooled.scenes, tuple(frozenset(own) for own in counts), pooled.origins)

    def of(*splits: Split) -> Tiles:
        return whole.pick([n for n in usable if pooled.scenes[n].split in splits])

    training, validation = of(*recipe.data.train_splits), of(recipe.data.validation_split)
    test = of(recipe.data.test_split)
    if recipe.data.holdout is not None:
        training, validation = _held_out(training, recipe.data.holdout)
    if pooled.scenes and not usable:
        raise DataError(
            "the scenes have one date, the model looks at two: prepare pairs, or choose another model.kind"
        )
    for found, what in ((training, "training"), (validation, "validation"), (test, "test")):
        if not len(found):
            raise DataError(
                f"no {what} tiles with masks of target {target}: assign splits with 'aftermap data split', or name "
                f"others in data (train_splits, validation_split, test_split, holdout)"
            )
    manifests_at = tuple(recipe.data.manifests)
    return TaskTiles(
        protocol,
        pooled.legend,
        target,
        2 if dates == 2 else 1,
        manifests_at,
        pooled.members,
        training,
        validation,
        test,
    )


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
    """Which masks are learned; the model's dates must fit them. Classes may be those of one date or of a pair."""
    target: Target
    if wanted.target != "auto":
        target = wanted.target
    elif any(manifest.legend is not None for manifest in manifests):
        target = "classes"
    else:
        target = "damage" if dates == 2 else "building"
    if target != "classes" and (target == "damage") != (dates == 2):
        needs = "a model of two dates, such as siamese-unet" if target == "damage" else "a model of one date"
        raise RecipeError(
            f"target {target} needs {needs}, this model takes {dates}: choose another model.kind"
        )
    return target


def _check_bands(recipe: IncrementalRecipe, pooled: Pool) -> None:
    for scene, origin in zip(pooled.scenes, pooled.origins, strict=True):
        given = [*scene.bands, *scene.layers]
        if not set(recipe.bands) <= set(given):
            raise DataError(
                f"{recipe.data.manifests[origin]} has images of the bands {', '.join(given)}, the recipe wants "
                f"{', '.join(recipe.bands)} of every dataset: say bands that all of them have, or leave it out"
            )


def _protocol(recipe: IncrementalRecipe, pooled: Pool) -> Protocol:
    options = recipe.protocol.model_dump()
    protocol = pooled.protocol(recipe.task, **options)
    if not recipe.joint:
        return protocol
    names = [protocol.names(labels) for labels in protocol.steps]
    options["places"] = joined(protocol.places) if protocol.places else ()
    return pooled.protocol(joined(names), name=f"{protocol.task}-joint", **options)


def _held_out(tiles: Tiles, config: TileHoldout) -> tuple[Tiles, Tiles]:
    """Training and validation tiles."""
    if config.compat_tiles:
        train, held = bernoulli_split(len(tiles), config.seed, config.fraction)
    else:
        train, held = source_split(tiles.scenes, tiles.labels, fraction=config.fraction, seed=config.seed)
    return tiles.pick(train), tiles.pick(held)
