"""One step of a task: the model of the step before, grown, learns its new classes on the tiles of the step."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from aftermap.artefacts.card import Card, IncrementalRecord, TrainingRecord
from aftermap.artefacts.store import LoadedModel, load_model
from aftermap.data.batch import Batch
from aftermap.data.loading.loader import CropSource
from aftermap.files import write_json
from aftermap.inference.predictor import Predictor
from aftermap.inference.stitching import evaluate_classes
from aftermap.learning.experiments.tracking import connect
from aftermap.learning.loop import Training
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.processes import is_main_process, wait_for_all
from aftermap.learning.run import Run, data_checksum, machine
from aftermap.models.configs import AnyModelConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.scoring.class_scores import ClassScores
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.incremental.step_start import begin_model, pace_of, sampling_of
from aftermap.workflows.incremental.tiles import Lesson, Material, Tiles
from aftermap.workflows.training.steps import Keeping, Progress, run_training

MARK = "step.json"
"""In the folder of a finished step."""
CARRIED = "carried.safetensors"
"""What the objective of a step passes on to that of the next."""


@dataclass(frozen=True, slots=True)
class IncrementalProgress:
    """What a face may show.

    Attributes:
        stage: what is going on.
        step: of the task, from 0.
        steps: of the task.
        done, total: optimizer steps, or test tiles.
        training: the optimizer step, while a model learns.
    """

    stage: Literal["learning", "scoring"]
    step: int
    steps: int
    done: int
    total: int
    training: Progress | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """A run under way: its recipe, its tiles, and the folder that holds its models one after the other."""

    recipe: IncrementalRecipe
    material: Material
    folder: Path
    command: str
    on_progress: Callable[[IncrementalProgress], None]


def step_folder(folder: Path, step: int) -> Path:
    """The run folder of a step."""
    return folder / "steps" / str(step)


def learn_step(lineage: Lineage, step: int) -> None:
    """Train the model of a step; a finished one is left as it is, an interrupted one goes on.

    Raises:
        ModelError: the model of the step before cannot be used.
        RecipeError: it was made for other images than the recipe says, or the recipe counts epochs that do not exist.
        TrainingError: a loss is not finite.
    """
    started = time.monotonic()
    folder, material = step_folder(lineage.folder, step), lineage.material
    if (folder / MARK).is_file():
        return
    resume = (folder / "resume").is_dir()
    recipe = lineage.recipe.changed(step)
    seed = recipe.step_seed(step)
    replay = recipe.replay
    lesson = material.lesson(
        step,
        memory_mb=replay.memory_mb,
        seed=replay.seed,
        channels=len(recipe.bands) * _dates(recipe, material),
    )
    judged = material.judged(step, filtered=recipe.selection.compat_filtered, most=recipe.validation_tiles)
    torch.manual_seed(seed)
    model, config, parent = begin_model(
        recipe, material.protocol, step, step_folder(lineage.folder, step - 1) / "model"
    )
    classes = material.protocol.channels(step)
    source = CropSource(
        lesson.scenes,
        target=material.target,
        classes=classes,
        lookups=lesson.lookups,
        dates=model.dates,
        sampling=sampling_of(recipe.sampling, classes),
        augment=recipe.augment,
        bands=recipe.bands,
        mean=recipe.normalisation.mean,
        std=recipe.normalisation.std,
        seed=seed,
    )
    pace = pace_of(recipe, source.steps_per_epoch)
    objective = Incremental(
        recipe.objective,
        step=step,
        heads=material.protocol.heads(step),
        teacher=None if parent is None else parent.model,
        carried=_carried(lineage, step - 1),
    )
    training = Training(
        model,
        objective,
        recipe.optimizer,
        steps=pace.steps,
        seed=seed,
        precision=recipe.precision,
        steps_per_epoch=pace.steps_per_epoch,
    )
    source.device = training.accelerator.device
    main = is_main_process()
    if main and not resume:
        shutil.rmtree(folder, ignore_errors=True)
    wait_for_all()
    connection = connect(recipe.records, folder, enabled=main)
    name = f"{recipe.name}-step-{step}"
    tree = recipe.model_dump(mode="json") | {"name": name}
    run = _open(lineage, tree, step, lesson, judged, parent, resume=resume) if main else _Follower(folder)
    if not resume:
        objective.prepare(model, _one_pass(source, training.accelerator.device))

    def card(number: int, minutes: float) -> Card:
        return _card(lineage, config, parent, step, number, minutes)

    def assess(network: DenseModel, number: int, minutes: float) -> tuple[dict[str, float], Card]:
        blank = card(number, minutes)
        metrics = _validate(network, blank, recipe, material, judged, step, run.model)
        shown = {key: round(value, 4) for key, value in metrics.items() if math.isfinite(value)}
        return metrics, blank.model_copy(update={"metrics": {"validation": shown}})

    def told(progress: Progress) -> None:
        count = len(material.protocol.steps)
        lineage.on_progress(
            IncrementalProgress("learning", step, count, progress.step.number, progress.steps, progress)
        )

    run_training(
        run,
        training,
        source,
        pace,
        assess,
        Keeping(
            name=name,
            tree=tree,
            connection=connection,
            notify=recipe.notify,
            keep=recipe.selection.keep,
            save_every=recipe.save_every,
            weights_dtype=recipe.weights_dtype,
            patience=recipe.selection.patience or None,
            compat_overwrite_first=recipe.selection.compat_overwrite_first,
        ),
        resume=resume,
        started=started,
        on_progress=told,
    )
    if main:
        _finish(lineage, objective, step, lesson, parent)
    wait_for_all()


class _Follower(Run):
    """The run folder as the processes see it that do not write."""

    def record(self, **facts: Any) -> None:
        """Nothing."""

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Nothing."""

    def metrics(self, *, up_to_step: int | None = None) -> list[dict[str, Any]]:
        """All evaluations, or those up to a step."""
        file = self.folder / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line for line in lines if up_to_step is None or line["step"] <= up_to_step]

    def log(self, text: str) -> None:
        """Nothing."""


def _one_pass(source: CropSource, device: torch.device) -> Iterator[Batch]:
    for number in range(source.steps_per_epoch):
        yield source.batch(number).to(device)


def _dates(recipe: IncrementalRecipe, material: Material) -> int:
    return 2 if material.target == "damage" else 1


def _validate(
    network: DenseModel,
    card: Card,
    recipe: IncrementalRecipe,
    material: Material,
    judged: Tiles,
    step: int,
    path: Path,
) -> dict[str, float]:
    """Metrics on the validation tiles, `score` among them."""
    network.eval()
    device = str(next(network.parameters()).device)
    predictor = Predictor(LoadedModel(network, card, path, ""), device=device)
    protocol = material.protocol
    confusion = evaluate_classes(
        predictor,
        judged.scenes,
        lookups=material.lookups(judged, step, "validation"),
        classes=protocol.channels(step),
        target=material.target,
    )
    scores = ClassScores.of(confusion, names=protocol.channel_names(step))
    metrics = {"miou": scores.macro_without_background.iou, "micro_f1": scores.micro.f1}
    metrics["score"] = metrics["miou" if recipe.selection.metric == "miou" else "micro_f1"]
    known = zip(scores.names, scores.iou, scores.support, strict=True)
    return metrics | {f"iou_{name}": iou for name, iou, support in known if support}


def _carried(lineage: Lineage, step: int) -> dict[str, Tensor] | None:
    """What the objective of a step left."""
    file = step_folder(lineage.folder, step) / CARRIED
    return load_file(file) if step >= 0 and file.is_file() else None


def _finish(
    lineage: Lineage, objective: Incremental, step: int, lesson: Lesson, parent: LoadedModel | None
) -> None:
    """Write what the next step needs, the mark of a finished step last."""
    folder, protocol = step_folder(lineage.folder, step), lineage.material.protocol
    carried = {name: value.detach().cpu().contiguous() for name, value in objective.carried().items()}
    if carried:
        temporary = folder / (CARRIED + ".part")
        save_file(carried, temporary)
        temporary.rename(folder / CARRIED)
    tree = {
        "step": step,
        "sha256": load_model(folder / "model").sha256,
        "parent_sha256": None if parent is None else parent.sha256,
        "protocol_sha256": protocol.sha256,
        "names": protocol.channel_names(step),
        "heads": protocol.heads(step),
        "tiles": {"step": lesson.fresh, "replayed": len(lesson.scenes) - lesson.fresh},
    }
    write_json(folder / MARK, tree)


def _open(
    lineage: Lineage,
    tree: dict[str, Any],
    step: int,
    lesson: Lesson,
    judged: Tiles,
    parent: LoadedModel | None,
    *,
    resume: bool,
) -> Run:
    """The run folder of the step."""
    folder, material = step_folder(lineage.folder, step), lineage.material
    if resume:
        run = Run(folder)
        run.record(status="running")
        return run
    facts: dict[str, Any] = {
        "seed": lineage.recipe.step_seed(step),
        "task": material.protocol.task,
        "step_of_task": step,
        "classes": list(material.protocol.names(material.protocol.new(step))),
        "training_scenes": lesson.fresh,
        "replayed_scenes": len(lesson.scenes) - lesson.fresh,
        "validation_scenes": len(judged),
        "protocol_sha256": material.protocol.sha256,
        "parent_sha256": None if parent is None else parent.sha256,
        "data_checksum": data_checksum([*lesson.scenes, *judged.scenes]),
    }
    return Run.start(folder, yaml.safe_dump(tree, sort_keys=False), facts)


def _card(
    lineage: Lineage,
    config: AnyModelConfig,
    parent: LoadedModel | None,
    step: int,
    number: int,
    minutes: float,
) -> Card:
    recipe, material = lineage.recipe, lineage.material
    protocol = material.protocol
    legend = protocol.legend(step, material.legend)
    return Card(
        name=f"{recipe.name}-step-{step}",
        model=config,
        dates=2 if material.target == "damage" else 1,
        scheme=legend.name,
        legend=legend,
        bands=recipe.bands,
        normalisation=recipe.normalisation,
        resolution_m=recipe.resolution_m,
        incremental=IncrementalRecord(
            task=protocol.task,
            step=step,
            protocol_sha256=protocol.sha256,
            method=recipe.objective.method,
            heads=tuple(protocol.heads(step)),
            steps=tuple(protocol.names(labels) for labels in protocol.steps[: step + 1]),
            parent_sha256=None if parent is None else parent.sha256,
        ),
        training=TrainingRecord(
            data=recipe.data.description or ", ".join(path.name for path in recipe.data.manifests),
            data_licence=recipe.data.licence,
            command=lineage.command,
            steps=number,
            minutes=round(minutes, 1),
            hardware=machine(),
            parent_sha256=None if parent is None else parent.sha256,
        ),
        licence=recipe.licence,
        limits=recipe.limits,
    )
