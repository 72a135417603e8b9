"""Class-incremental training: all steps of a task, or one of them, each from the model of the step before."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from aftermap.artefacts.folder import copy_model
from aftermap.artefacts.store import load_model, save_model
from aftermap.classes import SCHEMES
from aftermap.data.incremental.protocol import describe
from aftermap.files import replacing_folder, write_json, write_text
from aftermap.learning.processes import is_main_process, wait_for_all
from aftermap.learning.run import Run, data_checksum
from aftermap.models.growth import blank, reorder
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.incremental.earlier_model import (
    EarlierModel,
    check_same,
    check_step_folder,
    check_unfinished,
    earlier_classes,
    first_step,
)
from aftermap.workflows.incremental.report import report_run
from aftermap.workflows.incremental.scores import STRIPS, score_step
from aftermap.workflows.incremental.step import CARRIED, MARK, IncrementalRun, learn_step, step_folder
from aftermap.workflows.incremental.step_model import check_model
from aftermap.workflows.incremental.tiles import gather, steps_of
from aftermap.workflows.training.run_folder import open_run
from aftermap.workflows.training.training_kind import OnProgress, TrainingProgress, unseen

PROTOCOL_NAME = "protocol.json"


@dataclass(frozen=True, slots=True)
class LearnedIncrementally:
    """The outcome.

    Attributes:
        model: the model of the last step that was run; of damage classes that are complete, in the scheme's order.
        steps: the model folder of every step that there is.
        scores: content of `incremental.json`.
        minutes: of this process.
    """

    model: Path
    steps: dict[int, Path]
    scores: dict[str, Any]
    minutes: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": str(self.model),
            "steps": {str(number): str(path) for number, path in self.steps.items()},
            "scores": self.scores,
            "minutes": round(self.minutes, 2),
        }


def learn_incrementally(
    recipe: IncrementalRecipe,
    folder: Path,
    *,
    resume: bool = False,
    step: int | None = None,
    start: Path | None = None,
    command: str = "",
    on_progress: OnProgress = unseen,
) -> LearnedIncrementally:
    """Learn the classes of a task step after step.

    Written are `recipe.yaml`, `run.json`, `protocol.json`, `steps/<t>/` (an ordinary run folder each, with the model of
    the step), `model/` (the last one), `incremental.json`, `incremental.md` and pictures.

    Args:
        recipe: what to do.
        folder: the run folder; new, that of an interrupted run with `resume`, or with `step` that of the steps before.
        resume: go on where the run was interrupted, to the same weights as without the interruption; finished steps
            stay as they are, and the recipe must say how they were learned, but for their length.
        step: run this step alone.
        start: the model to begin from: of the step before `step`; without `step` the run goes on from the step that
            this model has learned. A model folder, a step's folder, or a run folder.
        command: how the user asked for it; goes to the cards.
        on_progress: called after every optimizer step and every scored tile.

    Raises:
        DataError: the data did not pass its check, or a step has nothing to learn from.
        ModelError: a model cannot be used, or learned other classes or in another order.
        RecipeError: a key or value is wrong, or there is no such step.
        OutputError: the run folder exists or cannot be written.
        TrainingError: a loss is not finite, there is nothing to resume, or the model of the step before is missing.
    """
    started = time.monotonic()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    check_step_folder(folder, resume=resume, step=step)
    model = blank(recipe.model, 2)
    earlier = earlier_classes(folder, resume=resume, step=step, start=start)
    material = gather(recipe, dates=model.dates, deep=not resume and start is None, earlier=earlier)
    count = steps_of(recipe, material.protocol)
    check_model(recipe, model, material.protocol, last=count - 1)
    first, given = first_step(recipe, material.protocol, folder, count, resume=resume, step=step, start=start)
    check_same(recipe, folder, len(material.protocol.steps))
    last = first if step is not None else count - 1
    if resume:
        check_unfinished(folder, first, last)
    material.check(range(first, last + 1), filtered=recipe.selection.compat_filtered)
    whole = IncrementalRun(recipe, material, folder, command, on_progress)
    going_on = resume or (folder / "run.json").is_file()
    wait_for_all()
    with open_run(
        folder,
        recipe.model_dump(mode="json"),
        lambda: _facts(whole, count, given),
        resume=going_on,
        main=is_main_process(),
    ) as (run, _):
        if is_main_process():
            _describe(whole, run, going_on=going_on)
            if given is not None:
                _adopt(whole, given)
        wait_for_all()
        for number in range(first if given is None else given.step, last + 1):
            learn_step(whole, number)
            if is_main_process() and (number >= first or material.can_score(number)):
                _score(whole, number)
                report_run(folder, pictures=number == last)
            wait_for_all()
        if is_main_process():
            _deliver(whole, last)
            run.record(minutes=round((time.monotonic() - started) / 60, 2))
    wait_for_all()
    steps = {n: p for n in range(count) if (p := step_folder(folder, n) / "model").is_dir()}
    scores = json.loads((folder / "incremental.json").read_text())
    return LearnedIncrementally(folder / "model", steps, scores, (time.monotonic() - started) / 60)


def _describe(whole: IncrementalRun, run: Run, *, going_on: bool) -> None:
    """Write `protocol.json`, and what another recipe says now of a run that goes on."""
    recipe, protocol = whole.recipe, whole.material.protocol
    if going_on:
        run.record(seed=recipe.seed, method=recipe.objective.method)
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
        write_text(whole.folder / "recipe.yaml", text)
    tree = protocol.model_dump(mode="json") | {
        "sha256": protocol.sha256,
        "description": describe(protocol),
        "legend": whole.material.legend.model_dump(mode="json"),
    }
    write_json(whole.folder / PROTOCOL_NAME, tree)


def _facts(whole: IncrementalRun, count: int, given: EarlierModel | None) -> dict[str, Any]:
    """What `run.json` says: the task, and which tiles there are."""
    recipe, material = whole.recipe, whole.material
    steps = [material.tiles_of(number) for number in range(count)]
    return {
        "kind": recipe.kind,
        "seed": recipe.seed,
        "task": material.protocol.task,
        "method": recipe.objective.method,
        "joint": recipe.joint,
        "target": material.target,
        "protocol": material.protocol.model_dump(mode="json"),
        "protocol_sha256": material.protocol.sha256,
        "tiles": {
            "steps": [sum(own) for own in steps],
            "training": len(material.training),
            "validation": len(material.validation),
            "test": len(material.test),
        },
        "datasets": material.overview(steps),
        "start": None if given is None else {"model": str(given.model.resolve()), "step": given.step},
        "data": [str(path) for path in recipe.data.manifests],
        "data_checksum": data_checksum(
            [*material.training.scenes, *material.validation.scenes, *material.test.scenes]
        ),
    }


def _score(whole: IncrementalRun, step: int) -> None:
    """Score a step on the test tiles."""
    total = len(whole.material.test)

    def told(done: int) -> None:
        whole.on_progress(TrainingProgress("scoring the test tiles", done, total, task_step=step))

    score_step(
        step_folder(whole.folder, step),
        whole.folder / STRIPS,
        whole.material,
        step,
        report=whole.recipe.report,
        on_tile=told,
    )


def _adopt(whole: IncrementalRun, given: EarlierModel) -> None:
    """Take over the model of a step from elsewhere, with what its objective passes on."""
    folder = step_folder(whole.folder, given.step)
    if (folder / MARK).is_file():
        return
    protocol = whole.material.protocol
    with replacing_folder(folder, ours=("*",)) as part:
        copy_model(given.model, part / "model")
        beside = given.model.parent / CARRIED
        if beside.is_file():
            shutil.copy(beside, part / CARRIED)
        mark = {
            "step": given.step,
            "sha256": load_model(part / "model").sha256,
            "from": str(given.model.resolve()),
            "protocol_sha256": protocol.sha256,
            "names": protocol.channel_names(given.step),
            "heads": protocol.heads(given.step),
        }
        write_json(part / MARK, mark)


def _deliver(whole: IncrementalRun, step: int) -> None:
    """The model of a step as the run's own; one that knows a whole scheme of ours in the order of that scheme."""
    source = step_folder(whole.folder, step) / "model"
    loaded = load_model(source)
    scheme = SCHEMES.get(whole.material.legend.name)
    names = loaded.card.classes.names
    model, card = loaded.model, loaded.card
    if scheme is not None and set(scheme.names) == set(names):
        model = reorder(model, card.model, [names.index(name) for name in scheme.names])
        card = card.model_copy(update={"scheme": scheme.name, "legend": None, "incremental": None})
    save_model(whole.folder / "model", model, card, dtype=whole.recipe.weights_dtype)
