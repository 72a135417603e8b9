"""An adaptation from its first score to its last, with labels or without: score, learn, score again, judge, write."""

import json
import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from aftermap.artefacts.card import Card
from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.ensemble_card import EnsembleCard, Role
from aftermap.artefacts.store import LoadedModel, save_model
from aftermap.data.scene import Scene, read_images
from aftermap.files import write_text
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor, Predictor
from aftermap.inference.tiling import predict_scene
from aftermap.learning.loop import BatchSource, Training, fit
from aftermap.learning.run import Run, machine
from aftermap.workflows.adaptation.config import AdaptConfig, AdaptEventRecipe
from aftermap.workflows.adaptation.figure import ComparedScene, write_comparison
from aftermap.workflows.adaptation.guard import Verdict
from aftermap.workflows.scoring.evaluate import decide
from aftermap.workflows.training.run_folder import check_folder, open_run
from aftermap.workflows.training.training_kind import OnProgress, TrainingProgress

PICTURED = 4
REPORT_NAME = "adaptation.json"
PICTURE_NAME = "before-after.png"

Measured = TypeVar("Measured")
Outcome = TypeVar("Outcome", bound="Adapted")
Kept = Literal["adapted", "parent", "localization", "damage"]
"""Whose weights; `localization` and `damage`: which part of the adapted model is kept, beside the parent's other one."""
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Adapted:
    """The outcome of an adaptation, as far as it is the same with labels and without.

    Attributes:
        model: the model folder.
        kept: whose weights it holds; an ensemble of both where the adapted model was better in one part alone.
        minutes: in all.
        together: metrics of both as one model, where that was tried.
    """

    model: Path
    kept: Kept
    minutes: float
    together: dict[str, float] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be measured is null."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Wording:
    """What card and picture say of an adaptation.

    Attributes:
        event: what it was adapted to.
        metrics: titles and scores, for the card.
        refusal: why the parent's weights were kept, for its limits.
        limits: of the adapted model.
        data, licence: what it was adapted with.
        name: what is put behind the parent's.
        title, note: of the picture.
    """

    event: str
    metrics: dict[str, dict[str, float]]
    refusal: str
    limits: str
    data: str
    licence: str
    data_licence: str
    name: str
    title: str
    note: str = ""


class Adaptation(ABC, Generic[Measured, Outcome]):
    """What an adaptation with labels, or one without, does in its own way.

    Attributes:
        recipe: what to do.
        parent: the model that is adapted.
        pictured: scenes that are drawn.
    """

    recipe: AdaptConfig | AdaptEventRecipe
    parent: LoadedModel
    pictured: Sequence[Scene]

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What `run.json` says of its data."""

    @abstractmethod
    def measure(self, model: AnyPredictor, parent: AnyPredictor | None, told: Told) -> Measured:
        """What speaks for a model.

        Args:
            model: the parent, or the adapted one.
            parent: of the adapted one.
            told: called with the scenes that are done, and how many there are.
        """

    @abstractmethod
    def line(self, measured: Measured) -> dict[str, float]:
        """The same as a line of metrics, `score` among them."""

    @abstractmethod
    def learn(self, run: Run, on_step: Callable[[int], None]) -> tuple[LoadedModel, dict[str, float]]:
        """The adapted model, and what its training says at its end."""

    @abstractmethod
    def verdict(self, before: Measured, after: Measured) -> Verdict:
        """Whether the adapted model is better."""

    def better_part(self, before: Measured, after: Measured) -> Role | None:
        """What the adapted model does better although it does the other worse; None where it is not so."""
        return None

    @abstractmethod
    def wording(self, before: Measured, after: Measured, verdict: Verdict) -> Wording:
        """What card and picture say."""

    @abstractmethod
    def outcome(
        self, done: Adapted, before: Measured, after: Measured, verdict: Verdict
    ) -> tuple[Outcome, dict[str, Any]]:
        """The outcome, and what the report says beside it."""

    def stored(self, measured: Measured) -> dict[str, Any] | None:
        """What a run that goes on need not measure again, as plain values; None where it does so."""
        return None

    def restored(self, stored: dict[str, Any]) -> Measured:
        """What `stored` gave."""
        raise NotImplementedError


def run_adaptation(
    kind: Adaptation[Measured, Outcome],
    folder: Path,
    resume: bool,
    started: float,
    *,
    command: str,
    on_progress: OnProgress,
) -> Outcome:
    """Adapt a model; the folder gets the parent's weights where the verdict is against the adapted ones.

    Written are `model/`, `adaptation.json`, `before-after.png`, `recipe.yaml`, `run.json` and `metrics.jsonl`.

    Raises:
        OutputError: the run folder exists or cannot be written.
        TrainingError: a loss is not finite, or there is nothing to resume.
    """
    recipe, parent = kind.recipe, kind.parent
    check_folder(folder, resume=resume)

    def telling(stage: str) -> Told:
        return lambda done, total: on_progress(TrainingProgress(stage, done, total))

    with open_run(
        folder, recipe.model_dump(mode="json"), kind.facts, resume=resume, records=recipe.records
    ) as (run, records):
        lines = run.metrics(up_to_step=_saved_step(run))
        predictor = Predictor(parent, device=recipe.device)
        known = run.facts().get("before")
        before = (
            kind.measure(predictor, None, telling("scoring the model"))
            if known is None
            else kind.restored(known)
        )
        if known is None and (stored := kind.stored(before)) is not None:
            run.record(before=stored)
        if not lines:
            run.append_metrics({"step": 0, **kind.line(before)})
            records.log(0, kind.line(before), kept=False)
        adapting = telling("adapting")
        child, ended = kind.learn(run, lambda number: adapting(number, recipe.steps))
        changed = Predictor(child, device=recipe.device)
        after = kind.measure(changed, predictor, telling("scoring the adapted model"))
        verdict = kind.verdict(before, after)
        kept: Kept = "adapted" if verdict.kept == "student" or recipe.force else "parent"
        line = kind.line(after)
        part = None if recipe.force else kind.better_part(before, after)
        together = None
        if part is not None:
            card, members = _both(run.resume / "both", parent, child, part)
            both = open_predictor(run.resume / "both" / "ensemble", Options(device=recipe.device))
            together = kind.line(kind.measure(both, predictor, telling("scoring both together")))
            if together["score"] > max(kind.line(before)["score"], line["score"]):
                kept = part
        run.append_metrics({"step": recipe.steps, **ended, **line})
        records.log(recipe.steps, ended | line, kept=kept == "adapted")
        minutes = (time.monotonic() - started) / 60
        wording = kind.wording(before, after, verdict)
        described = _card(parent, wording, kept=kept, steps=recipe.steps, minutes=minutes, command=command)
        if kept in ("adapted", "parent"):
            _save(run.model, child if kept == "adapted" else parent, described)
        else:
            save_ensemble(run.model, _card_of_both(card, described, wording.event, together), members)
        outcome, facts = kind.outcome(Adapted(run.model, kept, minutes, together), before, after, verdict)
        origin = {"parent": recipe.model, "parent_sha256": parent.sha256}
        report = {"event": wording.event, **facts, **origin, **outcome.as_dict()}
        write_text(folder / REPORT_NAME, json.dumps(report, indent=1) + "\n")
        write_comparison(
            folder / PICTURE_NAME,
            [ComparedScene(s, _classes(predictor, s), _classes(changed, s)) for s in kind.pictured],
            scheme=parent.card.classes,
            title=wording.title,
            note=wording.note,
        )
        run.record(minutes=round(minutes, 2), kept=kept, best={"step": recipe.steps, **line})
    shutil.rmtree(run.resume, ignore_errors=True)
    return outcome


def fit_saved(
    training: Training,
    source: BatchSource,
    run: Run | None,
    on_step: Callable[[int], None],
    *,
    save_every: int = 0,
) -> float:
    """Take all steps, from the saved state of an interrupted run where there is one; gives the last loss.

    Raises:
        TrainingError: a loss is not finite.
    """
    loss = math.nan
    if run is not None and run.has_state:
        training.load(run.resume)
    try:
        for step in fit(training, source):
            loss = step.loss
            if run is not None and save_every and step.number % save_every == 0:
                training.save(run.resume)
                run.append_metrics({"step": step.number, "loss": step.loss, "lr": step.lr, **step.terms})
            on_step(step.number)
    except KeyboardInterrupt:
        if run is not None:
            training.save(run.resume)
        raise
    return loss


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """Rounded for a card; what could not be measured is left out."""
    return {name: round(value, 4) for name, value in metrics.items() if math.isfinite(value)}


def nullable(metrics: dict[str, float] | None) -> dict[str, float | None] | None:
    """Rounded for JSON; what could not be measured is null."""
    if metrics is None:
        return None
    return {name: round(v, 4) if math.isfinite(v) else None for name, v in metrics.items()}


def _card(
    parent: LoadedModel, wording: Wording, *, kept: Kept, steps: int, minutes: float, command: str
) -> Card:
    """The parent's card with the record of the adaptation, or of the attempt."""
    card, record = parent.card, parent.card.training
    said: dict[str, Any] = {"weights": None, "metrics": card.metrics | wording.metrics}
    if kept == "parent":
        return card.model_copy(update=said | {"limits": f"{card.limits} {wording.refusal}".strip()})
    said["one_date"] = ()  # both dates were shown: what it has kept of the others nobody knows
    training = record.model_copy(
        update={
            "data": f"{record.data}; adapted to {wording.data}",
            "data_licence": f"{record.data_licence}; {wording.data_licence}",
            "command": command,
            "steps": steps,
            "minutes": round(minutes, 1),
            "hardware": machine(),
            "parent_sha256": parent.sha256,
            "events": tuple(sorted({*record.events, wording.event})),
        }
    )
    said |= {
        "name": f"{card.name}-{wording.name}",
        "licence": f"{card.licence}; adapted with {wording.licence} whose licence is: {wording.data_licence}",
        "limits": f"{card.limits} {wording.limits}".strip(),
        "training": training,
    }
    return card.model_copy(update=said)


def _save(folder: Path, loaded: LoadedModel, card: Card) -> None:
    """Write a model with the precision that it was stored in."""
    half = loaded.card.weights is not None and loaded.card.weights.dtype == "float16"
    save_model(folder, loaded.model, card, dtype="float16" if half else "float32")


def _both(
    folder: Path, parent: LoadedModel, child: LoadedModel, part: Role
) -> tuple[EnsembleCard, dict[str, Path]]:
    """Write both models and their ensemble: the adapted one for `part`, the parent for the other; card and members."""
    for name, loaded in (("adapted", child), ("parent", parent)):
        _save(folder / name, loaded, loaded.card)
    other: Role = "damage" if part == "localization" else "localization"
    ingredients = [Ingredient(folder / "adapted", role=part), Ingredient(folder / "parent", role=other)]
    card, members = compose(parent.card.name, ingredients)
    card = card.model_copy(
        update={
            "object_threshold": parent.card.object_threshold,
            "calibration": parent.card.calibration if part == "localization" else None,
        }
    )
    return save_ensemble(folder / "ensemble", card, members), members


def _card_of_both(
    card: EnsembleCard, described: Card, event: str, together: dict[str, float] | None
) -> EnsembleCard:
    """The card of an ensemble that is kept, with what the card of the adapted model would say."""
    metrics = described.metrics | {f"{event}, both together": finite(together or {})}
    said = {name: getattr(described, name) for name in ("name", "licence", "limits", "training")}
    return card.model_copy(update=said | {"metrics": metrics})


def _classes(predictor: AnyPredictor, scene: Scene) -> Any:
    """Predicted classes (H, W) of a scene."""
    images = read_images(scene, dates=predictor.dates)
    building, damage = decide(predict_scene(predictor, images), Decision.of(predictor.card))
    return building if damage is None else building * damage


def _saved_step(run: Run) -> int:
    """The step that an interrupted run goes on from."""
    file = run.resume / "step.json"
    return int(json.loads(file.read_text())["step"]) if file.is_file() else 0
