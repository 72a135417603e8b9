"""Meta-training from a recipe: a start from which a few steps on a new event's first labels lead far."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.func import functional_call

from aftermap.artefacts.activation import to_channels, to_probabilities
from aftermap.artefacts.card import Card
from aftermap.artefacts.store import load_model, save_model
from aftermap.classes import BUILDING, DAMAGE
from aftermap.data.batch import Batch
from aftermap.data.loading.few_shot_tasks import Shots, TaskSource
from aftermap.data.scene import Scene
from aftermap.errors import DataError, RecipeError
from aftermap.inference.postprocess import Decision
from aftermap.learning.configs.adapting import MetaConfig
from aftermap.learning.loop import Training
from aftermap.learning.meta import Maml, adapt_to_support, norm_policy, refresh_statistics, support_and_query
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.run import Run, data_checksum
from aftermap.models.build import build_model, trust_own
from aftermap.models.networks.dense import DenseModel
from aftermap.scoring.pixels import Score
from aftermap.workflows.adaptation.config import MetaRecipe
from aftermap.workflows.scoring.evaluate import decide
from aftermap.workflows.training.run_folder import check_folder
from aftermap.workflows.training.scenes import checked_manifest
from aftermap.workflows.training.start import RunLength
from aftermap.workflows.training.training_kind import (
    OnProgress,
    Trained,
    TrainingKind,
    run_training,
    training_record,
    unseen,
)


def meta_train(
    recipe: MetaRecipe,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: OnProgress = unseen,
) -> Trained:
    """Learn a start for adapting, and keep the one from which the held-out events come furthest.

    Args:
        recipe: what to do.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on from the saved state, to the same weights as without the interruption.
        command: how the user asked for it; goes to the card.
        on_progress: called after every task set.

    Raises:
        DataError: the data did not pass its check, or an event has too few scenes.
        RecipeError: model, task and classes do not go together.
        TrainingError: a loss is not finite, or there is nothing to resume.
        OutputError: the run folder exists or cannot be written.
    """
    started = time.monotonic()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    check_folder(folder, resume=resume)
    kind = LearningToAdapt(recipe, command)
    return run_training(kind, folder, resume=resume, started=started, on_progress=on_progress)


class LearningToAdapt(TrainingKind):
    """Meta-training: a step is a set of tasks, and a model is judged by how far the held-out events come from it."""

    unit = "task set"
    terms_told = False

    def __init__(self, recipe: MetaRecipe, command: str) -> None:
        self.recipe = recipe
        self.name, self.tree = recipe.name, recipe.model_dump(mode="json")
        self.records, self.notify, self.save_every = recipe.records, recipe.notify, recipe.save_every
        torch.manual_seed(recipe.seed)
        model, self._card = _start(recipe, command)
        try:
            recipe.objective.check_classes(model.classes)
        except ValueError as error:
            raise RecipeError(f"{recipe.name}: {error}") from None
        self._learned, held_out = _scenes(recipe)
        self.source = self._tasks = _tasks(recipe, self._card, self._learned, recipe.meta.task_set_size)
        self._validation = _tasks(recipe, self._card, held_out, 1)
        per_epoch = self._tasks.sets_per_epoch
        unit = per_epoch if recipe.epochs else 1
        every = recipe.evaluate_every * unit
        self.length = RunLength((recipe.epochs or recipe.steps) * unit, per_epoch, every, every)
        self._objective = Supervised(recipe.objective)
        self.training = Training(
            model,
            Maml(self._objective, recipe.meta),
            recipe.meta.meta_step(recipe.optimizer),
            steps=self.length.steps,
            seed=recipe.seed,
            precision=recipe.precision,
            steps_per_epoch=per_epoch,
        )
        if self.training.accelerator.num_processes > 1:
            raise RecipeError("meta-training runs in one process: start it without a launcher")

    def facts(self) -> dict[str, Any]:
        """Seed and events."""
        recipe = self.recipe
        return {
            "seed": recipe.seed,
            "task": recipe.task,
            "events": list(self._tasks.events),
            "validation_events": sorted(recipe.data.validation_events),
            "data": [str(path) for path in recipe.data.manifests],
            "data_checksum": data_checksum(self._learned),
        }

    def assess(self, model: DenseModel, run: Run, step: int, minutes: float) -> tuple[dict[str, float], Card]:
        """Scores of the held-out events after adapting, and the card of a start."""
        recipe, m = self.recipe, self.recipe.meta
        metrics = meta_validate(
            model, self._objective, self._validation, config=m, card=self._card, draws=recipe.validation_draws
        )
        figures = {name: round(value, 4) for name, value in metrics.items() if math.isfinite(value)}
        limits = (
            f"A start for adapting, not a finished model: it was chosen for its score after {m.inner_steps} SGD steps "
            f"at {m.inner_lr:g} on {m.support_shots} labelled crops of an event. Adapt it with `aftermap adapt`."
        )
        training = self._card.training.model_copy(update={"steps": step, "minutes": round(minutes, 1)})
        card = self._card.model_copy(
            update={
                "training": training,
                "metrics": {"held-out events, after adapting": figures},
                "limits": f"{recipe.limits} {limits}".strip(),
            }
        )
        return metrics, card

    def save(self, folder: Path, model: DenseModel, card: Card) -> None:
        """Write the model; with batch statistics in the inner loop, running ones are measured for it first."""
        if self.recipe.meta.norm == "frozen":
            save_model(folder, model, card)
            return
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        device = next(model.parameters()).device
        count = max(4, 2 * self.recipe.meta.task_set_size)
        refresh_statistics(model, [self.source.batch(index).to(device) for index in range(count)])
        save_model(folder, model, card)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])

    def told(self, metrics: Mapping[str, float]) -> str:
        """Scores before and after adapting."""
        return f"score {metrics['score_before']:.4f} before and {metrics['score']:.4f} after adapting"


def meta_validate(
    model: DenseModel,
    objective: Supervised,
    tasks: TaskSource,
    *,
    config: MetaConfig,
    card: Card,
    draws: int,
) -> dict[str, float]:
    """Scores on the queries of held-out events before and after adapting to their support.

    Args:
        model: the start; it stays as it is.
        objective: the loss of the inner steps.
        tasks: the held-out events.
        config: inner steps and normalisation; with `batch` a query is seen with its own statistics.
        card: says what the logits mean.
        draws: tasks per event.

    Returns:
        `score` and `score_before` (means over the events of the official score over the classes that occur, or of
        localization's pixel F1), and `score_<event>`.
    """
    device = next(model.parameters()).device
    model.eval()
    before, after = {}, {}
    for event in tasks.events:
        scores = Score(), Score()
        for draw in range(draws):
            task = tasks.task(event, draw).to(device)
            support, query = support_and_query(task, config.support_shots)
            adapted = adapt_to_support(model, objective, support, config)
            for score, weights in zip(scores, ({}, adapted), strict=True):
                logits = _logits(model, weights, query.image, config)
                _count(score, logits, query, card, scene=f"{event} {draw}")
        before[event], after[event] = (_score(score, card) for score in scores)
    return {
        "score": statistics.fmean(after.values()),
        "score_before": statistics.fmean(before.values()),
        **{f"score_{event}": value for event, value in after.items()},
    }


@torch.no_grad()
def _logits(model: DenseModel, weights: dict[str, Tensor], image: Tensor, config: MetaConfig) -> Tensor:
    with norm_policy(model, config.norm):
        passes = torch.split(image, config.images_per_pass or len(image))
        return torch.cat([functional_call(model, weights, (part,)) for part in passes])


def _count(score: Score, logits: Tensor, query: Batch, card: Card, *, scene: str) -> None:
    channels = to_channels(
        logits, activation=card.activation, channel_0=card.channel_0, temperature=card.temperature
    )
    decision = Decision.of(card)
    for number, probabilities in enumerate(to_probabilities(channels).cpu().numpy()):
        building, damage = decide(probabilities, decision)
        truth = query.mask[number].cpu().numpy()
        truth_building = truth.copy()
        truth_building[(truth > 0) & (truth < len(DAMAGE))] = 1
        score.add(
            building,
            damage,
            truth_building,
            truth if damage is not None else None,
            event="",
            scene=f"{scene} {number}",
        )


def _score(score: Score, card: Card) -> float:
    result = score.result(bootstrap=0)
    if card.dates == 1 or math.isnan(result.score_present):
        return result.localization_f1
    return result.score_present


def _scenes(recipe: MetaRecipe) -> tuple[list[Scene], list[Scene]]:
    """Labelled scenes of the events that are learned from, and of those held out."""
    wanted, pooled = recipe.data, []
    for path in wanted.manifests:
        scenes = checked_manifest(path).scenes
        pooled += [s for s in scenes if s.is_labelled and s.event not in wanted.exclude_events]
    if recipe.task == "damage":
        pooled = [s for s in pooled if s.post is not None and s.damage_mask is not None]
    events = {scene.event for scene in pooled}
    unknown = [event for event in wanted.validation_events if event not in events]
    if unknown:
        raise DataError(
            f"data.validation_events names {unknown[0]}, which has no labelled scenes for task {recipe.task}: "
            f"there are {', '.join(sorted(events)) or 'none'}"
        )
    held_out = [s for s in pooled if s.event in wanted.validation_events]
    return [s for s in pooled if s.event not in wanted.validation_events], held_out


def _tasks(recipe: MetaRecipe, card: Card, scenes: Sequence[Scene], task_set_size: int) -> TaskSource:
    shots = Shots(
        recipe.shots,
        target=recipe.task,
        dates=card.dates,
        mean=card.normalisation.mean,
        std=card.normalisation.std,
        band_order=card.band_order,
    )
    return TaskSource(
        scenes,
        shots,
        support_shots=recipe.meta.support_shots,
        query_shots=recipe.meta.query_shots,
        task_set_size=task_set_size,
        seed=recipe.seed,
    )


def _start(recipe: MetaRecipe, command: str) -> tuple[DenseModel, Card]:
    """The model that a run starts from, and the card without what the run will find out."""
    scheme = BUILDING if recipe.task == "building" else DAMAGE
    record = training_record(recipe.data, command=command, parent_sha256=None)
    said: dict[str, Any] = {"name": recipe.name, "licence": recipe.licence, "metrics": {}, "one_date": ()}
    if recipe.init_from is not None:
        parent = load_model(recipe.init_from)
        if parent.card.scheme != scheme.name:
            raise RecipeError(
                f"{recipe.init_from} tells {parent.card.scheme}, task {recipe.task} needs {scheme.name}"
            )
        said["training"] = record.model_copy(update={"parent_sha256": parent.sha256})
        return parent.model, parent.card.model_copy(update=said | {"weights": None})
    assert recipe.model is not None
    try:
        card = Card(
            model=recipe.model,
            dates=2 if recipe.task == "damage" else 1,
            scheme=scheme.name,
            bands=recipe.bands,
            normalisation=recipe.normalisation,
            activation=recipe.activation,
            channel_0=recipe.channel_0,
            resolution_m=recipe.resolution_m,
            training=record,
            **said,
        )
    except ValidationError as error:
        raise RecipeError(f"{recipe.name}: {error.errors()[0]['msg']}") from None
    trust_own(recipe.model)
    model = build_model(recipe.model)
    if model.dates != card.dates:
        raise RecipeError(
            f"task {recipe.task} has {card.dates} date(s), model {recipe.model.kind} {model.dates}"
        )
    return model, card
