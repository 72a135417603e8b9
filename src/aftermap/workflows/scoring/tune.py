"""Thresholds and class weights chosen on validation scenes, and written into the card."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.artefacts.card import BaseCard
from aftermap.artefacts.edit import rewrite_card
from aftermap.artefacts.ensemble import is_ensemble, read_card
from aftermap.classes import DAMAGE
from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.errors import DataError, DataWarning, ModelError
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.gate import GateChoice, choose_gate
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor, Predictor
from aftermap.inference.tiling import predict_scene
from aftermap.scoring.decision_weights import reweight
from aftermap.scoring.pixels import DAMAGE_CLASSES, PixelScores, Score
from aftermap.scoring.tuning import MEASURES, By, Choice, DecisionTable, What
from aftermap.wording import counted
from aftermap.workflows.scoring.evaluate import decide, require_scheme


@dataclass(frozen=True, slots=True)
class Tuned:
    """The outcome of a tuning.

    Attributes:
        model: the folder whose card holds the thresholds and weights, or the untouched one where nothing was better.
        by: what was maximised; `present` where a class does not occur.
        scenes: how many were looked at.
        before: scores with the card as it was.
        after: scores with the card as it is now.
        thresholds: of p(building), by damage class (one for a localization model).
        damage_weights: factors of the damage classes; None for a localization model.
        improved: whether the card was changed.
    """

    model: Path
    by: By
    scenes: int
    before: dict[str, float]
    after: dict[str, float]
    thresholds: tuple[float, ...]
    damage_weights: tuple[float, ...] | None
    improved: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

        def plain(scores: dict[str, float]) -> dict[str, float | None]:
            return {name: value if math.isfinite(value) else None for name, value in scores.items()}

        return {
            "model": str(self.model),
            "by": self.by,
            "scenes": self.scenes,
            "improved": self.improved,
            "thresholds": list(self.thresholds),
            "damage_weights": list(self.damage_weights) if self.damage_weights else None,
            "before": plain(self.before),
            "after": plain(self.after),
        }


def tune_model(
    model: str | Path,
    scenes: Sequence[Scene],
    *,
    by: By | None = None,
    what: What = "both",
    out: Path | None = None,
    options: Options | None = None,
    on_scene: Callable[[], None] | None = None,
) -> Tuned:
    """Choose thresholds and class weights of a model or an ensemble on labelled scenes.

    The scenes are predicted twice: once to fill the table that is searched, and once to score what was found as it
    will be used, the spread of minor damage included. Where that is no better, the card stays as it was.

    Args:
        model: a model folder, an ensemble folder, or `box`.
        scenes: those without labels are passed over. They must not be those that will judge the model.
        by: what is maximised; the official score, or the F1 of buildings for a localization model.
        what: thresholds, class weights, or both.
        out: a copy of the model with the new card; None changes the card in place.
        options: how the model is run; later predictions should be run alike.
        on_scene: called after every scene, twice per scene.

    Raises:
        DataError: no labels, or nothing to tell apart in them.
        ModelError: the model cannot be used, or not be changed in place.

    Warns:
        DataWarning: a damage class does not occur, so that the official score cannot be used.
    """
    labelled = [scene for scene in scenes if scene.is_labelled]
    predictor = open_predictor(model, options)
    card = predictor.card
    require_scheme(card, "tuning", "its pixels have their likeliest class, without thresholds")
    damage = len(card.classes) == len(DAMAGE)
    by = by or ("official" if damage else "localization")
    if not damage and by != "localization":
        raise ModelError(f"{card.name} tells no damage, so it is tuned by localization, not by {by}")
    if out is None:
        rewrite_card(model, read_card(model))  # refuses now what could not be written later
    decision = Decision.of(card)
    table, scores = DecisionTable(len(card.classes) - 1), Score()
    for scene, probabilities in _predicted(predictor, labelled, on_scene):
        truth = _truth(scene, damage=damage)
        table.add(probabilities, *truth)
        _count(scores, scene, probabilities, truth, decision)
    by = _check(table, labelled, by)
    choice = table.search(decision.thresholds, by=by, what=what)
    found = Decision(choice.thresholds, decision.minor_dilation)
    tuned_scores = Score()
    for scene, probabilities in _predicted(predictor, labelled, on_scene):
        weighted = reweight(probabilities, np.array(choice.weights)) if damage else probabilities
        _count(tuned_scores, scene, weighted, _truth(scene, damage=damage), found)
    before, after = (_figures(s.result(bootstrap=0), damage=damage) for s in (scores, tuned_scores))
    improved = after[MEASURES[by]] > before[MEASURES[by]]
    if improved:
        changes = _changes(card, choice, damage=damage)
        measured = {name: round(value, 4) for name, value in after.items() if math.isfinite(value)}
        changes["metrics"] = card.metrics | {
            f"the {counted(len(labelled), 'scene')} it was tuned on": measured
        }
        card = card.model_copy(update=changes)
        path = rewrite_card(model, _stored(model, changes), out=out)
    else:
        path = rewrite_card(model, read_card(model), out=out)
        after = before
    return Tuned(
        model=path,
        by=by,
        scenes=len(labelled),
        before=before,
        after=after,
        thresholds=Decision.of(card).thresholds,
        damage_weights=card.damage_weights or ((1.0,) * len(DAMAGE_CLASSES) if damage else None),
        improved=improved,
    )


def _stored(model: str | Path, changes: dict[str, Any]) -> Any:
    """The card on disk with changes: what options of a single run set is not written."""
    return read_card(model).model_copy(update=changes)


def _predicted(
    predictor: AnyPredictor, scenes: Sequence[Scene], on_scene: Callable[[], None] | None
) -> Iterator[tuple[Scene, np.ndarray]]:
    for scene in scenes:
        yield scene, predict_scene(predictor, read_images(scene, dates=predictor.dates))
        if on_scene is not None:
            on_scene()


def _truth(scene: Scene, *, damage: bool) -> tuple[np.ndarray, np.ndarray | None]:
    return read_mask(scene, target="building"), read_mask(scene, target="damage") if damage else None


def _count(
    score: Score,
    scene: Scene,
    probabilities: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray | None],
    decision: Decision,
) -> None:
    building, damage = decide(probabilities, decision)
    score.add(building, damage, *truth, event=scene.event, scene=scene.name)


def _check(table: DecisionTable, scenes: Sequence[Scene], by: By) -> By:
    """Refuse labels that nothing can be learned from; fall back to the classes that occur."""
    if not scenes:
        raise DataError("none of the scenes has labels, so nothing can be tuned: choose another --split")
    if by == "localization":
        if min(table.building_pixels()) == 0:
            raise DataError("the labels hold background or buildings alone, so no threshold can be chosen")
        return by
    pixels = table.damage_pixels()
    absent = [name for name, count in zip(DAMAGE_CLASSES, pixels, strict=True) if count == 0]
    if len(absent) > len(DAMAGE_CLASSES) - 2:
        there = ", ".join(name for name in DAMAGE_CLASSES if name not in absent) or "no damage class"
        raise DataError(
            f"the labels of these {counted(len(scenes), 'scene')} hold {there} alone, so nothing can be told apart: "
            "choose more scenes, or --by localization"
        )
    if absent and by == "official":
        do = "does" if len(absent) == 1 else "do"
        warnings.warn(
            f"{', '.join(absent)} {do} not occur in these scenes, where the official score is almost 0 whatever is "
            "chosen: tuned by the score over the classes that occur",
            DataWarning,
            stacklevel=3,
        )
        return "present"
    return by


def _changes(card: BaseCard, choice: Choice, *, damage: bool) -> dict[str, Any]:
    """The entries of the card that the choice changes."""
    if len(set(choice.thresholds)) == 1:
        changes: dict[str, Any] = {"building_threshold": choice.thresholds[0], "class_thresholds": None}
    else:
        changes = {"class_thresholds": choice.thresholds}
    if damage:
        factors = np.array(card.damage_weights or (1.0,) * len(choice.weights)) * np.array(choice.weights)
        changes["damage_weights"] = tuple(round(float(w), 4) for w in factors / factors[0])
    return changes


def _figures(scores: PixelScores, *, damage: bool) -> dict[str, float]:
    figures = {"localization_f1": scores.localization_f1}
    if damage:
        figures |= {"score": scores.score, "score_present": scores.score_present}
        figures |= {f"f1_{name}": value for name, value in scores.damage_f1_per_class.items()}
    return figures


def choose_gate_threshold(
    model: str | Path,
    scenes: Sequence[Scene],
    *,
    lose: float,
    min_pixels: int,
    options: Options | None = None,
    on_scene: Callable[[], None] | None = None,
) -> GateChoice:
    """The largest threshold at which a model as a gate costs at most a share of the buildings' pixels.

    Args:
        model: a localization model of one date.
        scenes: labelled ones, which must not be those that will judge the gated model.
        lose: share of the labelled building pixels that may lie in windows taken as empty.
        min_pixels: windows with fewer pixels above the threshold are empty.
        options: how the model is run.
        on_scene: called after every scene.

    Raises:
        ModelError: it cannot be a gate, or sees nothing where buildings are.
        DataError: no building is labelled.
    """
    predictor = None if is_ensemble(model) else open_predictor(model, options)
    if not isinstance(predictor, Predictor) or predictor.dates != 1 or len(predictor.card.classes) != 2:
        raise ModelError(f"{model} cannot be a gate: expected a localization model of one date")
    return choose_gate(predictor, scenes, lose=lose, min_pixels=min_pixels, on_scene=on_scene)
