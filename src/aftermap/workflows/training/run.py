"""Training from a recipe: the rooms below put together."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.config import build_config, load_config, read_tree
from aftermap.data.scene import Scene
from aftermap.errors import TrainingError
from aftermap.learning.experiments.tracking import connect
from aftermap.learning.loop import Training
from aftermap.learning.objectives.distillation import DistillationConfig
from aftermap.learning.run import Run, data_checksum, machine
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.scoring.evaluate import spread
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import recipe_path
from aftermap.workflows.training.scenes import Chosen, choose_scenes
from aftermap.workflows.training.selection import Pace, Selection
from aftermap.workflows.training.start import start_crops, start_model, start_objective
from aftermap.workflows.training.steps import Keeping, Progress, Trained, run_training
from aftermap.workflows.training.teachers import TeacherScores, check_teachers


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

    def assess(network: DenseModel, step: int, minutes: float) -> tuple[dict[str, float], Card]:
        return selection.assess(network, _card(recipe, parent, step, minutes, command), run, step)

    keeping = Keeping(
        recipe.name,
        recipe.model_dump(mode="json"),
        connection,
        recipe.notify,
        keep=recipe.selection.keep,
        save_every=recipe.save_every,
        weights_dtype=recipe.weights_dtype,
    )
    return run_training(
        run,
        training,
        source,
        pace,
        assess,
        keeping,
        resume=resume,
        started=started,
        on_progress=on_progress,
        on_score=on_score,
    )


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
