"""Training from a recipe: the rooms below put together."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.store import LoadedModel, load_model, save_model
from aftermap.config import build_config, load_config
from aftermap.data.doctor import check
from aftermap.data.loader import CropSource
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, TrainingError
from aftermap.inference.predictor import Predictor
from aftermap.learning.loop import Step, Training, fit
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.run import Run, machine
from aftermap.models.build import build_model
from aftermap.models.dense import DenseModel
from aftermap.models.transfer import transfer_trunk
from aftermap.recipes.configs import TrainRecipe
from aftermap.recipes.evaluate import Evaluation, evaluate, spread
from aftermap.recipes.samples import write_sample

SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """What a face may show after every step."""

    step: Step
    steps: int
    seconds_left: float
    score: float | None


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome of a run.

    Attributes:
        model: the model folder of the best step.
        metrics: its evaluation.
        minutes: training time of this process, evaluations included.
    """

    model: Path
    metrics: dict[str, float]
    minutes: float


def train(
    recipe: TrainRecipe,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train a model and keep the best step in `folder/model`.

    Args:
        recipe: what to do.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on from the saved state, to the same weights as without the interruption.
        command: how the user asked for it; goes to the card.
        on_progress: called after every step.

    Raises:
        DataError: the data did not pass its check, or a split is empty.
        TrainingError: a loss is not finite, or there is nothing to resume.
        OutputError: the run folder exists or cannot be written.
    """
    started = time.monotonic()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    scenes, validation = _scenes(recipe, deep=not resume)
    torch.manual_seed(recipe.seed)
    model, parent = _start_model(recipe)
    training = Training(
        model,
        Supervised(recipe.objective),
        recipe.optimizer,
        steps=recipe.steps,
        seed=recipe.seed,
        precision=recipe.precision,
    )
    main = training.accelerator.is_main_process
    run = _open_run(recipe, folder, resume=resume, scenes=scenes, validation=validation)
    best = -math.inf
    if resume:
        training.load(run.resume)
        best = max((m["score"] for m in run.metrics(up_to_step=training.step)), default=-math.inf)
        run.log(f"resumed at step {training.step}")
    source = CropSource(
        scenes,
        target=recipe.task,
        dates=model.dates,
        sampling=recipe.sampling,
        augment=recipe.augment,
        mean=recipe.normalisation.mean,
        std=recipe.normalisation.std,
        seed=recipe.seed,
    )
    first_step, score = training.step, None
    try:
        for step in fit(training, source):
            if not main:
                continue
            done = step.number - first_step
            left = (time.monotonic() - started) / done * (recipe.steps - step.number)
            if step.number % recipe.evaluate_every == 0 or step.number == recipe.steps:
                minutes = (time.monotonic() - started) / 60
                card = _card(recipe, parent, step.number, minutes, command)
                metrics, card = _evaluate(model, card, validation, recipe, run, step.number)
                score = metrics["score"]
                run.append_metrics({"step": step.number, "loss": step.loss, "lr": step.lr, **metrics})
                run.log(f"step {step.number}: loss {step.loss:.4f}, score {score:.4f}")
                if score > best:
                    best = score
                    save_model(run.model, model, card, dtype=recipe.weights_dtype)
                training.save(run.resume)
            elif recipe.save_every and step.number % recipe.save_every == 0:
                training.save(run.resume)
            if on_progress is not None:
                on_progress(Progress(step, recipe.steps, left, score))
    except KeyboardInterrupt:
        training.save(run.resume)
        run.record(status="interrupted", step=training.step)
        raise
    except TrainingError as error:
        run.record(status="failed", reason=str(error))
        raise
    finally:
        source.close()
    shutil.rmtree(run.resume, ignore_errors=True)
    chosen = max(run.metrics(), key=lambda m: float(m["score"]), default={})
    minutes = (time.monotonic() - started) / 60
    run.record(status="complete", minutes=round(minutes, 2), best=chosen)
    return Trained(run.model, chosen, minutes)


def load_recipe(path: Path, overrides: list[str]) -> TrainRecipe:
    """Read a training recipe; see `load_config`."""
    return load_config(TrainRecipe, path, overrides)


def resumed_recipe(folder: Path, overrides: list[str]) -> TrainRecipe:
    """The recipe of an interrupted run, from its folder.

    Raises:
        TrainingError: there is no run to resume.
    """
    file = folder / "recipe.yaml"
    if not file.exists() or not (folder / "resume").exists():
        raise TrainingError(f"{folder} holds no interrupted run to resume")
    return build_config(TrainRecipe, yaml.safe_load(file.read_text()), overrides, source=str(file))


def _scenes(recipe: TrainRecipe, *, deep: bool) -> tuple[list[Scene], list[Scene]]:
    """Training and validation scenes, after the data's check; a `deep` one decodes every image and mask."""
    wanted = recipe.data
    pooled: list[Scene] = []
    for path in wanted.manifests:
        manifest = Manifest.load(path)
        report = check(manifest, deep=deep)
        if report.errors:
            first = report.errors[0]
            raise DataError(
                f"{path} did not pass its check ({len(report.errors)} errors; first: {first.message}): "
                f"see 'aftermap data check {path}'"
            )
        pooled += [s for s in manifest.scenes if s.is_labelled and s.event not in wanted.exclude_events]
    dates = 2 if recipe.task == "damage" else 1
    pooled = [s for s in pooled if s.post is not None or dates == 1]
    pooled = [s for s in pooled if s.damage_mask is not None or recipe.task == "building"]
    training = [s for s in pooled if s.split in wanted.train_splits]
    validation = [s for s in pooled if s.split == wanted.validation_split]
    if not training or not validation:
        raise DataError(
            f"{len(training)} training and {len(validation)} validation scenes for task {recipe.task}: "
            "assign splits with 'aftermap data split'"
        )
    return training, spread(validation, recipe.validation_scenes)


def _start_model(recipe: TrainRecipe) -> tuple[DenseModel, str | None]:
    """A fresh model, or one grown from `init_from`, with the parent's hash."""
    model = build_model(recipe.model)
    if recipe.init_from is None:
        return model, None
    parent = load_model(recipe.init_from)
    transfer_trunk(parent.model, model)
    return model, parent.sha256


def _open_run(
    recipe: TrainRecipe, folder: Path, *, resume: bool, scenes: list[Scene], validation: list[Scene]
) -> Run:
    if resume:
        run = Run(folder)
        run.record(status="running")
        return run
    facts: dict[str, Any] = {
        "seed": recipe.seed,
        "training_scenes": len(scenes),
        "validation_scenes": len(validation),
        "events": sorted({s.event for s in scenes}),
        "data": [str(path) for path in recipe.data.manifests],
    }
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    return Run.start(folder, text, facts)


def _card(recipe: TrainRecipe, parent: str | None, step: int, minutes: float, command: str) -> Card:
    return Card(
        name=recipe.name,
        model=recipe.model,
        dates=2 if recipe.task == "damage" else 1,
        scheme=recipe.scheme.name,
        normalisation=recipe.normalisation,
        resolution_m=recipe.resolution_m,
        training=TrainingRecord(
            data=recipe.data.description or ", ".join(path.name for path in recipe.data.manifests),
            data_licence=recipe.data.licence,
            command=command,
            steps=step,
            minutes=round(minutes, 1),
            hardware=machine(),
            parent_sha256=parent,
        ),
        licence=recipe.licence,
        limits=recipe.limits,
    )


def _evaluate(
    model: DenseModel, card: Card, validation: list[Scene], recipe: TrainRecipe, run: Run, step: int
) -> tuple[dict[str, float], Card]:
    """Metrics on the validation scenes, and the card with the threshold and class weights that suit them best."""
    model.eval()
    device = str(next(model.parameters()).device)
    predictor = Predictor(LoadedModel(model, card, run.model, ""), device=device)
    drawn = {s.name for s in spread(validation, SAMPLES)}

    def on_scene(scene: Scene, images: Any, probabilities: Any) -> None:
        if scene.name in drawn:
            write_sample(
                run.folder / "samples" / f"{step:06d}-{scene.name}.png", scene, images, probabilities
            )

    evaluation = evaluate(predictor, validation, on_scene=on_scene)
    metrics = summary_metrics(evaluation, damage=recipe.task == "damage")
    metrics["score"] = metrics["score_present" if recipe.task == "damage" else "localization_f1"]
    threshold = round(evaluation.best_threshold, 3)
    shown = {name: round(value, 4) for name, value in metrics.items() if math.isfinite(value)}
    tuned = {"building_threshold": threshold, "damage_weights": evaluation.best_weights}
    return metrics, card.model_copy(update=tuned | {"metrics": {"validation, before tuning": shown}})


def summary_metrics(evaluation: Evaluation, *, damage: bool) -> dict[str, float]:
    """The numbers of an evaluation that go to metrics files and cards."""
    pixels, buildings = evaluation.report.pixels, evaluation.report.buildings
    metrics = {"localization_f1": pixels.localization_f1}
    if damage:
        metrics |= {"official_score": pixels.score, "score_present": pixels.score_present}
        metrics |= {f"f1_{name}": value for name, value in pixels.damage_f1_per_class.items()}
        metrics |= {"building_macro_f1": buildings.macro_f1, "building_f1_destroyed": buildings.f1_destroyed}
    return metrics
