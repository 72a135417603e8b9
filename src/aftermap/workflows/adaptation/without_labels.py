"""A trained model adapted to an event without labels, with a verdict on whether that helped."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from aftermap.artefacts.card import Card
from aftermap.artefacts.store import LoadedModel, load_model
from aftermap.classes import DAMAGE
from aftermap.data.loading.loader import CropSource
from aftermap.data.loading.sampling import ClassSampling
from aftermap.data.scene import Scene, has_labels
from aftermap.errors import ModelError, RecipeError
from aftermap.inference.predictor import AnyPredictor
from aftermap.learning.configs.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.loop import Training
from aftermap.learning.meta import refresh_statistics
from aftermap.learning.objectives.mean_teacher import MeanTeacher
from aftermap.learning.run import Run, data_checksum
from aftermap.learning.trainable import tune_only
from aftermap.models.networks.dense import DenseModel
from aftermap.wording import counted
from aftermap.workflows.adaptation.adaptation_kind import (
    PICTURED,
    Adaptation,
    Adapted,
    Told,
    Wording,
    finite,
    fit_saved,
    nullable,
)
from aftermap.workflows.adaptation.config import AdaptEventRecipe
from aftermap.workflows.adaptation.guard import Evidence, Verdict, gather_evidence, judge
from aftermap.workflows.adaptation.scenes import EventScenes, event_scenes
from aftermap.workflows.scoring.evaluate import decisive_score, evaluate, spread
from aftermap.workflows.training.selection import summary_metrics

Truth = dict[str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of a model on an event: the evidence, and the truth of its labelled scenes where it has any."""

    evidence: Evidence
    truth: Truth | None


@dataclass(frozen=True, slots=True)
class AdaptedWithoutLabels(Adapted):
    """The outcome.

    Attributes:
        verdict: of the guard rails.
        before, after: the evidence that it rests on.
        truth_before, truth_after: scores on labelled scenes of the event, which the verdict does not know; None where
            there are none.
        scenes: how many of the event were learned from.
    """

    verdict: Verdict
    before: Evidence
    after: Evidence
    truth_before: Truth | None
    truth_after: Truth | None
    scenes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be measured is null."""
        return {
            "model": str(self.model),
            "kept": self.kept,
            "verdict": self.verdict.as_dict(),
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "truth_before": nullable(self.truth_before),
            "truth_after": nullable(self.truth_after),
            "scenes": self.scenes,
            "minutes": round(self.minutes, 2),
        }


class WithoutLabels(Adaptation[Judged, AdaptedWithoutLabels]):
    """Learning from an event's images alone; guard rails say whether it helped."""

    recipe: AdaptEventRecipe

    def __init__(self, recipe: AdaptEventRecipe, parent: LoadedModel) -> None:
        self.recipe, self.parent = recipe, parent
        self.given = given = event_scenes(recipe, parent.card)
        self.event = recipe.event or ", ".join(sorted({scene.event for scene in given.scenes}))
        self.looked_at = given.scenes if recipe.guard.labels else given.bare
        told = [s for s in given.scenes if has_labels(s, given.target)] if recipe.evaluate else []
        self.told = spread(told, recipe.evaluated)
        self.pictured = spread(given.scenes, PICTURED)
        check_recipe(recipe, parent)

    def facts(self) -> dict[str, Any]:
        """Events and scenes."""
        given = self.given
        return {
            "seed": self.recipe.seed,
            "task": given.target,
            "events": sorted({scene.event for scene in given.scenes}),
            "training_scenes": len(given.scenes),
            "source_scenes": len(given.source),
            "parent_sha256": self.parent.sha256,
            "data_checksum": data_checksum([*given.bare, *given.source]),
        }

    def measure(self, model: AnyPredictor, parent: AnyPredictor | None, told: Told) -> Judged:
        """The evidence, and the truth beside it."""
        told(0, 1)
        evidence = gather_evidence(model, self.looked_at, self.recipe.guard, teacher=parent)
        judged = Judged(evidence, truth_of(model, self.told))
        told(1, 1)
        return judged

    def line(self, measured: Judged) -> dict[str, float]:
        """`score` is the evidence's, what begins with `true_` the labels'."""
        found = measured.evidence
        line = {"score": found.score} | {f"{found.source}_{k}": v for k, v in found.per_class.items()}
        line |= {f"share_{k}": v for k, v in found.shares.items()} | found.details
        line |= {f"true_{name}": value for name, value in (measured.truth or {}).items()}
        return {name: value for name, value in line.items() if math.isfinite(value)}

    def stored(self, measured: Judged) -> dict[str, Any] | None:
        """Evidence and truth."""
        return {"evidence": measured.evidence.as_dict(), "truth": measured.truth}

    def restored(self, stored: dict[str, Any]) -> Judged:
        """Evidence and truth."""
        return Judged(Evidence.of(stored["evidence"]), stored["truth"])

    def learn(self, run: Run, on_step: Callable[[int], None]) -> tuple[LoadedModel, dict[str, float]]:
        """The model with the weights, or statistics, that the event gave it."""
        return adapted_model(self.recipe, self.given, run=run, on_step=on_step), {}

    def verdict(self, before: Judged, after: Judged) -> Verdict:
        """What the guard rails say."""
        return judge(before.evidence, after.evidence, self.recipe.guard)

    def wording(self, before: Judged, after: Judged, verdict: Verdict) -> Wording:
        """Event and verdict."""
        count = len(self.given.scenes)
        metrics = {}
        for when, judged in (("before", before), ("after", after)):
            found: dict[str, float] = {judged.evidence.source: judged.evidence.score}
            found |= {f"true_{name}": value for name, value in (judged.truth or {}).items()}
            metrics[f"{self.event}, {counted(count, 'scene')}, {when} adapting without labels"] = finite(
                found
            )
        accepted = verdict.kept == "student"
        forced = "" if accepted else f" Kept against the verdict: {verdict.reason}."
        said = "kept" if accepted or self.recipe.force else "refused"
        return Wording(
            event=self.event,
            metrics=metrics,
            refusal=f"An adaptation to {self.event} without labels was refused ({verdict.reason}).",
            limits=f"Adapted to {self.event} without labels; elsewhere it may be worse than its parent.{forced}",
            data=f"{counted(count, 'scene')} of {self.event} without labels",
            licence="images",
            data_licence=self.given.licence,
            name=self.recipe.event or "adapted",
            title=f"{self.event}: {self.parent.card.name} adapted without labels, {said}",
            note=verdict.reason,
        )

    def outcome(
        self, done: Adapted, before: Judged, after: Judged, verdict: Verdict
    ) -> tuple[AdaptedWithoutLabels, dict[str, Any]]:
        """With verdict, evidence and truth."""
        outcome = AdaptedWithoutLabels(
            done.model,
            done.kept,
            done.minutes,
            done.together,
            verdict,
            before.evidence,
            after.evidence,
            before.truth,
            after.truth,
            len(self.given.scenes),
        )
        return outcome, {"method": self.recipe.method}


def truth_of(predictor: AnyPredictor, scenes: Sequence[Scene]) -> Truth | None:
    """Scores on labelled scenes, `score` (see `decisive_score`) among them; None where there are none."""
    if not scenes:
        return None
    evaluation = evaluate(predictor, scenes)
    metrics = summary_metrics(evaluation, damage=predictor.card.scheme == DAMAGE.name)
    metrics["buildings_found_f1"] = evaluation.report.buildings.localization_f1
    metrics["score"] = decisive_score(evaluation.report.pixels)
    return metrics


def check_recipe(recipe: AdaptEventRecipe, parent: LoadedModel) -> None:
    """Refuse what does not go with the model.

    Raises:
        RecipeError: crops, or an objective.
        ModelError: statistics are to be adapted, and it has none.
    """
    stride = parent.model.stride
    if recipe.crop_px % stride:
        near = max(1, round(recipe.crop_px / stride)) * stride
        raise RecipeError(
            f"crop_px is {recipe.crop_px}, this model needs multiples of {stride}, such as {near}"
        )
    if recipe.method == "batch-norm":
        if not any(name.endswith("running_mean") for name in parent.model.state_dict()):
            raise ModelError(
                f"{recipe.model} has no batch normalisation, so there is nothing that method batch-norm could adapt: "
                "use mean-teacher"
            )
        return
    try:
        recipe.objective.check_classes(parent.model.classes)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if recipe.objective.activation != parent.card.activation:
        raise RecipeError(
            f"objective.activation is {recipe.objective.activation}, the model's is {parent.card.activation}: "
            f"say objective.activation={parent.card.activation}"
        )


def adapted_model(
    recipe: AdaptEventRecipe,
    given: EventScenes,
    *,
    run: Run | None = None,
    on_step: Callable[[int], None] = lambda number: None,
) -> LoadedModel:
    """The parent with the weights, or statistics, that the event gave it.

    Args:
        recipe: what to do.
        given: the scenes.
        run: where the state is kept, and gone on with where there is one.
        on_step: called after every step with its number.

    Raises:
        TrainingError: a loss is not finite.
    """
    child = load_model(recipe.model)
    with closing(_crops(recipe, given, child.card)) as source:
        if recipe.method == "mean-teacher":
            model = _learned(recipe, child, source, run, on_step)
        else:
            model = _restated(recipe, child, source, on_step)
    return LoadedModel(model.eval(), child.card, child.path, child.sha256)


def _learned(
    recipe: AdaptEventRecipe,
    child: LoadedModel,
    source: CropSource,
    run: Run | None,
    on_step: Callable[[int], None],
) -> DenseModel:
    """The mean teacher's teacher after all steps."""
    torch.manual_seed(recipe.seed)
    objective = MeanTeacher(recipe.objective, child.model)
    tune_only(child.model, recipe.tune)
    schedule = CosineConfig(warmup_steps=min(10, recipe.steps), final_fraction=0.1)
    training = Training(
        child.model,
        objective,
        # nothing but the event pulls: decay would shrink the weights of a trained model
        OptimizerConfig(lr=recipe.lr, weight_decay=0.0, schedule=schedule),
        steps=recipe.steps,
        seed=recipe.seed,
        precision=recipe.precision,
    )
    source.device = training.accelerator.device
    fit_saved(training, source, run, on_step, save_every=recipe.save_every)
    return objective.evaluated(child.model).to("cpu")


def _restated(
    recipe: AdaptEventRecipe,
    child: LoadedModel,
    source: CropSource,
    on_step: Callable[[int], None],
) -> DenseModel:
    """The model with its statistics moved towards those of the crops."""
    before = {name: value.clone() for name, value in child.model.state_dict().items()}

    def batches() -> Any:
        for number in range(recipe.steps):
            yield source.batch(number)
            on_step(number + 1)

    refresh_statistics(child.model, batches())
    for name, value in child.model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.lerp(before[name], value, recipe.statistics))
        elif name.endswith("num_batches_tracked"):
            value.copy_(before[name])
    return child.model


def _crops(recipe: AdaptEventRecipe, given: EventScenes, card: Card) -> CropSource:
    """Crops of the event without labels, and of the source with them."""
    share = 0.0 if recipe.source is None else recipe.source.share
    return CropSource(
        [*given.source, *given.bare],
        target=given.target,
        dates=card.dates,
        sampling=ClassSampling(
            crop_px=recipe.crop_px, batch_size=recipe.batch_size, unlabelled_share=1.0 - share
        ),
        augment=recipe.augment,
        bands=card.bands,
        mean=card.normalisation.mean,
        std=card.normalisation.std,
        seed=recipe.seed,
    )
