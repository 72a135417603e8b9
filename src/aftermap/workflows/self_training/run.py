"""Self-training: a teacher labels a pool of scenes, a noisy student learns from them, and guard rails judge it.

Source: Xie et al. 2020 (noisy student); Open Cities, third place (soft labels, mined negatives).
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from aftermap.artefacts.ensemble import Ingredient, compose, is_ensemble, read_card, save_ensemble
from aftermap.artefacts.store import begin_folder, finish_folder, model_folder
from aftermap.classes import ClassScheme
from aftermap.errors import ModelError, TrainingError
from aftermap.files import write_json
from aftermap.inference.ensemble import open_predictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.learning.experiments.records import Records
from aftermap.learning.run import Run, data_checksum
from aftermap.workflows.adaptation.guard import Evidence, Verdict, gather_evidence, judge
from aftermap.workflows.self_training.config import (
    SelfTrainingRecipe,
    round_recipe,
    student_recipe,
    teacher_recipe,
)
from aftermap.workflows.self_training.data import Material, gather_material, write_manifest
from aftermap.workflows.self_training.negatives import (
    check_classifiers,
    find_negatives,
    open_classifier,
    write_negatives,
)
from aftermap.workflows.self_training.pseudo_labels import Predicted, Selection, predict_pool, select_labels
from aftermap.workflows.self_training.report import PICTURE_NAME, REPORT_NAME, draw_report, sample_names
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import train
from aftermap.workflows.training.steps import Progress

_ROUND_MARK = "round.json"


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


@dataclass(frozen=True, slots=True)
class SelfTrainingProgress:
    """What a face may show.

    Attributes:
        stage: what is going on.
        round: its number from 1; 0 while the first teacher is trained.
        done, total: scenes of the pool, or training steps.
        training: the step, while a teacher or a student is trained.
    """

    stage: Literal["teacher", "predicting", "student", "judging"]
    round: int
    done: int
    total: int
    training: Progress | None = None


OnProgress = Callable[[SelfTrainingProgress], None]


def self_train(
    recipe: SelfTrainingRecipe,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: OnProgress | None = None,
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
    if not resume:
        Run.check_new(folder)
    elif not (folder / "run.json").is_file() or (folder / REPORT_NAME).is_file():
        raise TrainingError(f"{folder} holds no interrupted self-training to resume")
    rounds = [round_recipe(recipe, number) for number in range(1, len(recipe.rounds) + 1)]
    _check_trainings(recipe, rounds, folder)
    material = gather_material(recipe)
    run = Run(folder) if resume else _start(recipe, folder, material)
    run.record(status="running")
    state = _State(recipe, run, material, command, on_progress or (lambda _: None))
    with Records(None, run, {}):
        return state.run_rounds(rounds)


@dataclass
class _State:
    """A self-training under way."""

    recipe: SelfTrainingRecipe
    run: Run
    material: Material
    command: str
    tell: OnProgress
    started: float = field(default_factory=time.monotonic)
    known: dict[str, Evidence] = field(default_factory=dict)  # by hash of the model

    def run_rounds(self, rounds: list[SelfTrainingRecipe]) -> SelfTrained:
        """All rounds, as far as they bring a gain."""
        folder = self.run.folder
        teacher = self.first_teacher()
        kept: Literal["teacher", "student"] = "teacher"
        reports: list[dict[str, Any]] = []
        refused: list[str] = []
        for number, recipe in enumerate(rounds, 1):
            report = self.round(recipe, number, teacher, refused)
            reports.append(report)
            if report["kept"] == "teacher":
                break
            kept, teacher = "student", str(folder / f"round-{number}" / "student" / "model")
            refused = [name for name, found in report["verdict"]["classes"].items() if not found["accepted"]]
        _copy_model(model_folder(teacher), self.run.model)
        minutes = (time.monotonic() - self.started) / 60
        done = SelfTrained(self.run.model, kept, str(reports[-1]["reason"]), reports, minutes)
        facts = {
            "name": self.recipe.name,
            "task": self.recipe.task,
            "classes": self.recipe.scheme.names,
            "labelled_scenes": len(self.material.labelled.training),
            "validation_scenes": len(self.material.labelled.validation),
            "pool_scenes": len(self.material.pool),
            "evidence": self.recipe.evidence,
        }
        report = facts | done.as_dict()
        draw_report(folder / PICTURE_NAME, report, folder, self.material.pool, self.recipe.scheme)
        self.run.record(minutes=round(minutes, 2), kept=kept, best=_best(reports, kept))
        write_json(folder / REPORT_NAME, report)
        return done

    def first_teacher(self) -> str:
        """The given model, or the one that is trained on the labelled scenes."""
        if self.recipe.teacher.model is not None:
            return self.recipe.teacher.model
        recipes = [teacher_recipe(self.recipe, member=member) for member in range(self.recipe.predict.seeds)]
        return str(self.train_all(recipes, self.run.folder / "teacher", "teacher", 0))

    def round(
        self, recipe: SelfTrainingRecipe, number: int, teacher: str, refused: list[str]
    ) -> dict[str, Any]:
        """One round; what is known of it where it was finished before."""
        folder = self.run.folder / f"round-{number}"
        mark = folder / _ROUND_MARK
        if mark.is_file():
            finished: dict[str, Any] = json.loads(mark.read_text())
            return finished
        predictor = open_predictor(teacher, recipe.predict.options)
        predicted = self.predict(recipe, number, teacher, predictor, folder)
        selection, negatives, found = self.select(recipe, predicted, refused, folder)
        report: dict[str, Any] = {
            "round": number,
            "teacher": {"name": predictor.name, "sha256": predictor.sha256},
            **selection.as_dict(),
            "rejected_scenes": selection.rejected,
            "refused_classes": refused,
            "shares": self.shares(selection),
            "negatives": {"found": found, "used": len(negatives)},
            "samples": sample_names(predicted, selection, negatives),
        }
        self.run.log(
            f"round {number}: {len(selection.accepted)} of {len(predicted)} scenes labelled by {predictor.name}, "
            f"{len(negatives)} negatives"
        )
        if not selection.accepted and not negatives:
            reason = f"none of the teacher's labels of {len(predicted)} scenes was accepted"
            report |= {"kept": "teacher", "reason": reason, "before": None, "after": None, "verdict": None}
        else:
            manifest = write_manifest(
                folder, self.material, selection.accepted, negatives, task=self.recipe.task
            )
            start = model_folder(teacher) if recipe.start == "teacher" else None
            recipes = [
                student_recipe(recipe, number, manifest, member=member, teacher=start)
                for member in range(recipe.predict.seeds)
            ]
            student = self.train_all(recipes, folder / "student", "student", number)
            before, after, verdict = self.judge(recipe, number, predictor, student)
            report |= {
                "kept": verdict.kept,
                "reason": verdict.reason,
                "before": before.as_dict(),
                "after": after.as_dict(),
                "verdict": verdict.as_dict(),
            }
        self.run.log(f"round {number}: {report['kept']} kept, {report['reason']}")
        write_json(mark, report)
        return report

    def predict(
        self, recipe: SelfTrainingRecipe, number: int, teacher: str, predictor: AnyPredictor, folder: Path
    ) -> list[Predicted]:
        """The pool as the teacher sees it."""
        wanted, negatives = recipe.predict, recipe.negatives
        asks = negatives.ratio > 0 and negatives.rule != "map"
        settings = wanted.model_dump(mode="json", exclude={"device", "seeds"}) | {"presence": asks}
        total = len(self.material.pool)
        return predict_pool(
            predictor,
            self.material.pool,
            folder / "predictions",
            settings=settings,
            black_is_missing=wanted.black_is_missing,
            presence=open_classifier(teacher, wanted.options) if asks else None,
            on_scene=lambda done: self.tell(SelfTrainingProgress("predicting", number, done, total)),
        )

    def select(
        self, recipe: SelfTrainingRecipe, predicted: list[Predicted], refused: list[str], folder: Path
    ) -> tuple[Selection, list[Any], int]:
        """Labels of the pool and negatives; a scene is one of both at most."""
        scheme, labelled = recipe.scheme, len(self.material.labelled.training)

        def labels_of(candidates: list[Predicted]) -> Selection:
            return select_labels(
                candidates,
                recipe.labels,
                folder / "labels",
                least_confidence=recipe.labels.least_confidence(scheme),
                shares=self.material.shares,
                refused=class_indices(refused, scheme),
            )

        if recipe.negatives.sources == "rejected":
            selection = labels_of(predicted)
            rejected = [p for p in predicted if p.scene.name in selection.rejected]
            empty, found = find_negatives(rejected, recipe.negatives, labelled=labelled)
        else:
            empty, found = find_negatives(predicted, recipe.negatives, labelled=labelled)
            names = {scene.name for scene in empty}
            selection = labels_of([p for p in predicted if p.scene.name not in names])
        return selection, write_negatives(empty, folder / "negatives", scheme_classes=len(scheme)), found

    def judge(
        self, recipe: SelfTrainingRecipe, number: int, teacher: AnyPredictor, student: Path
    ) -> tuple[Evidence, Evidence, Verdict]:
        """What speaks for teacher and student, and which of them is kept."""
        held = self.material.labelled.validation
        scenes = held if recipe.evidence == "validation" else self.material.pool
        self.tell(SelfTrainingProgress("judging", number, 0, 2))
        before = self.known.get(teacher.sha256) or gather_evidence(teacher, scenes, recipe.guard)
        self.tell(SelfTrainingProgress("judging", number, 1, 2))
        opened = open_predictor(student, recipe.predict.options)
        after = gather_evidence(opened, scenes, recipe.guard, teacher=teacher)
        if recipe.evidence == "validation":  # against views, it depends on the teacher
            self.known[opened.sha256] = after
        self.tell(SelfTrainingProgress("judging", number, 2, 2))
        return before, after, judge(before, after, recipe.guard)

    def train_all(
        self, recipes: list[TrainRecipe], folder: Path, stage: Literal["teacher", "student"], number: int
    ) -> Path:
        """Train one model per recipe, or finish what was begun; several become an ensemble."""
        if len(recipes) == 1:
            return self.train_one(recipes[0], folder, stage, number)
        members = [
            self.train_one(recipe, folder / f"seed-{n}", stage, number) for n, recipe in enumerate(recipes)
        ]
        if not is_ensemble(folder / "model"):
            card, folders = compose(self.recipe.name, [Ingredient(path) for path in members])
            save_ensemble(folder / "model", card, folders)
        return folder / "model"

    def train_one(
        self, recipe: TrainRecipe, folder: Path, stage: Literal["teacher", "student"], number: int
    ) -> Path:
        """Train a model, go on with its training, or do nothing where that is finished."""
        run = Run(folder)
        begun = (folder / "run.json").is_file()
        if begun and run.facts().get("status") == "complete":
            return run.model
        goes_on = begun and run.resume.is_dir()
        if folder.exists() and not goes_on:
            shutil.rmtree(folder)  # stopped before anything was saved

        def tell(progress: Progress) -> None:
            step, steps = progress.step.number, progress.steps
            self.tell(SelfTrainingProgress(stage, number, step, steps, progress))

        return train(recipe, folder, resume=goes_on, command=self.command, on_progress=tell).model

    def shares(self, selection: Selection) -> dict[str, dict[str, float]]:
        """Share of every class among the labelled pixels, the predicted ones and those learned from."""
        predicted, learned = (
            [count / max(sum(counts), 1) for count in counts]
            for counts in (selection.predicted, selection.learned)
        )
        columns = zip(self.recipe.scheme.names, self.material.shares, predicted, learned, strict=True)
        return {
            name: {"labelled": round(a, 6), "predicted": round(b, 6), "learned": round(c, 6)}
            for name, a, b, c in columns
        }


def class_indices(names: list[str], scheme: ClassScheme) -> set[int]:
    """Mask values of the classes that a verdict names; `building` stands for all of them but the background."""
    found: set[int] = set()
    for name in names:
        if name == "building":
            found |= set(range(1, len(scheme)))
        else:
            found.add(scheme.index(name))
    return found


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


def _start(recipe: SelfTrainingRecipe, folder: Path, material: Material) -> Run:
    facts = {
        "seed": recipe.seed,
        "task": recipe.task,
        "training_scenes": len(material.labelled.training),
        "validation_scenes": len(material.labelled.validation),
        "pool_scenes": len(material.pool),
        "events": sorted({s.event for s in material.labelled.training}),
        "pool_events": sorted({s.event for s in material.pool}),
        "data": [str(path) for path in recipe.data.manifests],
        "data_checksum": data_checksum([*material.labelled.training, *material.labelled.validation]),
        "pool_checksum": data_checksum(material.pool),
    }
    run = Run.start(folder, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), facts)
    shutil.rmtree(folder / "samples", ignore_errors=True)  # empty: there is one picture, of another kind
    return run


def _best(reports: list[dict[str, Any]], kept: str) -> dict[str, Any]:
    """Score of the model that is kept, as runs say it."""
    if kept == "student":
        chosen = [report for report in reports if report["kept"] == "student"][-1]
        return {"step": chosen["round"], "score": chosen["after"]["score"]}
    before = reports[0]["before"]
    return {} if before is None else {"step": 0, "score": before["score"]}


def _copy_model(source: Path, target: Path) -> None:
    """Copy a model or ensemble folder, whole or not at all."""
    temporary = begin_folder(target)
    shutil.copytree(source, temporary, dirs_exist_ok=True)
    finish_folder(temporary, target)
