"""What an adaptation to an event leaves behind: the report, the card and the picture."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aftermap.artefacts.card import Card
from aftermap.artefacts.store import LoadedModel
from aftermap.classes import DAMAGE
from aftermap.data.scene import Scene, read_images
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.learning.run import machine
from aftermap.workflows.adaptation.event_scenes import EventScenes
from aftermap.workflows.adaptation.figure import ComparedScene, write_comparison
from aftermap.workflows.adaptation.guard import Evidence, Verdict
from aftermap.workflows.adaptation.with_labels import PICTURE_NAME, PICTURED, REPORT_NAME
from aftermap.workflows.adaptation.without_labels_config import AdaptEventRecipe
from aftermap.workflows.scoring.evaluate import decide, decisive_score, evaluate, spread
from aftermap.workflows.training.selection import summary_metrics

Truth = dict[str, float]


@dataclass(frozen=True, slots=True)
class EventAdapted:
    """The outcome.

    Attributes:
        model: the model folder.
        kept: whose weights it holds.
        verdict: of the guard rails.
        before, after: the evidence that it rests on.
        truth_before, truth_after: scores on labelled scenes of the event, which the verdict does not know; None where
            there are none.
        scenes: how many of the event were learned from.
        minutes: in all.
    """

    model: Path
    kept: Literal["adapted", "parent"]
    verdict: Verdict
    before: Evidence
    after: Evidence
    truth_before: Truth | None
    truth_after: Truth | None
    scenes: int
    minutes: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be measured is null."""

        def plain(metrics: Truth | None) -> dict[str, float | None] | None:
            if metrics is None:
                return None
            return {name: round(v, 4) if math.isfinite(v) else None for name, v in metrics.items()}

        return {
            "model": str(self.model),
            "kept": self.kept,
            "verdict": self.verdict.as_dict(),
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "truth_before": plain(self.truth_before),
            "truth_after": plain(self.truth_after),
            "scenes": self.scenes,
            "minutes": round(self.minutes, 2),
        }


def truth_of(predictor: AnyPredictor, scenes: Sequence[Scene]) -> Truth | None:
    """Scores on labelled scenes, `score` (see `decisive_score`) among them; None where there are none."""
    if not scenes:
        return None
    evaluation = evaluate(predictor, scenes)
    metrics = summary_metrics(evaluation, damage=predictor.card.scheme == DAMAGE.name)
    metrics["buildings_found_f1"] = evaluation.report.buildings.localization_f1
    metrics["score"] = decisive_score(evaluation.report.pixels)
    return metrics


def measures(evidence: Evidence, truth: Truth | None) -> dict[str, float]:
    """A line of metrics: `score` is the evidence's, what begins with `true_` the labels'."""
    line = {"score": evidence.score} | {f"{evidence.source}_{k}": v for k, v in evidence.per_class.items()}
    line |= {f"share_{k}": v for k, v in evidence.shares.items()} | evidence.details
    line |= {f"true_{name}": value for name, value in (truth or {}).items()}
    return {name: value for name, value in line.items() if math.isfinite(value)}


def event_name(recipe: AdaptEventRecipe, given: EventScenes) -> str:
    """What the scenes are called together."""
    return recipe.event or ", ".join(sorted({scene.event for scene in given.scenes}))


def card_of(
    parent: LoadedModel, recipe: AdaptEventRecipe, given: EventScenes, adapted: EventAdapted, command: str
) -> Card:
    """The parent's card with the record of the adaptation, or of the attempt."""
    event = event_name(recipe, given)
    metrics: dict[str, dict[str, float]] = {}
    for when, evidence, truth in (
        ("before", adapted.before, adapted.truth_before),
        ("after", adapted.after, adapted.truth_after),
    ):
        found = {evidence.source: evidence.score} | {f"true_{k}": v for k, v in (truth or {}).items()}
        title = f"{event}, {adapted.scenes} scenes, {when} adapting without labels"
        metrics[title] = {name: round(v, 4) for name, v in found.items() if math.isfinite(v)}
    said: dict[str, Any] = {"weights": None, "metrics": parent.card.metrics | metrics}
    if adapted.kept == "parent":
        note = f"An adaptation to {event} without labels was refused ({adapted.verdict.reason})."
        said["limits"] = f"{parent.card.limits} {note}".strip()
        return parent.card.model_copy(update=said)
    record = parent.card.training
    forced = (
        "" if adapted.verdict.kept == "student" else f" Kept against the verdict: {adapted.verdict.reason}."
    )
    said["name"] = f"{parent.card.name}-{recipe.event or 'adapted'}"
    said["licence"] = f"{parent.card.licence}; adapted with images whose licence is: {given.licence}"
    said["limits"] = (
        f"{parent.card.limits} Adapted to {event} without labels; elsewhere it may be worse than its parent.{forced}"
    ).strip()
    said["training"] = record.model_copy(
        update={
            "data": f"{record.data}; adapted to {adapted.scenes} scenes of {event} without labels",
            "data_licence": f"{record.data_licence}; {given.licence}",
            "command": command,
            "steps": recipe.steps,
            "minutes": round(adapted.minutes, 1),
            "hardware": machine(),
            "parent_sha256": parent.sha256,
        }
    )
    return parent.card.model_copy(update=said)


def write_report(
    folder: Path,
    recipe: AdaptEventRecipe,
    given: EventScenes,
    parent: AnyPredictor,
    child: AnyPredictor,
    adapted: EventAdapted,
) -> None:
    """Write `adaptation.json` and `before-after.png` into a run folder.

    Raises:
        OutputError: the picture cannot be written.
    """
    report = {
        "event": event_name(recipe, given),
        "method": recipe.method,
        "parent": recipe.model,
        "parent_sha256": parent.sha256,
        **adapted.as_dict(),
    }
    temporary = folder / (REPORT_NAME + ".part")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.rename(folder / REPORT_NAME)
    compared = [
        ComparedScene(scene, *(_classes(predictor, scene) for predictor in (parent, child)))
        for scene in spread(given.scenes, PICTURED)
    ]
    said = "kept" if adapted.kept == "adapted" else "refused"
    write_comparison(
        folder / PICTURE_NAME,
        compared,
        scheme=parent.card.classes,
        title=f"{event_name(recipe, given)}: {parent.name} adapted without labels, {said}",
        note=adapted.verdict.reason,
    )


def _classes(predictor: AnyPredictor, scene: Scene) -> np.ndarray:
    """Predicted classes (H, W) of a scene."""
    images = read_images(scene, dates=predictor.dates)
    building, damage = decide(predict_scene(predictor, images), Decision.of(predictor.card))
    return building if damage is None else building * damage
