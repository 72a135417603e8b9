"""Training from a recipe: the rooms below put together."""

import math
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.store import save_model
from aftermap.config import build_config, load_config, read_tree
from aftermap.data.scene import Scene
from aftermap.errors import TrainingError
from aftermap.learning.loop import Step, Training, fit
from aftermap.learning.notify import Notifier
from aftermap.learning.objectives.distillation import DistillationConfig
from aftermap.learning.records import Records
from aftermap.learning.run import Run, data_checksum, machine
from aftermap.learning.tracking import connect
from aftermap.recipes.configs import TrainRecipe
from aftermap.recipes.evaluate import spread
from aftermap.recipes.files import recipe_path
from aftermap.recipes.scenes import Chosen, choose_scenes
from aftermap.recipes.selection import Pace, Selection
from aftermap.recipes.start import start_crops, start_model, start_objective
from aftermap.recipes.teachers import TeacherScores, check_teachers


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
    on_score: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train a model and keep the best step in `folder/model`.

    Args:
        recipe: what to do.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on from the saved state, to the same weights as without the interruption.
        command: how the user asked for it; goes to the card.
        on_progress: called after every step.
        on_score: called after every evaluation with the step and its score; what it raises ends the run.

    Raises:
        DataError: the data did not pass its check, or a split is empty.
        RecipeError: the model does not take the task's dates or the crops' size.
        TrainingError: a loss is not finite, or there is nothing to resume.
        OutputError: the run folder exists or cannot be written.
    """
    started = time.monotonic()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    if not resume:
        Run.check_new(folder)
    chosen = choose_scenes(
        recipe.data,
        recipe.task,
        deep=not resume,
        unlabelled=recipe.data.unlabelled,
        label_free=recipe.selection.metric == "information",
    )
    validation = spread(chosen.validation, recipe.validation_scenes)
    selection = Selection(recipe, validation)
    torch.manual_seed(recipe.seed)
    model, parent = start_model(recipe)
    source = start_crops(recipe, chosen.training, model)
    pace = Pace.of(recipe, source.steps_per_epoch)
    objective = start_objective(recipe, model)
    training = Training(
        model,
        objective,
        recipe.optimizer,
        steps=pace.steps,
        seed=recipe.seed,
        precision=recipe.precision,
        steps_per_epoch=pace.steps_per_epoch,
    )
    source.device = training.accelerator.device
    main = training.accelerator.is_main_process
    connection = connect(recipe.records, folder, enabled=main)
    asked = recipe.objective.teachers if isinstance(recipe.objective, DistillationConfig) else {}
    checked = main and recipe.teacher_check and not resume
    teachers = check_teachers(asked, validation, device=str(training.accelerator.device)) if checked else {}
    run = _open_run(
        recipe,
        folder,
        resume=resume,
        chosen=chosen,
        validation=validation,
        parent=parent,
        teachers=teachers,
    )
    best = -math.inf
    if resume:
        training.load(run.resume)
        known = (m["score"] for m in run.metrics(up_to_step=training.step))
        best = max((score for score in known if math.isfinite(score)), default=-math.inf)
        run.log(f"resumed at step {training.step}")
    first_step, score, terms = training.step, None, _TermMeans()
    with (
        closing(source),
        Records(connection, run, recipe.model_dump(mode="json")) as records,
        Notifier(recipe.notify, recipe.name, folder, enabled=main) as notifier,
    ):
        try:
            for step in fit(training, source):
                if not main:
                    continue
                terms.add(step.terms)
                done = step.number - first_step
                left = (time.monotonic() - started) / done * (pace.steps - step.number)
                if pace.is_evaluated(step.number):
                    minutes = (time.monotonic() - started) / 60
                    card = _card(recipe, parent, step.number, minutes, command)
                    metrics, card = selection.assess(objective.evaluated(model), card, run, step.number)
                    score = metrics["score"]
                    line = {"step": step.number, "loss": step.loss, "lr": step.lr, **terms.take(), **metrics}
                    run.append_metrics(line)
                    run.log(f"step {step.number}: loss {step.loss:.4f}, score {score:.4f}")
                    # a score that cannot be measured (no building among the scenes) is kept for want of another
                    kept = score > best or recipe.selection.keep == "last" or not run.model.exists()
                    if kept:
                        best = max(best, score) if math.isfinite(score) else best
                        save_model(run.model, objective.evaluated(model), card, dtype=recipe.weights_dtype)
                        notifier.best(step.number, score)
                    records.log(step.number, line, kept=kept)
                    training.save(run.resume)
                    if on_score is not None:
                        on_score(step.number, score)
                elif recipe.save_every and step.number % recipe.save_every == 0:
                    training.save(run.resume)
                if on_progress is not None:
                    on_progress(Progress(step, pace.steps, left, score))
        except KeyboardInterrupt:
            training.save(run.resume)
            run.record(step=training.step)
            raise
        shutil.rmtree(run.resume, ignore_errors=True)
        chosen_step = run.metrics()[-1] if recipe.selection.keep == "last" else _best(run.metrics())
        minutes = (time.monotonic() - started) / 60
        run.record(minutes=round(minutes, 2), best=chosen_step)
    return Trained(run.model, chosen_step, minutes)


def load_recipe(path: Path, overrides: list[str]) -> TrainRecipe:
    """Read a training recipe; see `load_config`."""
    return load_config(TrainRecipe, recipe_path(path), overrides)


def resumed_recipe(folder: Path, overrides: list[str]) -> TrainRecipe:
    """The recipe of an interrupted run, from its folder.

    Raises:
        TrainingError: there is no run to resume.
    """
    file = folder / "recipe.yaml"
    if not file.exists() or not (folder / "resume").exists():
        raise TrainingError(f"{folder} holds no interrupted run to resume")
    return build_config(TrainRecipe, read_tree(file), overrides, source=str(file))


class _TermMeans:
    """Mean of every term of the loss over the steps since the last evaluation, or since the run was resumed.

    Values are as they enter the loss, weights included; a term that is left out of a step counts 0 there, so that
    the means add up to the mean loss.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0

    def add(self, terms: dict[str, float]) -> None:
        """Count a step."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    def take(self) -> dict[str, float]:
        """The means as `loss_<name>`; counting starts again."""
        means = {f"loss_{name}": total / self._steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        return means


def _best(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation with the highest score, the first of equal ones; those without a score come last."""
    return max(metrics, key=lambda m: m["score"] if math.isfinite(m["score"]) else -math.inf, default={})


def _open_run(
    recipe: TrainRecipe,
    folder: Path,
    *,
    resume: bool,
    chosen: Chosen,
    validation: list[Scene],
    parent: str | None,
    teachers: dict[str, TeacherScores],
) -> Run:
    if resume:
        run = Run(folder)
        run.record(status="running")
        return run
    facts: dict[str, Any] = {
        "seed": recipe.seed,
        "task": recipe.task,
        "training_scenes": len(chosen.training),
        "validation_scenes": len(validation),
        "events": sorted({s.event for s in chosen.training}),
        "data": [str(path) for path in recipe.data.manifests],
        "data_checksum": data_checksum([*chosen.training, *validation]),
        "parent_sha256": parent,
    }
    if teachers:
        facts["teachers"] = {name: scores.facts() for name, scores in teachers.items()}
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    run = Run.start(folder, text, facts)
    for name, scores in teachers.items():
        run.log(f"teacher {name}: {scores}")
    return run


def _card(recipe: TrainRecipe, parent: str | None, step: int, minutes: float, command: str) -> Card:
    return Card(
        name=recipe.name,
        model=recipe.model,
        dates=2 if recipe.task == "damage" else 1,
        scheme=recipe.scheme.name,
        bands=recipe.bands,
        normalisation=recipe.normalisation,
        activation=recipe.activation,
        channel_0=recipe.channel_0,
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
