"""One trial of a search: a training run of its own that may be ended early, and its entry in the experiment database."""

import json
import math
import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import Trial, TrialState

from aftermap.artefacts.store import load_card, load_model
from aftermap.classes import IGNORE
from aftermap.config import build_config, load_yaml
from aftermap.data.batch import Batch
from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.errors import (
    AftermapError,
    InputError,
    RecipeError,
    RecordsError,
    RecordsWarning,
    TrainingError,
)
from aftermap.learning.experiments.notify import NotifyConfig
from aftermap.learning.experiments.records import Records, Status
from aftermap.learning.experiments.tracking import connect
from aftermap.learning.run import Run
from aftermap.workflows.scoring.evaluate import spread
from aftermap.workflows.search.space import VALIDATION_LOSS, SearchSpace, StudyConfig
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import train
from aftermap.workflows.training.scenes import choose_scenes
from aftermap.workflows.training.start import start_objective
from aftermap.workflows.training.training_kind import OnProgress, TrainingProgress, unseen


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How a trial ended.

    Attributes:
        state: complete, pruned or failed.
        value: the measure; of a pruned trial the last one known.
        step: that the value belongs to.
        reason: why it was pruned or failed.
        minutes: of training in this process.
    """

    state: TrialState
    value: float | None
    step: int | None
    reason: str
    minutes: float


class _PrunedError(AftermapError):
    """A trial that falls behind; its message is the reason in the run folder."""


def run_trial(
    trial: Trial,
    space: SearchSpace,
    tree: Mapping[str, Any],
    folder: Path,
    *,
    resume: bool,
    command: str,
    on_progress: OnProgress = unseen,
) -> TrialOutcome:
    """Train what a trial asks for.

    A loss that is not finite, values that do not go together and too little memory make it a failed trial.

    Args:
        trial: with its parameters drawn.
        space: how they become recipe values.
        tree: the recipe that is searched.
        folder: the trial's run folder.
        resume: go on from the saved state in it.
        command: how the user asked for it; goes to the card.
        on_progress: called after every step.

    Raises:
        AftermapError: something that no other trial would do better, such as data that fail their check.
        KeyboardInterrupt: interrupted; the run's state is saved.
    """
    started = time.monotonic()
    state, value, step, reason = TrialState.FAIL, None, None, ""
    measured: dict[str, Any] = {"value": None, "step": None, "steps": 0}

    def after_step(progress: TrainingProgress) -> None:
        measured["steps"] = progress.total
        on_progress(progress)

    try:
        recipe = space.recipe(tree, space.values(trial.params))
        recipe = recipe.model_copy(
            update={"name": f"{recipe.name}-{trial.number:04d}", "notify": NotifyConfig(events=())}
        )
        steps = recipe.steps if recipe.epochs is None else 0

        def after_score(at: int, score: float) -> None:
            current = _measure(recipe, space.study, folder, at)
            if current is None or not math.isfinite(current):
                return
            measured.update(value=current, step=at)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the steps of a resumed trial may be known already
                trial.report(current, at)
            if at < (steps or measured["steps"]) and trial.should_prune():
                raise _PrunedError(f"pruned at step {at}: {space.study.metric} {current:.4f}")

        trained = train(
            recipe, folder, resume=resume, command=command, on_progress=after_step, on_score=after_score
        )
        step = int(trained.metrics["step"])
        value = _measure(recipe, space.study, folder, step)
        if value is None or not math.isfinite(value):
            value, reason = None, f"{space.study.metric} could not be measured"
        else:
            state = TrialState.COMPLETE
    except _PrunedError as pruned:
        state, value, step, reason = TrialState.PRUNED, measured["value"], measured["step"], str(pruned)
    except (TrainingError, RecipeError) as error:
        reason = " ".join(str(error).split())
    except (MemoryError, torch.OutOfMemoryError):
        reason = "there is not enough memory"
    except RuntimeError as error:
        if "not enough memory" not in str(error):  # what torch says where it runs on the processor
            raise
        reason = "there is not enough memory"
    if state != TrialState.COMPLETE:
        shutil.rmtree(folder / "resume", ignore_errors=True)
    return TrialOutcome(state, value, step, reason, (time.monotonic() - started) / 60)


def record_trial(folder: Path, study: str, number: int, outcome: TrialOutcome) -> None:
    """Say in the run folder and in the experiment database which trial of which study a run was, and how it ended.

    Warns:
        RecordsWarning: the database does not answer.
    """
    run = Run(folder)
    if not (folder / "run.json").exists():
        return  # it failed before its run began
    state = outcome.state.name.lower()
    statuses: dict[TrialState, Status] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "interrupted"}
    status: Status = statuses.get(outcome.state, "failed")
    reason = {"reason": outcome.reason} if outcome.reason else {}
    run.record(study=study, trial=number, state=state, status=status, **reason)
    recipe = build_config(TrainRecipe, load_yaml((folder / "recipe.yaml").read_text()))
    try:
        connection = connect(recipe.records, folder)
        if connection is None:
            return
        tags = {"study": study, "trial": str(number), "state": state}
        ended = run.facts().get("ended")
        records = Records(connection, run, recipe.model_dump(mode="json"), tags=tags)
        records.finish(status, reason=outcome.reason or None, ended=ended)
    except RecordsError as error:
        warnings.warn(f"trial {number} is not marked in the database: {error}", RecordsWarning, stacklevel=2)


def validation_loss(recipe: TrainRecipe, model: Path, *, over_images: bool = False) -> float:
    """The recipe's objective on its validation scenes, whole and without augmentation.

    Args:
        recipe: objective, data and normalisation.
        model: a model folder.
        over_images: divide the sum of the batches' means by the number of images instead of that of batches.

    Raises:
        InputError: the validation scenes differ in size, so that they make no batches.
    """
    scenes = spread(choose_scenes(recipe.data, recipe.task).validation, recipe.validation_scenes)
    loaded = load_model(model).model.eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    objective = start_objective(recipe, loaded).to(device).eval()
    loaded.to(device)
    if len({(s.height, s.width) for s in scenes}) > 1:
        raise InputError(
            f"{VALIDATION_LOSS} needs validation scenes of one size: choose another study.metric"
        )
    size = recipe.sampling.batch_size
    total, batches = 0.0, 0
    with torch.no_grad():
        for first in range(0, len(scenes), size):
            batch = _whole_scenes(recipe, scenes[first : first + size], loaded.dates, loaded.stride)
            total += float(torch.stack(list(objective(loaded, batch.to(device)).values())).sum())
            batches += 1
    return total / (len(scenes) if over_images else batches)


def _whole_scenes(recipe: TrainRecipe, scenes: list[Scene], dates: int, stride: int) -> Batch:
    """Scenes as a batch, filled up to multiples of the model's stride with pixels of no class."""
    bands = [("red", "green", "blue").index(band) for band in recipe.bands]
    image = torch.stack([torch.from_numpy(read_images(s, dates=dates)[:, bands]) for s in scenes]).float()
    masks = [torch.from_numpy(read_mask(s, target=recipe.task)) for s in scenes]
    mean, std = (
        torch.tensor(v, dtype=torch.float32).reshape(-1, 1, 1)
        for v in (recipe.normalisation.mean, recipe.normalisation.std)
    )
    right, below = (-image.shape[-1] % stride, -image.shape[-2] % stride)
    image = torch.nn.functional.pad((image - mean) / std, (0, right, 0, below))
    mask = torch.nn.functional.pad(torch.stack(masks).long(), (0, right, 0, below), value=IGNORE)
    return Batch(image, mask)


def _measure(recipe: TrainRecipe, study: StudyConfig, folder: Path, step: int) -> float | None:
    """The study's metric of an evaluated step; None where its model was not kept.

    Raises:
        InputError: the evaluations do not tell it.
    """
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = next(line for line in reversed(lines) if line["step"] == step)
    if study.metric == VALIDATION_LOSS:
        model = folder / "model"
        if load_card(model).training.steps != step:
            return None
        return validation_loss(recipe, model, over_images=study.compat_divide_by_images)
    if study.metric not in metrics:
        told = ", ".join(k for k in metrics if k not in ("step", "lr"))
        raise InputError(
            f"study.metric {study.metric!r} is in no evaluation of this recipe: they tell {told}"
        )
    return float(metrics[study.metric])
