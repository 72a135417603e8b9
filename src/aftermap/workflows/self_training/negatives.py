"""Scenes without buildings, found by a model, as examples of background."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from aftermap.artefacts.ensemble import is_ensemble
from aftermap.artefacts.store import load_model
from aftermap.data.scene import Scene
from aftermap.errors import RecipeError
from aftermap.files import write_bytes
from aftermap.inference.ensemble import Options
from aftermap.inference.predictor import Predictor
from aftermap.models.networks.fpn import FpnEfficientnet, presence_probability
from aftermap.workflows.self_training.config import NegativesConfig, SelfTrainingRecipe
from aftermap.workflows.self_training.pseudo_labels import Predicted

_LARGEST_PX = 1024


def is_negative(building: float, presence: float | None, config: NegativesConfig) -> bool:
    """Whether the rule says that there is no building.

    Args:
        building: highest p(building) of a pixel.
        presence: p(building) of the image by the classifier.
        config: rule and threshold.

    Raises:
        ValueError: the rule looks at the classifier, and there is none.

    Source: Open Cities, third place (`mine_empty`): both below 0.2.
    """
    if config.rule == "map":
        return building < config.threshold
    if presence is None:
        raise ValueError(f"rule {config.rule} needs what a classifier says of the image")
    if config.rule == "classifier":
        return presence < config.threshold
    return presence < config.threshold and building < config.threshold


def find_negatives(
    predicted: Sequence[Predicted], config: NegativesConfig, *, labelled: int
) -> tuple[list[Scene], int]:
    """Scenes without buildings, the surest first, and how many there were to choose from.

    Args:
        predicted: candidates.
        config: rule, threshold and ratio.
        labelled: number of labelled scenes that the ratio refers to.
    """
    if not config.ratio:
        return [], 0
    found = [p for p in predicted if is_negative(p.building, p.presence, config)]
    found.sort(key=lambda p: (max(p.building, p.presence or 0.0), p.scene.name))
    return [p.scene for p in found[: int(config.ratio * labelled + 1e-9)]], len(found)


def write_negatives(scenes: Sequence[Scene], folder: Path, *, scheme_classes: int) -> list[Scene]:
    """Write masks of background, and the scenes that have them as labels.

    Args:
        scenes: in which there is no building.
        folder: gets a PNG per scene.
        scheme_classes: number of classes with the background.

    Raises:
        OutputError: a mask cannot be written.
    """
    made = []
    for scene in scenes:
        file = folder / f"{scene.name}.png"
        encoded = cv2.imencode(".png", np.zeros((scene.height, scene.width), np.uint8))[1].tobytes()
        write_bytes(file, encoded, parents=True, sync=False)
        counts = [scene.width * scene.height] + [0] * (scheme_classes - 1)
        masks = {"building_mask": file, "damage_mask": file if scheme_classes > 2 else None}
        made.append(scene.model_copy(update={**masks, "soft": None, "class_pixels": counts}))
    return made


def open_classifier(model: str | Path, options: Options) -> Callable[[np.ndarray], float]:
    """What says of images (1, 3, H, W) how likely they show a building, by the model's presence head.

    Images larger than 1024 px are looked at in parts, of which the likeliest counts.

    Raises:
        RecipeError: the model has no such head.
    """
    loaded = None if is_ensemble(model) else load_model(model)
    if loaded is None or not isinstance(loaded.model, FpnEfficientnet):
        raise RecipeError(
            f"{model} has no presence head, which negatives.rule classifier and both ask: take a model of kind "
            "fpn-efficientnet, or negatives.rule: map"
        )
    predictor = Predictor(loaded, device=options.device)
    multiple = predictor.multiple

    def classify(images: np.ndarray) -> float:
        height, width = images.shape[-2:]
        rows, cols = (_parts(length) for length in (height, width))
        highest = 0.0
        for top, bottom in rows:
            for left, right in cols:
                part = images[..., top:bottom, left:right]
                edges = tuple((0, -length % multiple) for length in part.shape[-2:])
                padded = np.pad(part, ((0, 0), (0, 0), *edges), mode="symmetric")
                with torch.inference_mode():
                    value = presence_probability(loaded.model, predictor.prepare(padded[None]))
                highest = max(highest, float(value[0]))
        return highest

    return classify


def check_classifiers(recipe: SelfTrainingRecipe, rounds: Sequence[SelfTrainingRecipe]) -> None:
    """Refuse rounds whose negatives ask a presence head that their teacher will not have, before it is trained.

    Args:
        recipe: of the self-training.
        rounds: the recipe as every round has it.

    Raises:
        RecipeError: with the first such teacher.
    """
    for number, own in enumerate(rounds, 1):
        if not own.negatives.ratio or own.negatives.rule == "map":
            continue
        if number == 1 and recipe.teacher.model is not None:
            open_classifier(recipe.teacher.model, own.predict.options)
            continue
        asked = f"which negatives.rule {own.negatives.rule} asks in round {number}"
        if recipe.predict.seeds > 1:
            raise RecipeError(
                f"the mean of predict.seeds {recipe.predict.seeds} models has no presence head, {asked}: take one seed, "
                "or negatives.rule: map"
            )
        role, keys = (
            ("teacher.recipe", recipe.teacher.recipe)
            if number == 1
            else ("student", rounds[number - 2].student)
        )
        kind = ((keys or {}).get("model") or {}).get("kind")
        if kind not in ("fpn-efficientnet", "custom"):
            raise RecipeError(
                f"{role}.model of kind {kind} has no presence head, {asked}: take fpn-efficientnet, or "
                "negatives.rule: map"
            )


def _parts(length: int) -> list[tuple[int, int]]:
    """Ranges of at most 1024 px that cover a length, as equal as they can be."""
    count = max(1, -(-length // _LARGEST_PX))
    edges = [round(length * n / count) for n in range(count + 1)]
    return list(pairwise(edges))
