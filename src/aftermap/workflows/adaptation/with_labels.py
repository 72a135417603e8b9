"""A trained model adapted to an event with a few labelled scenes of it, and measured on the others, before and after."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

from aftermap.artefacts.card import Card
from aftermap.artefacts.ensemble import is_ensemble
from aftermap.artefacts.store import LoadedModel, load_model, save_model
from aftermap.classes import DAMAGE
from aftermap.data.checking.splits import buildings
from aftermap.data.loading.few_shot_tasks import Shots, ShotSource
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import ModelError, OutputError, RecipeError
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import Predictor
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import connect
from aftermap.learning.loop import Step, Training, fit
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.run import Run, data_checksum, machine
from aftermap.learning.trainable import FrozenNorm, tune_only
from aftermap.workflows.adaptation.figure import ComparedScene, write_comparison
from aftermap.workflows.adaptation.labelled_scenes import choose_scenes
from aftermap.workflows.adaptation.with_labels_config import AdaptConfig, default_objective
from aftermap.workflows.scoring.evaluate import decide, decisive_score, evaluate, spread
from aftermap.workflows.training.selection import summary_metrics

PICTURED = 4
REPORT_NAME = "adaptation.json"
PICTURE_NAME = "before-after.png"


@dataclass(frozen=True, slots=True)
class Adapted:
    """The outcome.

    Attributes:
        model: the model folder.
        before, after: metrics on the evaluated scenes; `score` (see `decisive_score`) says whether it helped.
        scenes: names of the scenes that were learned from.
        evaluated: how many others were scored.
        kept: whose weights the folder holds.
        minutes: in all, both evaluations included.
    """

    model: Path
    before: dict[str, float]
    after: dict[str, float]
    scenes: tuple[str, ...]
    evaluated: int
    kept: Literal["adapted", "parent"]
    minutes: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be measured is null."""

        def plain(metrics: dict[str, float]) -> dict[str, float | None]:
            return {name: round(v, 4) if math.isfinite(v) else None for name, v in metrics.items()}

        return {
            "model": str(self.model),
            "kept": self.kept,
            "scenes": list(self.scenes),
            "evaluated": self.evaluated,
            "before": plain(self.before),
            "after": plain(self.after),
            "minutes": round(self.minutes, 2),
        }


@dataclass(frozen=True, slots=True)
class AdaptProgress:
    """What a face may show: `stage` is `before`, `adapting` or `after`."""

    stage: Literal["before", "adapting", "after"]
    done: int
    total: int


def adapt(
    config: AdaptConfig,
    folder: Path,
    *,
    command: str = "",
    on_progress: Callable[[AdaptProgress], None] | None = None,
) -> Adapted:
    """Fine-tune a model on a few scenes of an event and write it, with the scores on the event's other scenes.

    Where the score falls, the folder gets the parent's weights (see `AdaptConfig.force`). Written are `model/`,
    `adaptation.json`, `before-after.png`, `recipe.yaml`, `run.json` and `metrics.jsonl`.

    Args:
        config: what to do.
        folder: the run folder, new.
        command: how the user asked for it; goes to the card.
        on_progress: called after every scene and step.

    Raises:
        DataError: the event has too few labelled scenes, or labels that the model does not tell.
        ModelError: there is no such model, or it is an ensemble.
        OutputError: the run folder exists or cannot be written.
        TrainingError: a loss is not finite.
    """
    if is_ensemble(config.model):
        raise ModelError(
            f"{config.model} is an ensemble: adapt its members one by one, they are its sub-folders"
        )
    parent = load_model(config.model)
    manifest = Manifest.load(config.data)
    chosen, others = choose_scenes(manifest, config, parent.card)
    others = spread(others, config.evaluated)
    if (folder / "run.json").exists():
        raise OutputError(f"{folder} already holds a run: choose another -o")
    connection = connect(config.records, folder)
    facts = {
        "seed": config.seed,
        "task": "damage" if parent.card.scheme == DAMAGE.name else "building",
        "events": [config.event],
        "scenes": [scene.name for scene in chosen],
        "parent_sha256": parent.sha256,
        "data_checksum": data_checksum(chosen),
    }
    run = Run.start(folder, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), facts)
    shutil.rmtree(folder / "samples", ignore_errors=True)  # empty: there is one picture, of another kind
    with Records(connection, run, config.model_dump(mode="json")) as records:
        return _adapt(config, run, records, parent, manifest, chosen, others, command, on_progress)


def _adapt(
    config: AdaptConfig,
    run: Run,
    records: Records,
    parent: LoadedModel,
    manifest: Manifest,
    chosen: Sequence[Scene],
    others: Sequence[Scene],
    command: str,
    on_progress: Callable[[AdaptProgress], None] | None,
) -> Adapted:
    """Score, learn, score again, and write what came of it."""
    started, folder = time.monotonic(), run.folder

    def tell(stage: Literal["before", "adapting", "after"], done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(AdaptProgress(stage, done, total))

    pictured = [s.name for s in spread([s for s in others if buildings(s)] or others, PICTURED)]
    before, seen_before = _measure(
        parent, others, config.device, pictured, lambda n: tell("before", n, len(others))
    )
    run.append_metrics({"step": 0, **before})
    records.log(0, before, kept=False)
    child = load_model(config.model)
    loss = math.nan
    for step in fine_tune(child, chosen, config):
        tell("adapting", step.number, config.steps)
        loss = step.loss
    after, seen_after = _measure(
        child, others, config.device, pictured, lambda n: tell("after", n, len(others))
    )
    run.append_metrics({"step": config.steps, "loss": loss, **after})
    worse = not after["score"] >= before["score"]
    kept: Literal["adapted", "parent"] = "parent" if worse and not config.force else "adapted"
    records.log(config.steps, {"loss": loss, **after}, kept=kept == "adapted")
    minutes = (time.monotonic() - started) / 60
    titles = [f"{config.event}, {len(others)} other scenes, {when} adapting" for when in ("before", "after")]
    card = _card(
        parent,
        manifest,
        config,
        chosen,
        dict(zip(titles, (before, after), strict=True)),
        kept,
        minutes,
        command,
    )
    stored = parent.card.weights.dtype if parent.card.weights is not None else "float32"
    save_model(
        run.model,
        (parent if kept == "parent" else child).model,
        card,
        dtype="float16" if stored == "float16" else "float32",
    )
    names = tuple(scene.name for scene in chosen)
    adapted = Adapted(run.model, before, after, names, len(others), kept, minutes)
    report = {
        "event": config.event,
        "parent": config.model,
        "parent_sha256": parent.sha256,
        **adapted.as_dict(),
    }
    temporary = folder / (REPORT_NAME + ".part")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.rename(folder / REPORT_NAME)
    write_comparison(
        folder / PICTURE_NAME,
        [ComparedScene(s, seen_before[s.name], seen_after[s.name]) for s in others if s.name in pictured],
        scheme=parent.card.classes,
        title=f"{config.event}: {parent.card.name} before and after {len(chosen)} scene(s)",
    )
    run.record(minutes=round(minutes, 2), kept=kept, best={"step": config.steps, **after})
    return adapted


def fine_tune(child: LoadedModel, scenes: Sequence[Scene], config: AdaptConfig) -> Iterator[Step]:
    """Change the weights of a loaded model in place, a step at a time.

    Raises:
        RecipeError: crops that the model cannot take, or a loss that does not go with its classes.
        TrainingError: a loss is not finite.
    """
    card = child.card
    stride = child.model.stride
    if config.shots.crop_px % stride:
        raise RecipeError(f"shots.crop_px is {config.shots.crop_px}, this model needs multiples of {stride}")
    largest = max(max(scene.width, scene.height) for scene in scenes)
    crop_px = min(config.shots.crop_px, -(-largest // stride) * stride)
    torch.manual_seed(config.seed)
    tune_only(child.model, config.tune)
    shots = Shots(
        config.shots.model_copy(update={"crop_px": crop_px}),
        target="damage" if card.scheme == DAMAGE.name else "building",
        dates=card.dates,
        mean=card.normalisation.mean,
        std=card.normalisation.std,
        band_order=card.band_order,
    )
    wanted = config.objective or default_objective(card)
    try:
        wanted.check_classes(child.model.classes)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    objective: Objective = Supervised(wanted)
    training = Training(
        child.model,
        FrozenNorm(objective) if config.norm == "frozen" else objective,
        OptimizerConfig(
            lr=config.lr, schedule=CosineConfig(warmup_steps=min(5, config.steps), final_fraction=0.0)
        ),
        steps=config.steps,
        seed=config.seed,
        precision=config.precision,
    )
    yield from fit(training, ShotSource(scenes, shots, batch_size=config.batch_size, seed=config.seed))
    child.model.eval()


def _measure(
    loaded: LoadedModel,
    scenes: Sequence[Scene],
    device: str,
    pictured: Sequence[str],
    on_scene: Callable[[int], None],
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics on scenes, and the predicted classes (H, W) of those to be drawn."""
    predictor = Predictor(loaded, device=device)
    decision = Decision.of(loaded.card)
    drawn: dict[str, np.ndarray] = {}
    done = 0

    def count(scene: Scene, images: np.ndarray, probabilities: np.ndarray) -> None:
        nonlocal done
        done += 1
        if scene.name in pictured:
            building, damage = decide(probabilities, decision)
            drawn[scene.name] = building if damage is None else building * damage
        on_scene(done)

    evaluation = evaluate(predictor, scenes, on_scene=count)
    damage = loaded.card.scheme == DAMAGE.name
    metrics = summary_metrics(evaluation, damage=damage)
    metrics["score"] = decisive_score(evaluation.report.pixels)
    return metrics, drawn


def _card(
    parent: LoadedModel,
    manifest: Manifest,
    config: AdaptConfig,
    chosen: Sequence[Scene],
    measures: dict[str, dict[str, float]],
    kept: Literal["adapted", "parent"],
    minutes: float,
    command: str,
) -> Card:
    """The parent's card with the record of the adaptation, or of the attempt."""
    names = ", ".join(scene.name for scene in chosen)
    licence = manifest.licence or "not stated"
    metrics = {
        title: {name: round(value, 4) for name, value in found.items() if math.isfinite(value)}
        for title, found in measures.items()
    }
    said: dict[str, Any] = {"weights": None, "metrics": parent.card.metrics | metrics}
    if kept == "parent":
        note = f"An adaptation to {config.event} ({names}) scored lower and was not kept."
        said["limits"] = f"{parent.card.limits} {note}".strip()
        return parent.card.model_copy(update=said)
    record = parent.card.training
    said["name"] = f"{parent.card.name}-{config.event}"
    said["licence"] = f"{parent.card.licence}; adapted with data whose licence is: {licence}"
    said["limits"] = (
        f"{parent.card.limits} Adapted to {config.event}; elsewhere it may be worse than its parent.".strip()
    )
    said["training"] = record.model_copy(
        update={
            "data": f"{record.data}; adapted to {config.event} with {len(chosen)} scene(s): {names}",
            "data_licence": f"{record.data_licence}; {licence}",
            "command": command,
            "steps": config.steps,
            "minutes": round(minutes, 1),
            "hardware": machine(),
            "parent_sha256": parent.sha256,
        }
    )
    return parent.card.model_copy(update=said)
