"""Which scenes of an event a model is adapted with, and which it is measured on."""

import warnings
from collections.abc import Sequence

import numpy as np

from aftermap.artefacts.card import Card
from aftermap.classes import BUILDING, DAMAGE
from aftermap.data.checking.splits import buildings
from aftermap.data.loading.few_shot_tasks import by_place
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, DataWarning
from aftermap.workflows.adaptation.config import AdaptConfig


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
