"""A trained model adapted to an event with a few labelled scenes of it, and measured on the others, before and after."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from aftermap.artefacts.ensemble_card import Role
from aftermap.artefacts.store import LoadedModel, load_model
from aftermap.classes import DAMAGE
from aftermap.data.checking.splits import buildings
from aftermap.data.loading.few_shot_tasks import Shots, ShotSource
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import RecipeError
from aftermap.inference.predictor import AnyPredictor
from aftermap.learning.configs.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.loop import Step, Training, fit
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.single_buildings import SingleBuildings
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.run import Run, data_checksum
from aftermap.learning.trainable import FrozenNorm, tune_only
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
from aftermap.workflows.adaptation.config import AdaptConfig, default_objective
from aftermap.workflows.adaptation.guard import Verdict
from aftermap.workflows.adaptation.scenes import choose_scenes
from aftermap.workflows.scoring.evaluate import decisive_score, evaluate, spread
from aftermap.workflows.training.selection import summary_metrics


@dataclass(frozen=True, slots=True)
class AdaptedWithLabels(Adapted):
    """The outcome.

    Attributes:
        before, after: metrics on the evaluated scenes; `score` (see `decisive_score`) says whether it helped.
        scenes: names of the scenes that were learned from.
        evaluated: how many others were scored.
    """

    before: dict[str, float]
    after: dict[str, float]
    scenes: tuple[str, ...]
    evaluated: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be measured is null."""
        return {
            "model": str(self.model),
            "kept": self.kept,
            "scenes": list(self.scenes),
            "evaluated": self.evaluated,
            "before": nullable(self.before),
            "after": nullable(self.after),
            "together": nullable(self.together),
            "minutes": round(self.minutes, 2),
        }


class WithLabels(Adaptation[dict[str, float], AdaptedWithLabels]):
    """Learning from the labels of a few scenes; those of the others say whether it helped."""

    recipe: AdaptConfig

    def __init__(self, config: AdaptConfig, parent: LoadedModel) -> None:
        self.recipe, self.parent = config, parent
        manifest = Manifest.load(config.data)
        self.licence = manifest.licence or "not stated"
        self.chosen, others = choose_scenes(manifest, config, parent.card)
        self.others = spread(others, config.evaluated)
        self.pictured = spread([s for s in self.others if buildings(s)] or self.others, PICTURED)
        _check(config, parent)

    def facts(self) -> dict[str, Any]:
        """Event and scenes."""
        return {
            "seed": self.recipe.seed,
            "task": "damage" if self.parent.card.scheme == DAMAGE.name else "building",
            "events": [self.recipe.event],
            "scenes": [scene.name for scene in self.chosen],
            "parent_sha256": self.parent.sha256,
            "data_checksum": data_checksum(self.chosen),
        }

    def measure(self, model: AnyPredictor, parent: AnyPredictor | None, told: Told) -> dict[str, float]:
        """Metrics on the event's other scenes."""
        done = 0

        def on_scene(*_: Any) -> None:
            nonlocal done
            done += 1
            told(done, len(self.others))

        evaluation = evaluate(model, self.others, on_scene=on_scene)
        metrics = summary_metrics(evaluation, damage=model.card.scheme == DAMAGE.name)
        return metrics | {"score": decisive_score(evaluation.report.pixels)}

    def line(self, measured: dict[str, float]) -> dict[str, float]:
        """The metrics."""
        return measured

    def learn(self, run: Run, on_step: Callable[[int], None]) -> tuple[LoadedModel, dict[str, float]]:
        """The fine-tuned model and its last loss."""
        child = load_model(self.recipe.model)
        loss = fit_saved(*_training(child, self.chosen, self.recipe), run, on_step)
        child.model.eval()
        return child, {"loss": loss}

    def verdict(self, before: dict[str, float], after: dict[str, float]) -> Verdict:
        """Whether the score has not fallen."""
        better = after["score"] >= before["score"]
        change = f"the score went from {before['score']:.3f} to {after['score']:.3f}"
        return Verdict("student" if better else "teacher", change, {})

    def better_part(self, before: dict[str, float], after: dict[str, float]) -> Role | None:
        """Localization or damage, where one rose and the other fell; the decisive score is 0.3 and 0.7 of them."""
        if self.parent.card.scheme != DAMAGE.name:
            return None
        located = after["localization_f1"] - before["localization_f1"]
        told = (after["score"] - before["score"]) - 0.3 * located
        if not located * told < 0:
            return None
        return "localization" if located > 0 else "damage"

    def wording(self, before: dict[str, float], after: dict[str, float], verdict: Verdict) -> Wording:
        """Event and scenes by name."""
        event = self.recipe.event
        names = ", ".join(scene.name for scene in self.chosen)
        measured = {"before": before, "after": after}
        return Wording(
            event=event,
            metrics={
                f"{event}, {len(self.others)} other scenes, {when} adapting": finite(found)
                for when, found in measured.items()
            },
            refusal=f"An adaptation to {event} ({names}) scored lower and was not kept.",
            limits=f"Adapted to {event}; elsewhere it may be worse than its parent.",
            data=f"{event} with {len(self.chosen)} scene(s): {names}",
            licence="data",
            data_licence=self.licence,
            name=event,
            title=f"{event}: {self.parent.card.name} before and after {len(self.chosen)} scene(s)",
        )

    def outcome(
        self, done: Adapted, before: dict[str, float], after: dict[str, float], verdict: Verdict
    ) -> tuple[AdaptedWithLabels, dict[str, Any]]:
        """With the metrics, and which scenes were learned from."""
        names = tuple(scene.name for scene in self.chosen)
        return AdaptedWithLabels(
            done.model, done.kept, done.minutes, done.together, before, after, names, len(self.others)
        ), {}


def fine_tune(child: LoadedModel, scenes: Sequence[Scene], config: AdaptConfig) -> Iterator[Step]:
    """Change the weights of a loaded model in place, a step at a time.

    Raises:
        RecipeError: crops that the model cannot take, or a loss that does not go with its classes.
        TrainingError: a loss is not finite.
    """
    _check(config, child)
    yield from fit(*_training(child, scenes, config))
    child.model.eval()


def _check(config: AdaptConfig, loaded: LoadedModel) -> None:
    """Refuse crops or a loss that do not go with the model."""
    stride = loaded.model.stride
    if config.shots.crop_px % stride:
        raise RecipeError(f"shots.crop_px is {config.shots.crop_px}, this model needs multiples of {stride}")
    try:
        (config.objective or default_objective(loaded.card)).check_classes(loaded.model.classes)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _training(
    child: LoadedModel, scenes: Sequence[Scene], config: AdaptConfig
) -> tuple[Training, ShotSource]:
    """The steps of a fine-tuning, and the crops that they see."""
    card, stride = child.card, child.model.stride
    largest = max(max(scene.width, scene.height) for scene in scenes)
    crop_px = min(config.shots.crop_px, -(-largest // stride) * stride)
    torch.manual_seed(config.seed)
    tune_only(child.model, config.tune)
    shots = Shots(
        config.shots.model_copy(update={"crop_px": crop_px}),
        target="damage" if card.scheme == DAMAGE.name else "building",
        dates=card.dates,
        mean=card.normalisation.mean,
        std=card.normalisation.std,
        band_order=card.band_order,
    )
    objective: Objective = Supervised(config.objective or default_objective(card))
    is_one_softmax = (card.activation, card.channel_0, card.scheme) == ("softmax", "background", DAMAGE.name)
    if config.answers and config.objective is None and is_one_softmax:
        objective = SingleBuildings(child.model)
    training = Training(
        child.model,
        FrozenNorm(objective) if config.norm == "frozen" else objective,
        OptimizerConfig(
            lr=config.lr, schedule=CosineConfig(warmup_steps=min(5, config.steps), final_fraction=0.0)
        ),
        steps=config.steps,
        seed=config.seed,
        precision=config.precision,
    )
    return training, ShotSource(scenes, shots, batch_size=config.batch_size, seed=config.seed)
