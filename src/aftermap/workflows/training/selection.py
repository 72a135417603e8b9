"""The measures by which the best step of a run is chosen."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aftermap.artefacts.card import Card
from aftermap.artefacts.store import LoadedModel
from aftermap.classes import BUILDING, DAMAGE
from aftermap.data.scene import Scene, read_mask
from aftermap.errors import DataError
from aftermap.inference.predictor import Predictor
from aftermap.learning.run import Run
from aftermap.models.networks.dense import DenseModel
from aftermap.products.figures.painting import overlay
from aftermap.scoring.original_scores import (
    BuildingMeasure,
    System,
    original_score,
    stored_localization,
)
from aftermap.wording import counted
from aftermap.workflows.adaptation.guard import GuardConfig, gather_evidence
from aftermap.workflows.scoring.evaluate import Evaluation, evaluate, spread
from aftermap.workflows.training.config import TrainRecipe

SAMPLES = 4


class StepJudge:
    """Evaluates a model in training and says how good a step is."""

    def __init__(self, recipe: TrainRecipe, validation: Sequence[Scene]) -> None:
        """Check that the measure can be had.

        Raises:
            DataError: a validation scene has no out-of-fold map.
        """
        self._recipe = recipe
        self._validation = list(validation)
        maps = recipe.selection.localization
        if maps is not None:
            missing = [s.name for s in validation if not (maps / f"{s.name}.png").is_file()]
            if missing:
                raise DataError(
                    f"{maps} lacks the maps of {counted(len(missing), 'scene')}, such as {missing[0]}.png"
                )

    def assess(self, model: DenseModel, card: Card, run: Run, step: int) -> tuple[dict[str, float], Card]:
        """Metrics on the validation scenes, `score` among them, and the card with what was tuned on them."""
        recipe = self._recipe
        model.eval()
        device = str(next(model.parameters()).device)
        predictor = Predictor(LoadedModel(model, card, run.model, ""), device=device)
        if recipe.selection.metric == "information":
            return _without_labels(predictor, self._validation, card)
        drawn = {s.name for s in spread(self._validation, SAMPLES)}
        measure = _measure(recipe)

        def on_scene(scene: Scene, images: Any, probabilities: Any) -> None:
            if scene.name in drawn:
                file = run.folder / "samples" / f"{step:06d}-{scene.name}.png"
                write_sample(file, scene, images, probabilities)
            if measure is not None:
                measure.add(scene, probabilities)

        evaluation = evaluate(predictor, self._validation, on_scene=on_scene)
        metrics = summary_metrics(evaluation, damage=recipe.task == "damage")
        if recipe.selection.metric == "jaccard":
            metrics["score"] = metrics["jaccard"] = evaluation.report.pixels.localization_iou
        elif measure is None:
            metrics["score"] = metrics["score_present" if recipe.task == "damage" else "localization_f1"]
        else:
            metrics |= measure.result()
        shown = {name: round(value, 4) for name, value in metrics.items() if math.isfinite(value)}
        title = "validation, before tuning" if recipe.selection.tune else "validation"
        tuned: dict[str, Any] = {"metrics": {title: shown}}
        if recipe.selection.tune:
            tuned["building_threshold"] = round(evaluation.best_threshold, 3)
            tuned["damage_weights"] = evaluation.best_weights
        return metrics, card.model_copy(update=tuned)


def _without_labels(
    predictor: Predictor, scenes: Sequence[Scene], card: Card
) -> tuple[dict[str, float], Card]:
    """Metrics without labels, `score` among them, and the card with them."""
    found = gather_evidence(predictor, scenes, GuardConfig(labels=False, scenes=0))
    metrics = {"score": found.score} | {f"agreement_{name}": v for name, v in found.per_class.items()}
    metrics |= {f"share_{name}": value for name, value in found.shares.items()} | found.details
    shown = {name: round(value, 4) for name, value in metrics.items() if math.isfinite(value)}
    return metrics, card.model_copy(update={"metrics": {"validation, without labels": shown}})


def summary_metrics(evaluation: Evaluation, *, damage: bool) -> dict[str, float]:
    """The numbers of an evaluation that go to metrics files and cards."""
    pixels, buildings = evaluation.report.pixels, evaluation.report.buildings
    metrics = {"localization_f1": pixels.localization_f1}
    if damage:
        metrics |= {"official_score": pixels.score, "score_present": pixels.score_present}
        metrics |= {f"f1_{name}": value for name, value in pixels.damage_f1_per_class.items()}
        metrics |= {"building_macro_f1": buildings.macro_f1, "building_f1_destroyed": buildings.f1_destroyed}
    return metrics


class _PublishedMeasure:
    """A published system's own measure, fed with scenes."""

    def __init__(self, recipe: TrainRecipe, system: System) -> None:
        # the winner's one sigmoid model for damage, its ResNet-34, was validated otherwise than the rest
        building: BuildingMeasure = "per-image" if recipe.activation == "sigmoid" else "pooled"
        self._measure = original_score(system, recipe.task, building=building)
        self._maps = recipe.selection.localization
        self._damage = recipe.task == "damage"

    def add(self, scene: Scene, probabilities: np.ndarray) -> None:
        """Add a scene with its probabilities (K, H, W)."""
        where = None
        if self._maps is not None:
            stored = cv2.imread(str(self._maps / f"{scene.name}.png"), cv2.IMREAD_UNCHANGED)
            if stored is None or stored.shape != probabilities.shape[1:]:
                raise DataError(
                    f"{self._maps / scene.name}.png is no map of {scene.width} x {scene.height} px"
                )
            where = stored_localization(stored)
        damage = read_mask(scene, target="damage") if self._damage else None
        self._measure.update(probabilities, read_mask(scene, target="building"), damage, where)

    def result(self) -> dict[str, float]:
        """`score` and what it is made of."""
        return self._measure.result()


def _measure(recipe: TrainRecipe) -> _PublishedMeasure | None:
    """The measure of a published system that a recipe wants, None for one of ours."""
    system = recipe.selection.metric
    return _PublishedMeasure(recipe, system) if system == "xview2" or system == "metadamagenet" else None


SIDE_PX = 512


def write_sample(path: Path, scene: Scene, images: np.ndarray, probabilities: np.ndarray) -> None:
    """Write a strip of images (T, 3, H, W), truth and most likely class of probabilities (K, H, W)."""
    damage = len(probabilities) == len(DAMAGE)
    scheme = DAMAGE if damage else BUILDING
    truth = read_mask(scene, target="damage" if damage else "building")
    predicted = probabilities.argmax(axis=0).astype(np.uint8)
    backdrop = images[-1].transpose(1, 2, 0)
    panels = [image.transpose(1, 2, 0) for image in images]
    panels += [overlay(backdrop, mask, scheme) for mask in (truth, predicted)]
    height, width = truth.shape
    scale = min(1.0, SIDE_PX / max(height, width))
    size = round(width * scale), round(height * scale)
    strip = np.hstack([cv2.resize(panel, size, interpolation=cv2.INTER_AREA) for panel in panels])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(strip[..., ::-1]))
