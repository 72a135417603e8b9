"""A model with a legend against labelled scenes, and its maps of a whole dataset."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aftermap.artefacts.card import BaseCard
from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.scene import Manifest, Scene, Target
from aftermap.errors import DataError, ModelError
from aftermap.inference.class_agreement import lookup_between
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.stitching import evaluate_classes
from aftermap.scoring.class_scores import ClassScores


def evaluate_legend(
    predictor: AnyPredictor,
    manifest: Manifest,
    scenes: Sequence[Scene],
    *,
    on_scene: Callable[..., None] | None = None,
) -> ClassScores:
    """Score a model with a legend on scenes of a dataset, whose classes are found by their names.

    Pixels of classes that the model does not have are left out. Tiles of a large image are stitched: each of its pixels
    counts once.

    Args:
        predictor: the model.
        manifest: of the dataset.
        scenes: of it, labelled.
        on_scene: called after every scene.

    Raises:
        DataError: the dataset has none of the model's classes, or no known pixel.
    """
    dataset, model = manifest.class_scheme, predictor.card.classes
    lookup = lookup_between(dataset, model)
    if (lookup[: len(dataset)] == IGNORE).all():
        raise DataError(
            f"the data is labelled with {', '.join(dataset.names)}, the model tells {', '.join(model.names)}: "
            "they have no class in common"
        )
    target: Target = "classes"
    if manifest.legend is None:
        target = "damage" if dataset == DAMAGE else "building"
    confusion = evaluate_classes(
        predictor, scenes, lookups=lookup, classes=len(model), target=target, on_scene=on_scene
    )
    return ClassScores.of(confusion, names=model.names, background=model.background)


def require_scheme(card: BaseCard, command: str, instead: str) -> None:
    """Refuse a model with a legend where only buildings and damage are known.

    Raises:
        ModelError: it has one; says what to do.
    """
    if card.legend is not None:
        raise ModelError(
            f"{command} is about buildings and their damage, {card.name} tells the classes of {card.scheme}: {instead}"
        )


def class_file(folder: Path, scene: Scene) -> Path:
    """Where the map of a scene goes: `<scene>_classes_prediction.png`."""
    return folder / f"{scene.name}_classes_prediction.png"


def describe_classes(card: BaseCard) -> dict[str, Any]:
    """What the values of such maps mean, for `classes.json`."""
    return {
        "legend": card.scheme,
        "classes": [
            {"value": value, "name": name, "colour": colour}
            for value, (name, colour) in enumerate(zip(card.classes.names, card.classes.colours, strict=True))
        ],
    }
