"""One step of a task: the model of the step before, grown, learns its new classes on the tiles of the step."""

import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from aftermap.artefacts.card import Card, IncrementalRecord
from aftermap.artefacts.store import LoadedModel, load_model
from aftermap.data.loading.loader import CropSource
from aftermap.files import replacing, write_json
from aftermap.inference.predictor import Predictor
from aftermap.inference.stitching import evaluate_classes
from aftermap.learning.loop import Training
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.processes import is_main_process, wait_for_all
from aftermap.learning.run import Run, data_checksum
from aftermap.learning.trainable import fix_norm, tune_only
from aftermap.models.growth import class_rows
from aftermap.models.networks.dense import DenseModel
from aftermap.scoring.class_scores import ClassScores
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.incremental.step_model import begin_model, sampling_of, step_length
from aftermap.workflows.incremental.tiles import TaskTiles
from aftermap.workflows.training.training_kind import (
    OnProgress,
    TrainingKind,
    TrainingProgress,
    run_training,
    training_record,
)

MARK = "step.json"
"""In the folder of a finished step."""
CARRIED = "carried.safetensors"
"""What the objective of a step passes on to that of the next."""


@dataclass(frozen=True, slots=True)
class IncrementalRun:
    """A run under way: its recipe, its tiles, and the folder that holds its models one after the other."""

    recipe: IncrementalRecipe
    material: TaskTiles
    folder: Path
    command: str
    on_progress: OnProgress


def step_folder(folder: Path, step: int) -> Path:
    """The run folder of a step."""
    return folder / "steps" / str(step)


def learn_step(whole: IncrementalRun, step: int) -> None:
    """Train the model of a step; a finished one is left as it is, an interrupted one goes on.

    Raises:
        ModelError: the model of the step before cannot be used.
        RecipeError: it was made for other images than the recipe says, or the recipe counts epochs that do not exist.
        TrainingError: a loss is not finite.
    """
    started = time.monotonic()
    folder = step_folder(whole.folder, step)
    if (folder / MARK).is_file():
        return
    resume = (folder / "resume").is_dir()
    kind = IncrementalStep(whole, step)
    if is_main_process() and not resume:
        shutil.rmtree(folder, ignore_errors=True)
    wait_for_all()

    def told(progress: TrainingProgress) -> None:
        whole.on_progress(replace(progress, stage="learning the classes", task_step=step))

    run_training(kind, folder, resume=resume, started=started, on_progress=told)
    if is_main_process():
        kind.finish(folder)
    wait_for_all()


class IncrementalStep(TrainingKind):
    """A step of a task: the model of the step before, grown, learns new classes."""

    samples = True

    def __init__(self, whole: IncrementalRun, step: int) -> None:
        self.whole, self.step = whole, step
        self.recipe = recipe = whole.recipe.changed(step)
        material, seed = whole.material, recipe.step_seed(step)
        self.name = f"{recipe.name}-step-{step}"
        self.tree = recipe.model_dump(mode="json") | {"name": self.name}
        self.records, self.notify = recipe.records, recipe.notify
        self.save_every, self.weights_dtype = recipe.save_every, recipe.weights_dtype
        self.keep, self.patience = recipe.selection.keep, recipe.selection.patience or None
        self.compat_overwrite_first = recipe.selection.compat_overwrite_first
        self._dates: Literal[1, 2] = material.dates
        self._learned = material.learned_from(
            step,
            memory_mb=recipe.replay.memory_mb,
            seed=recipe.replay.seed,
            channels=len(recipe.bands) * self._dates,
        )
        self._judged = material.judged(
            step, filtered=recipe.selection.compat_filtered, most=recipe.validation_tiles
        )
        torch.manual_seed(seed)
        before = step_folder(whole.folder, step - 1)
        model, self._config, self._parent = begin_model(recipe, material.protocol, step, before / "model")
        classes = material.protocol.channels(step)
        self.source = self._crops = CropSource(
            self._learned.scenes,
            target=material.target,
            classes=classes,
            lookups=self._learned.lookups,
            dates=model.dates,
            sampling=sampling_of(recipe.sampling, classes),
            augment=recipe.augment,
            bands=recipe.bands,
            mean=recipe.normalisation.mean,
            std=recipe.normalisation.std,
            seed=seed,
        )
        self.length, steps_per_epoch = step_length(recipe, self._crops.steps_per_epoch)
        carried = before / CARRIED
        self._objective = Incremental(
            recipe.objective,
            step=step,
            heads=material.protocol.heads(step),
            teacher=None if self._parent is None else self._parent.model,
            carried=load_file(carried) if step and carried.is_file() else None,
            normalisation=(recipe.normalisation.mean, recipe.normalisation.std),
            class_rows=() if recipe.objective.alignment is None else class_rows(model, self._config),
            epoch_steps=steps_per_epoch,
        )
        tune_only(model, recipe.tune)
        self.training = Training(
            model,
            fix_norm(model, self._objective, recipe.norm),
            recipe.optimizer,
            steps=self.length.steps,
            seed=seed,
            precision=recipe.precision,
            steps_per_epoch=steps_per_epoch,
        )
        self._crops.device = self.training.accelerator.device

    def facts(self) -> dict[str, Any]:
        """Classes and tiles of the step."""
        protocol, learned, judged = self.whole.material.protocol, self._learned, self._judged
        return {
            "seed": self.recipe.step_seed(self.step),
            "task": protocol.task,
            "step_of_task": self.step,
            "classes": list(protocol.names(protocol.new(self.step))),
            "places": list(protocol.places[self.step]) if protocol.places else [],
            "training_scenes": learned.fresh,
            "replayed_scenes": len(learned.scenes) - learned.fresh,
            "validation_scenes": len(judged),
            "protocol_sha256": protocol.sha256,
            "parent_sha256": self._parent_sha256,
            "data_checksum": data_checksum([*learned.scenes, *judged.scenes]),
        }

    def begin(self, run: Run) -> None:
        """Let the objective look at all crops once."""
        device = self.training.accelerator.device
        batches = (self._crops.batch(number).to(device) for number in range(self._crops.steps_per_epoch))
        self._objective.prepare(self.training.model, batches)

    def assess(self, model: DenseModel, run: Run, step: int, minutes: float) -> tuple[dict[str, float], Card]:
        """Metrics on the validation tiles."""
        card = self._card(step, minutes)
        metrics = self._validate(model, card, run)
        shown = {key: round(value, 4) for key, value in metrics.items() if math.isfinite(value)}
        return metrics, card.model_copy(update={"metrics": {"validation": shown}})

    def _validate(self, model: DenseModel, card: Card, run: Run) -> dict[str, float]:
        protocol = self.whole.material.protocol
        model.eval()
        device = str(next(model.parameters()).device)
        confusion = evaluate_classes(
            Predictor(LoadedModel(model, card, run.model, ""), device=device),
            self._judged.scenes,
            lookups=self.whole.material.lookups(self._judged, self.step, "validation"),
            classes=protocol.channels(self.step),
            target=self.whole.material.target,
        )
        scores = ClassScores.of(confusion, names=protocol.channel_names(self.step))
        metrics = {
            "miou": scores.macro_without_background.iou,
            "micro_f1": scores.micro.f1,
            "micro_iou": scores.micro.iou,
            "precision": scores.macro.precision,
            "recall": scores.macro.recall,
        }
        metrics["score"] = metrics[self.recipe.selection.metric.replace("-", "_")]
        known = zip(scores.names, scores.iou, scores.support, strict=True)
        return metrics | {f"iou_{name}": iou for name, iou, support in known if support}

    def finish(self, folder: Path) -> None:
        """Write what the next step needs, the mark of a finished step last."""
        protocol, learned = self.whole.material.protocol, self._learned
        carried = {
            name: value.detach().cpu().contiguous() for name, value in self._objective.carried().items()
        }
        if carried:
            with replacing(folder / CARRIED) as part:
                save_file(carried, part)
        tree = {
            "step": self.step,
            "sha256": load_model(folder / "model").sha256,
            "parent_sha256": self._parent_sha256,
            "protocol_sha256": protocol.sha256,
            "names": protocol.channel_names(self.step),
            "heads": protocol.heads(self.step),
            "tiles": {"step": learned.fresh, "replayed": len(learned.scenes) - learned.fresh},
        }
        write_json(folder / MARK, tree)

    @property
    def _parent_sha256(self) -> str | None:
        return None if self._parent is None else self._parent.sha256

    def _card(self, number: int, minutes: float) -> Card:
        recipe, protocol = self.recipe, self.whole.material.protocol
        whole = self.whole.material.legend
        legend = protocol.legend(self.step, whole)
        if self._dates == 2 and len(protocol.steps) == 1 and protocol.background is not None:
            legend = legend.model_copy(
                update={"names": (whole.names[protocol.background], *legend.names[1:])}
            )
        return Card(
            name=self.name,
            model=self._config,
            dates=self._dates,
            scheme=legend.name,
            legend=legend,
            bands=recipe.bands,
            normalisation=recipe.normalisation,
            resolution_m=recipe.resolution_m,
            incremental=IncrementalRecord(
                task=protocol.task,
                step=self.step,
                protocol_sha256=protocol.sha256,
                method=recipe.objective.method,
                heads=tuple(protocol.heads(self.step)),
                steps=tuple(protocol.names(labels) for labels in protocol.steps[: self.step + 1]),
                parent_sha256=self._parent_sha256,
                places=protocol.places[: self.step + 1],
            ),
            training=training_record(
                recipe.data,
                command=self.whole.command,
                parent_sha256=self._parent_sha256,
                steps=number,
                minutes=minutes,
            ),
            licence=recipe.licence,
            limits=recipe.limits,
        )
