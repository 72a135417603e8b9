"""Self-training: a teacher labels a pool of scenes, a noisy student learns from them, and guard rails judge it.

Source: Xie et al. 2020 (noisy student); Open Cities, third place (soft labels, mined negatives).
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aftermap.artefacts.ensemble import is_ensemble, read_card
from aftermap.artefacts.folder import copy_model, replacing_model
from aftermap.artefacts.store import model_folder
from aftermap.errors import ModelError
from aftermap.files import write_json
from aftermap.learning.run import data_checksum
from aftermap.workflows.self_training.config import (
    SelfTrainingRecipe,
    round_recipe,
    student_recipe,
    teacher_recipe,
)
from aftermap.workflows.self_training.data import SelfTrainingScenes, gather_material
from aftermap.workflows.self_training.negatives import check_classifiers
from aftermap.workflows.self_training.report import PICTURE_NAME, REPORT_NAME, draw_report
from aftermap.workflows.self_training.rounds import Rounds
from aftermap.workflows.training.run_folder import check_folder, open_run
from aftermap.workflows.training.training_kind import OnProgress, unseen


@dataclass(frozen=True, slots=True)
class SelfTrained:
    """The outcome.

    Attributes:
        model: the model folder.
        kept: `student` where at least one round brought a gain, else the first `teacher`.
        reason: of the last verdict, in words.
        rounds: what happened in each; see docs/self-training.md.
        minutes: of this process.
    """

    model: Path
    kept: Literal["teacher", "student"]
    reason: str
    rounds: list[dict[str, Any]]
    minutes: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": str(self.model),
            "kept": self.kept,
            "reason": self.reason,
            "rounds": self.rounds,
            "minutes": round(self.minutes, 2),
        }


def self_train(
    recipe: SelfTrainingRecipe,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: OnProgress = unseen,
) -> SelfTrained:
    """Train students on what their teachers say of a pool, and keep the last one that the guard rails let pass.

    Written are `model/`, `self-training.json`, `self-training.png`, `recipe.yaml`, `run.json`, and a folder per training:
    `teacher/` (where it is trained here) and `round-1/` onwards with predictions, labels and `student/`.

    Args:
        recipe: what to do.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on where it was interrupted, to the same weights as without the interruption.
        command: how the user asked for it; goes to the cards.
        on_progress: called after every scene and step.

    Raises:
        DataError: the labelled data did not pass its check, or the pool is empty or no pool.
        ModelError: the teacher cannot be used, or is for another task.
        RecipeError: a key or value of the teacher, the student or a round is wrong.
        OutputError: the run folder exists or cannot be written.
        TrainingError: a loss is not finite, or there is nothing to resume.
    """
    started = time.monotonic()
    check_folder(folder, resume=resume)
    rounds = [round_recipe(recipe, number) for number in range(1, len(recipe.rounds) + 1)]
    _check_trainings(recipe, rounds, folder)
    material = gather_material(recipe)
    tree = recipe.model_dump(mode="json")
    with open_run(folder, tree, lambda: _facts(recipe, material), resume=resume) as (run, _):
        teacher, reports = Rounds(recipe, folder, run.log, material, command, on_progress).run(rounds)
        kept: Literal["teacher", "student"] = "teacher"
        if any(report["kept"] == "student" for report in reports):
            kept = "student"
        _copy_model(model_folder(teacher), run.model)
        minutes = (time.monotonic() - started) / 60
        done = SelfTrained(run.model, kept, str(reports[-1]["reason"]), reports, minutes)
        facts = {
            "name": recipe.name,
            "task": recipe.task,
            "classes": recipe.scheme.names,
            "labelled_scenes": len(material.labelled.training),
            "validation_scenes": len(material.labelled.validation),
            "pool_scenes": len(material.pool),
            "evidence": recipe.evidence,
        }
        report = facts | done.as_dict()
        draw_report(folder / PICTURE_NAME, report, folder, material.pool, recipe.scheme)
        run.record(minutes=round(minutes, 2), kept=kept, best=_best(reports, kept))
        write_json(folder / REPORT_NAME, report)
    return done


def _check_trainings(recipe: SelfTrainingRecipe, rounds: list[SelfTrainingRecipe], folder: Path) -> None:
    """Find what is wrong with teacher and students before anything is trained."""
    model = recipe.teacher.model
    if model is None:
        teacher_recipe(recipe)
    else:
        scheme = read_card(model).scheme
        if scheme != recipe.scheme.name:
            raise ModelError(
                f"teacher {model} tells {scheme}, task {recipe.task} needs a model that tells {recipe.scheme.name}"
            )
        if recipe.start == "teacher" and is_ensemble(model):
            raise ModelError(f"start: teacher takes the weights of one model, {model} is an ensemble")
    check_classifiers(recipe, rounds)
    for number, own in enumerate(rounds, 1):
        student_recipe(own, number, folder)


def _facts(recipe: SelfTrainingRecipe, material: SelfTrainingScenes) -> dict[str, Any]:
    """What `run.json` says: scenes and pool."""
    labelled = material.labelled
    return {
        "seed": recipe.seed,
        "task": recipe.task,
        "training_scenes": len(labelled.training),
        "validation_scenes": len(labelled.validation),
        "pool_scenes": len(material.pool),
        "events": sorted({s.event for s in labelled.training}),
        "pool_events": sorted({s.event for s in material.pool}),
        "data": [str(path) for path in recipe.data.manifests],
        "data_checksum": data_checksum([*labelled.training, *labelled.validation]),
        "pool_checksum": data_checksum(material.pool),
    }


def _best(reports: list[dict[str, Any]], kept: str) -> dict[str, Any]:
    """Score of the model that is kept, as runs say it."""
    if kept == "student":
        chosen = [report for report in reports if report["kept"] == "student"][-1]
        return {"step": chosen["round"], "score": chosen["after"]["score"]}
    before = reports[0]["before"]
    return {} if before is None else {"step": 0, "score": before["score"]}


def _copy_model(source: Path, target: Path) -> None:
    """Copy a model or ensemble folder, whole or not at all."""
    with replacing_model(target) as part:
        copy_model(source, part)
