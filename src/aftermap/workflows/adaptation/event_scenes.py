"""The scenes of an event that has no labels, and labelled ones of others to learn from beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aftermap.artefacts.card import Card
from aftermap.classes import BUILDING, DAMAGE
from aftermap.data.scene import Manifest, Scene, Target, has_labels
from aftermap.errors import DataError
from aftermap.workflows.adaptation.config import AdaptEventRecipe


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
