"""The rounds of a self-training: predict the pool, select labels, train a student, judge it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aftermap.artefacts.ensemble import Ingredient, compose, is_ensemble, save_ensemble
from aftermap.artefacts.store import model_folder
from aftermap.classes import ClassScheme
from aftermap.files import write_json
from aftermap.inference.ensemble import open_predictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.wording import counted
from aftermap.workflows.adaptation.guard import Evidence, Verdict, gather_evidence, judge
from aftermap.workflows.self_training.config import SelfTrainingRecipe, student_recipe, teacher_recipe
from aftermap.workflows.self_training.data import SelfTrainingScenes, write_manifest
from aftermap.workflows.self_training.negatives import find_negatives, open_classifier, write_negatives
from aftermap.workflows.self_training.pseudo_labels import (
    ChosenLabels,
    Predicted,
    predict_pool,
    select_labels,
)
from aftermap.workflows.self_training.report import sample_names
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import finish_training
from aftermap.workflows.training.training_kind import OnProgress, TrainingProgress

_ROUND_MARK = "round.json"


@dataclass
class Rounds:
    """A self-training under way."""

    recipe: SelfTrainingRecipe
    folder: Path
    log: Callable[[str], None]
    material: SelfTrainingScenes
    command: str
    on_progress: OnProgress
    known: dict[str, Evidence] = field(default_factory=dict)  # by hash of the model

    def run(self, rounds: list[SelfTrainingRecipe]) -> tuple[str, list[dict[str, Any]]]:
        """All rounds, as far as they bring a gain: the last model that was kept, and what happened in each."""
        teacher = self.first_teacher()
        reports: list[dict[str, Any]] = []
        refused: list[str] = []
        for number, recipe in enumerate(rounds, 1):
            report = self.round(recipe, number, teacher, refused)
            reports.append(report)
            if report["kept"] == "teacher":
                break
            teacher = str(self.folder / f"round-{number}" / "student" / "model")
            refused = [name for name, found in report["verdict"]["classes"].items() if not found["accepted"]]
        return teacher, reports

    def first_teacher(self) -> str:
        """The given model, or the one that is trained on the labelled scenes."""
        if self.recipe.teacher.model is not None:
            return self.recipe.teacher.model
        recipes = [teacher_recipe(self.recipe, member=member) for member in range(self.recipe.predict.seeds)]
        return str(self.train_all(recipes, self.folder / "teacher", "teacher", 0))

    def round(
        self, recipe: SelfTrainingRecipe, number: int, teacher: str, refused: list[str]
    ) -> dict[str, Any]:
        """One round; what is known of it where it was finished before."""
        folder = self.folder / f"round-{number}"
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
        self.log(
            f"round {number}: {len(selection.accepted)} of {len(predicted)} scenes labelled by {predictor.name}, "
            f"{len(negatives)} negatives"
        )
        if not selection.accepted and not negatives:
            reason = f"none of the teacher's labels of {counted(len(predicted), 'scene')} was accepted"
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
        self.log(f"round {number}: {report['kept']} kept, {report['reason']}")
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
            on_scene=lambda done: self.tell("labelling the pool", number, done, total),
        )

    def select(
        self, recipe: SelfTrainingRecipe, predicted: list[Predicted], refused: list[str], folder: Path
    ) -> tuple[ChosenLabels, list[Any], int]:
        """Labels of the pool and negatives; a scene is one of both at most."""
        scheme, labelled = recipe.scheme, len(self.material.labelled.training)

        def labels_of(candidates: list[Predicted]) -> ChosenLabels:
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
        self.tell("judging", number, 0, 2)
        before = self.known.get(teacher.sha256) or gather_evidence(teacher, scenes, recipe.guard)
        self.tell("judging", number, 1, 2)
        opened = open_predictor(student, recipe.predict.options)
        after = gather_evidence(opened, scenes, recipe.guard, teacher=teacher)
        if recipe.evidence == "validation":  # against views, it depends on the teacher
            self.known[opened.sha256] = after
        self.tell("judging", number, 2, 2)
        return before, after, judge(before, after, recipe.guard)

    def train_all(self, recipes: list[TrainRecipe], folder: Path, whom: str, number: int) -> Path:
        """Train one model per recipe, or finish what was begun; several become an ensemble."""

        def tell(progress: TrainingProgress) -> None:
            self.on_progress(replace(progress, stage=f"training the {whom}", round=number))

        def trained(recipe: TrainRecipe, at: Path) -> Path:
            return finish_training(recipe, at, command=self.command, on_progress=tell)

        if len(recipes) == 1:
            return trained(recipes[0], folder)
        members = [trained(recipe, folder / f"seed-{n}") for n, recipe in enumerate(recipes)]
        if not is_ensemble(folder / "model"):
            card, folders = compose(self.recipe.name, [Ingredient(path) for path in members])
            save_ensemble(folder / "model", card, folders)
        return folder / "model"

    def tell(self, stage: str, number: int, done: int, total: int) -> None:
        """Say how far a stage of a round is."""
        self.on_progress(TrainingProgress(stage, done, total, round=number))

    def shares(self, selection: ChosenLabels) -> dict[str, dict[str, float]]:
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
