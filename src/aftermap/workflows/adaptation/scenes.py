"""Which scenes of an event a model is adapted with, and which it is measured on."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aftermap.artefacts.card import Card
from aftermap.classes import BUILDING, DAMAGE
from aftermap.data.checking.overlap import by_place
from aftermap.data.checking.splits import buildings
from aftermap.data.scene import Manifest, Scene, Target, has_labels
from aftermap.errors import DataError, DataWarning
from aftermap.workflows.adaptation.config import AdaptConfig, AdaptEventRecipe


def choose_scenes(manifest: Manifest, config: AdaptConfig, card: Card) -> tuple[list[Scene], list[Scene]]:
    """Scenes to learn from, and the event's other labelled scenes.

    Raises:
        DataError: no such event, labels that do not fit the model, or not enough scenes.

    Warns:
        DataWarning: the scenes lack a class of damage that others of the event have.
    """
    if manifest.scheme not in (card.scheme, DAMAGE.name) or card.scheme not in (BUILDING.name, DAMAGE.name):
        raise DataError(
            f"{config.data} is labelled with {manifest.scheme}, and the model tells {card.scheme}"
        )
    scenes = [scene for scene in manifest.scenes if scene.event == config.event]
    labelled = [scene for scene in scenes if scene.is_labelled]
    if not scenes or not labelled:
        counts: dict[str, int] = {}
        for scene in manifest.scenes:
            counts[scene.event] = counts.get(scene.event, 0) + int(scene.is_labelled)
        known = ", ".join(f"{event} ({count})" for event, count in sorted(counts.items()))
        found = "no labelled scenes" if scenes else "no scenes"
        raise DataError(
            f"{config.data} has {found} of event {config.event}: its events, with their labelled scenes, are {known}"
        )
    if card.dates == 2 or card.scheme == DAMAGE.name:
        usable = [s for s in labelled if s.post is not None and s.damage_mask is not None]
        if not usable:
            raise DataError(
                f"the {len(labelled)} labelled scenes of {config.event} say where buildings are and not how damaged: "
                "this model needs both dates and damage masks; adapt a localization model instead"
            )
        labelled = usable
    if config.names:
        missing = [name for name in config.names if name not in {scene.name for scene in labelled}]
        if missing:
            raise DataError(
                f"{missing[0]} is no labelled scene of {config.event}: it has {len(labelled)}, such as {labelled[0].name}"
            )
        chosen = [scene for scene in labelled if scene.name in config.names]
    else:
        rich = [scene for scene in labelled if buildings(scene) > 0]
        if config.scenes > len(rich):
            raise DataError(
                f"{config.scenes} scenes were asked for, {config.event} has {len(rich)} labelled ones with buildings: "
                f"pass --scenes {max(1, len(rich) - 1)}"
            )
        chosen = draw_scenes(rich, config.scenes, seed=config.seed)
    if card.scheme == DAMAGE.name:
        _warn_of_missing_classes(chosen, labelled)
    taken = {scene.name for scene in chosen}
    apart = [place for place in by_place(labelled) if not any(scene.name in taken for scene in place)]
    others = sorted((scene for place in apart for scene in place), key=lambda scene: scene.name)
    if not others:
        raise DataError(
            f"all {len(labelled)} labelled scenes of {config.event} would be learned from, and none left to measure on: "
            f"take at most {len(labelled) - 1}"
        )
    return chosen, others


def draw_scenes(scenes: Sequence[Scene], count: int, *, seed: int) -> list[Scene]:
    """Scenes to learn from, as somebody would label them who wants to show every kind of damage.

    Each is the one, of four drawn at random, that adds most to the classes seen so far: the sum over the classes of
    the square root of the share of the event's buildings.
    """
    rng = np.random.default_rng(seed)
    kinds = sorted({kind for scene in scenes for kind in _kinds(scene)})
    counts = np.array([[_kinds(scene).get(kind, 0) for kind in kinds] for scene in scenes], float)
    shares = counts / counts.sum(axis=0)
    left, seen, chosen = list(range(len(scenes))), np.zeros(len(kinds)), []
    for _ in range(count):
        drawn = rng.choice(left, size=min(4, len(left)), replace=False)
        best = int(drawn[np.argmax([np.sqrt(seen + shares[i]).sum() for i in drawn])])
        left.remove(best)
        seen = seen + shares[best]
        chosen.append(scenes[best])
    return chosen


def _warn_of_missing_classes(chosen: Sequence[Scene], labelled: Sequence[Scene]) -> None:
    """A model that is shown one class only sees nothing else afterwards."""
    shown = {kind for scene in chosen for kind in _kinds(scene)}
    missing = sorted({kind for scene in labelled for kind in _kinds(scene)} - shown)
    if shown and missing:
        names = ", ".join(DAMAGE.names[int(kind)] if kind.isdigit() else kind for kind in missing)
        warnings.warn(
            f"the {len(chosen)} scene(s) to learn from show no {names}, which other scenes of the event have: the "
            "adapted model may no longer tell it; name scenes that show it",
            DataWarning,
            stacklevel=3,
        )


def _kinds(scene: Scene) -> dict[str, int]:
    """Buildings (or, where only masks are known, pixels) by known class."""
    if scene.polygons:
        return {kind: n for kind, n in scene.polygons.items() if n and kind in DAMAGE.names}
    return {str(level): n for level, n in enumerate(scene.class_pixels) if level and n}


@dataclass(frozen=True, slots=True)
class EventScenes:
    """What an adaptation sees.

    Attributes:
        scenes: of the event, as the manifests have them; labels and all.
        source: labelled scenes of other events.
        target: what the model tells.
        licence: of the event's data.
    """

    scenes: list[Scene]
    source: list[Scene]
    target: Target
    licence: str

    @property
    def bare(self) -> list[Scene]:
        """The event's scenes without any label."""
        return [scene.without_labels() for scene in self.scenes]


def event_scenes(recipe: AdaptEventRecipe, card: Card) -> EventScenes:
    """The scenes that a recipe means.

    Raises:
        DataError: none of the event, or none of its two dates; labels of a source that the model cannot learn from.
    """
    if card.scheme not in (BUILDING.name, DAMAGE.name):
        raise DataError(
            f"the model tells {card.scheme}; only {BUILDING.name} and {DAMAGE.name} can be adapted"
        )
    target: Target = "damage" if card.scheme == DAMAGE.name else "building"
    manifests = [Manifest.load(path) for path in recipe.data]
    pool = [scene for manifest in manifests for scene in manifest.scenes]
    scenes = _of_event(recipe, pool)
    if card.dates == 2:
        pairs = [scene for scene in scenes if scene.post is not None]
        if not pairs:
            raise DataError(
                f"none of the {len(scenes)} scenes has an image after the event, and this model needs both dates"
            )
        scenes = pairs
    licences = dict.fromkeys(manifest.licence or "not stated" for manifest in manifests)
    return EventScenes(scenes, _source(recipe, scenes, target), target, "; ".join(licences))


def _of_event(recipe: AdaptEventRecipe, pool: Sequence[Scene]) -> list[Scene]:
    """Scenes by event, split and name."""
    where = ", ".join(map(str, recipe.data))
    found = [scene for scene in pool if recipe.event is None or scene.event == recipe.event]
    if not found:
        counts: dict[str, int] = {}
        for scene in pool:
            counts[scene.event] = counts.get(scene.event, 0) + 1
        known = ", ".join(f"{event} ({count})" for event, count in sorted(counts.items())) or "none"
        raise DataError(f"{where} has no scenes of event {recipe.event}: its events are {known}")
    chosen = [scene for scene in found if not recipe.splits or scene.split in recipe.splits]
    if not chosen:
        splits = ", ".join(sorted({scene.split for scene in found}))
        raise DataError(
            f"none of the {len(found)} scenes is of split {', '.join(recipe.splits)}: theirs are {splits}"
        )
    missing = [name for name in recipe.names if name not in {scene.name for scene in chosen}]
    if missing:
        raise DataError(
            f"{where} has no scene {missing[0]} here: it has {len(chosen)}, such as {chosen[0].name}"
        )
    return [scene for scene in chosen if not recipe.names or scene.name in recipe.names]


def _source(recipe: AdaptEventRecipe, scenes: Sequence[Scene], target: Target) -> list[Scene]:
    """Labelled scenes of other events."""
    if recipe.source is None:
        return []
    events, seen = {scene.event for scene in scenes}, {scene.name for scene in scenes}
    found: list[Scene] = []
    for path in recipe.source.manifests:
        found += [
            scene
            for scene in Manifest.load(Path(path)).scenes
            if scene.split in recipe.source.splits and scene.event not in events and scene.name not in seen
        ]
    labelled = [scene for scene in found if has_labels(scene, target)]
    if not labelled:
        raise DataError(
            f"source has {len(found)} scenes of other events in its splits and none with labels for {target}: "
            "name another dataset, or splits"
        )
    return labelled
