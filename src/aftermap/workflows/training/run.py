"""Training from a recipe: the rooms below put together.

    recipe ── choose_scenes ──> scenes ── start_crops ──> crops: `Batch` after `Batch`
           ── start_model ────> network ┐
           ── start_objective ─> terms  ┴──> `Training` (learning/loop.py): one optimizer step after the other

`OrdinaryTraining` holds these three together and says how a model is judged; `run_training` (training_kind.py) makes the
steps, has the model judged between them, and keeps the best in `folder/model`.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aftermap.artefacts.card import Card
from aftermap.artefacts.store import load_card
from aftermap.data.scene import Scene
from aftermap.learning.configs.distillation import DistillationConfig
from aftermap.learning.fastest_precision import fastest_precision
from aftermap.learning.loop import Training
from aftermap.learning.run import Run, data_checksum
from aftermap.learning.trainable import fix_norm, tune_only
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.scoring.evaluate import spread
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run_folder import check_folder
from aftermap.workflows.training.scenes import Chosen, choose_scenes
from aftermap.workflows.training.selection import StepJudge
from aftermap.workflows.training.start import (
    RunLength,
    began_with,
    licence_with,
    parents_of,
    start_crops,
    start_model,
    start_objective,
)
from aftermap.workflows.training.teachers import TeacherScores, check_teachers
from aftermap.workflows.training.training_kind import (
    OnProgress,
    Trained,
    TrainingKind,
    run_training,
    training_record,
    unseen,
)


def train(
    recipe: TrainRecipe,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: OnProgress = unseen,
    on_score: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train a model and keep the best step in `folder/model`.

    The entry of ordinary and distilled runs; those of other kinds are `adapt`, `self_train`, `learn_incrementally` and
    `meta_train`; `workflows.kinds.train_recipe`, which `aftermap.train` calls, chooses among them by the recipe's kind.

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
    check_folder(folder, resume=resume)
    began_with(recipe)  # a licence that nobody says is told before the data are looked through
    chosen = choose_scenes(
        recipe.data,
        recipe.task,
        deep=not resume,
        unlabelled=recipe.data.unlabelled,
        label_free=recipe.selection.metric == "information",
    )
    kind = OrdinaryTraining(recipe, chosen, command)
    return run_training(
        kind, folder, resume=resume, started=started, on_progress=on_progress, on_score=on_score
    )


def finish_training(recipe: TrainRecipe, folder: Path, *, command: str, on_progress: OnProgress) -> Path:
    """Train, go on with a run that was interrupted, or do nothing where it is complete; gives the model folder.

    A run that broke off before its first saved state begins anew.
    """
    run = Run(folder)
    begun = (folder / "run.json").is_file()
    if begun and run.facts().get("status") == "complete":
        if run.model.is_dir():
            return run.model
        run.record(status="interrupted")
    return train(recipe, folder, resume=begun, command=command, on_progress=on_progress).model


class OrdinaryTraining(TrainingKind):
    """Learning from a dataset's labels, from teachers, or from both.

    Args:
        recipe: what to do.
        chosen: the scenes to learn from and to judge by.
        command: how the user asked for it; goes to the card.
    """

    samples = True

    def __init__(self, recipe: TrainRecipe, chosen: Chosen, command: str) -> None:
        self.recipe, self.command = recipe, command
        self.name, self.tree = recipe.name, recipe.model_dump(mode="json")
        self.records, self.notify = recipe.records, recipe.notify
        self.save_every, self.weights_dtype = recipe.save_every, recipe.weights_dtype
        self.keep = recipe.selection.keep
        self._chosen = chosen
        self._validation: list[Scene] = spread(chosen.validation, recipe.validation_scenes)
        self._selection = StepJudge(recipe, self._validation)
        self._teachers: dict[str, TeacherScores] = {}
        torch.manual_seed(recipe.seed)
        self._encoder, self._parents = began_with(recipe), parents_of(recipe)
        model, self._parent = start_model(recipe)
        self._events = {scene.event for scene in chosen.training} | _events_before(recipe)
        tune_only(model, recipe.tune)
        self.keep_optimizer = recipe.keep_optimizer
        self.source = crops = start_crops(recipe, chosen.training, model)
        self.length = RunLength.of(recipe, crops.steps_per_epoch)
        precision = recipe.precision
        if precision == "auto":
            precision = fastest_precision(
                model,
                bands=len(recipe.bands),
                crop_px=recipe.sampling.crop_px,
                batch_size=recipe.sampling.batch_size,
                described=recipe.model.model_dump(mode="json"),
            )
        self.training = Training(
            model,
            fix_norm(model, start_objective(recipe, model), recipe.norm),
            recipe.optimizer,
            steps=self.length.steps,
            seed=recipe.seed,
            precision=precision,
            steps_per_epoch=self.length.steps_per_epoch,
        )
        crops.device = self.training.accelerator.device
        if recipe.optimizer_from is not None:
            self.training.load_optimizer(recipe.optimizer_from / "optimizer.pt")

    def facts(self) -> dict[str, Any]:
        """Seed, scenes and events; scores of the teachers."""
        recipe, training = self.recipe, self._chosen.training
        facts: dict[str, Any] = {
            "seed": recipe.seed,
            "task": recipe.task,
            "training_scenes": len(training),
            "validation_scenes": len(self._validation),
            "events": sorted({scene.event for scene in training}),
            "data": [str(path) for path in recipe.data.manifests],
            "data_checksum": data_checksum([*training, *self._validation]),
            "parent_sha256": self._parent,
        }
        if recipe.teacher_check and isinstance(recipe.objective, DistillationConfig):
            device = str(self.training.accelerator.device)
            self._teachers = check_teachers(recipe.objective.teachers, self._validation, device=device)
        if self._teachers:
            facts["teachers"] = {name: scores.facts() for name, scores in self._teachers.items()}
        return facts

    def begin(self, run: Run) -> None:
        """Say in the log what the teachers are worth."""
        for name, scores in self._teachers.items():
            run.log(f"teacher {name}: {scores}")

    def assess(self, model: DenseModel, run: Run, step: int, minutes: float) -> tuple[dict[str, float], Card]:
        """Scores on the validation scenes, and what was tuned on them."""
        return self._selection.assess(model, self._card(step, minutes), run, step)

    def _card(self, step: int, minutes: float) -> Card:
        recipe = self.recipe
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
            one_date=recipe.sampling.date_dropout.modes,
            training=training_record(
                recipe.data,
                command=self.command,
                parent_sha256=self._parent,
                parents=self._parents,
                steps=step,
                minutes=minutes,
                events=self._events,
            ),
            encoder=self._encoder,
            licence=licence_with(recipe, self._encoder, self._parents),
            limits=recipe.limits,
        )


def _events_before(recipe: TrainRecipe) -> set[str]:
    """Events of the models that a recipe begins with, as their cards tell them."""
    parents = [path for path in (recipe.init_from, recipe.second_from) if path is not None]
    return {event for path in parents for event in load_card(path).training.events}
