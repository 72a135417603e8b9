"""Guard rails of learning without labels: what speaks for a model, and whether a student may replace its teacher."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field

from aftermap.classes import DAMAGE
from aftermap.config import Config
from aftermap.data.scene import Scene, has_labels, read_images
from aftermap.errors import DataError
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.inference.view_agreement import Decided, Shown, ViewAgreement, decided_pixels
from aftermap.scoring.counts import plain
from aftermap.workflows.scoring.evaluate import decide, decisive_score, evaluate, spread


class GuardConfig(Config):
    """When a student is kept.

    Attributes:
        labels: score by the labels of the scenes that have them; False looks at the agreement between views only.
        scenes: at most this many scenes are looked at, spread evenly; 0 looks at all.
        views: see `view_agreement.Shown`; fewer take less time.
        min_gain: least gain of the score for the student to be kept.
        class_loss: a class whose own score falls by more is not accepted.
        agreement_loss: without labels, the most that the agreement between views may fall.
        share_factor: without labels, the most that the share of a class may grow or shrink, as a factor of the
            teacher's: a model that has collapsed to one class agrees with itself perfectly.
        least_share: a class that grows is judged from this share of the pixels on: growth from less is no collapse.
        rare_share: a class that shrinks is judged where the teacher gave it at least this share; a few houses of a town
            are a class, and a student that no longer sees them has lost it.
        confident: pixels where the teacher's likeliest class has at least this probability are those that a student
            should not contradict.
        contradiction: without labels, the largest share of the teacher's confident buildings and of its confident
            background that the student may contradict.
    """

    labels: bool = True
    scenes: int = Field(default=16, ge=0)
    views: tuple[Shown, ...] = Field(default=("mirror", "scale", "haze"), min_length=1)
    min_gain: float = 0.0
    class_loss: float = Field(default=0.05, ge=0)
    agreement_loss: float = Field(default=0.05, ge=0)
    share_factor: float = Field(default=3.0, gt=1)
    least_share: float = Field(default=5e-4, ge=0)
    rare_share: float = Field(default=2e-5, ge=0)
    confident: float = Field(default=0.9, gt=0, le=1)
    contradiction: float = Field(default=0.1, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a model.

    Attributes:
        source: `labels`, or the model's answers to several `views` of the scenes.
        score: higher is better, 0 to 1. Against labels: 0.3 of the buildings' F1 and 0.7 of the mean F1 of the damage
            classes that occur, or the buildings' F1 alone where there is no damage. Without labels: the information in
            the answers, see `view_agreement.Agreement`; on events whose truth is known it rose where the truth did more
            reliably than the agreement between views, which any training for consistency raises.
        per_class: F1 of `building` and of each damage class, against labels or between views; NaN where nothing could
            be measured.
        shares: share of all pixels that the model gives to `building` and to each damage class.
        scenes: how many were looked at.
        details: further measures, for reports; without labels, `agreement` is the views' F1, classes weighed as above.
    """

    source: Literal["labels", "views"]
    score: float
    per_class: dict[str, float]
    shares: dict[str, float]
    scenes: int
    details: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be measured is null."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Evidence":
        """What `as_dict` gave."""

        def known(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: known(inner) for name, inner in value.items()}
            return math.nan if value is None else value

        return cls(**{name: known(value) for name, value in values.items()})


@dataclass(frozen=True, slots=True)
class ClassVerdict:
    """A class in both models.

    Attributes:
        before, after: its score.
        accepted: whether the student may be believed about it.
        reason: why not; empty where it is accepted.
    """

    before: float
    after: float
    accepted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of the two models is to be used.

    Attributes:
        kept: whose weights.
        reason: in words.
        classes: by name.
    """

    kept: Literal["teacher", "student"]
    reason: str
    classes: dict[str, ClassVerdict]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        classes = {
            name: {
                key: plain(value) if isinstance(value, float) else value for key, value in asdict(v).items()
            }
            for name, v in self.classes.items()
        }
        return {"kept": self.kept, "reason": self.reason, "classes": classes}


def gather_evidence(
    predictor: AnyPredictor,
    scenes: Sequence[Scene],
    config: GuardConfig,
    *,
    teacher: AnyPredictor | None = None,
) -> Evidence:
    """What speaks for a model on some scenes: labels where some have them, else its answers to views of the scenes.

    Args:
        predictor: the model.
        scenes: those to look at; with labels, only those that have them.
        config: how.
        teacher: without labels, the model that it came from; `details` then says how much of the teacher's confident
            pixels it contradicts.

    Raises:
        DataError: there is no scene.
    """
    if not scenes:
        raise DataError("no scenes to judge a model by: give the guard some, labelled or not")
    damage = predictor.card.scheme == DAMAGE.name
    labelled = [s for s in scenes if has_labels(s, "damage" if damage else "building")]
    if config.labels and labelled:
        return _by_labels(predictor, spread(labelled, config.scenes))
    return _by_views(predictor, spread(scenes, config.scenes), config, teacher)


def judge(before: Evidence, after: Evidence, config: GuardConfig) -> Verdict:
    """Whether a student replaces its teacher.

    Args:
        before: what speaks for the teacher.
        after: the same of the student, from the same scenes and source.
        config: margins.

    Raises:
        ValueError: the two were not measured alike.
    """
    if before.source != after.source:
        raise ValueError(
            f"evidence from {before.source} cannot be compared with evidence from {after.source}"
        )
    classes = {
        name: _judge_class(name, before, after, config)
        for name in before.per_class
        if math.isfinite(before.per_class[name]) or math.isfinite(after.per_class[name])
    }
    gain = after.score - before.score
    change = f"{_MEASURES[before.source]} went from {before.score:.4f} to {after.score:.4f}"
    if not gain >= config.min_gain:
        wanted = f", at least {config.min_gain:+.4f} is asked for" if config.min_gain else ""
        return Verdict("teacher", f"no gain: the {change}{wanted}", classes)
    if before.source == "views":
        old, new = (found.details.get("agreement", 0.0) for found in (before, after))
        if old - new > config.agreement_loss:
            reason = f"unsteady: the agreement between views fell from {old:.4f} to {new:.4f}"
            return Verdict("teacher", reason, classes)
        collapse = [f"{v.reason}" for v in classes.values() if v.reason.startswith(_COLLAPSED)]
        if collapse:
            return Verdict("teacher", collapse[0], classes)
        denied = after.details.get("contradicted", 0.0)
        if denied > config.contradiction:
            reason = (
                f"contradicts {denied:.1%} of what the teacher is sure of, at most {config.contradiction:.1%} "
                "may be"
            )
            return Verdict("teacher", reason, classes)
    said = "gain" if gain > 0 else "no worse than asked for"
    return Verdict("student", f"{said}: the {change}", classes)


_MEASURES = {"labels": "score against labels", "views": "information in the answers"}
_COLLAPSED = "collapse: "


def _judge_class(name: str, before: Evidence, after: Evidence, config: GuardConfig) -> ClassVerdict:
    """Whether a class may be believed."""
    old, new = before.per_class[name], after.per_class.get(name, math.nan)
    reason = ""
    if before.source == "views":
        reason = _moved(name, before.shares.get(name, 0.0), after.shares.get(name, 0.0), config)
    if not reason and old - new > config.class_loss:
        reason = f"{name} fell from {old:.3f} to {new:.3f}"
    return ClassVerdict(old, new, not reason, reason)


def _moved(name: str, old: float, new: float, config: GuardConfig) -> str:
    """What is wrong with the share of a class; empty if nothing is."""
    found = f"{_COLLAPSED}the share of {name} went from {old:.4%} to {new:.4%}"
    if new > config.share_factor * max(old, config.least_share):
        return f"{found}, more than {config.share_factor:g} times the teacher's"
    if old < config.rare_share:
        return ""
    if new == 0:
        return f"{found}: it vanished"
    if old > config.share_factor * new:
        return f"{found}, less than 1/{config.share_factor:g} of the teacher's"
    return ""


def _by_labels(predictor: AnyPredictor, scenes: Sequence[Scene]) -> Evidence:
    """Scores against labels."""
    decision = Decision.of(predictor.card)
    names = predictor.card.classes.names
    pixels, shares = 0, dict.fromkeys(("building", *(names[1:] if len(names) > 2 else ())), 0.0)

    def count(scene: Scene, images: np.ndarray, probabilities: np.ndarray) -> None:
        nonlocal pixels
        pixels += probabilities[0].size
        for name, number in decided_pixels(decide(probabilities, decision), names).items():
            shares[name] += number

    report = evaluate(predictor, scenes, on_scene=count).report
    scores, buildings = report.pixels, report.buildings
    per_class = {"building": scores.localization_f1}
    details = {"buildings_found_f1": buildings.localization_f1}
    if len(names) > 2:
        per_class |= {
            name: math.nan if name in scores.absent_classes else value
            for name, value in scores.damage_f1_per_class.items()
        }
        details |= {"official_score": scores.score, "building_macro_f1": buildings.macro_f1}
    shares = {name: number / pixels for name, number in shares.items()}
    return Evidence("labels", decisive_score(scores), per_class, shares, len(scenes), details)


def _by_views(
    predictor: AnyPredictor, scenes: Sequence[Scene], config: GuardConfig, teacher: AnyPredictor | None
) -> Evidence:
    """Agreement between views."""
    decided = partial(decide, decision=Decision.of(predictor.card))
    views = ViewAgreement(predictor, decided, config.views)
    contradicted = None if teacher is None else _Contradicted(teacher, config.confident)
    for scene in scenes:
        images = read_images(scene, dates=predictor.dates)
        probabilities = views.add(images)
        if contradicted is not None:
            contradicted.add(images, decided(probabilities))
    found = views.result()
    occurring = [value for value in found.classes.values() if math.isfinite(value)]
    agreement = 0.3 * found.building + 0.7 * statistics.fmean(occurring) if occurring else found.building
    details = {"agreement": agreement, "entropy": found.entropy}
    if contradicted is not None:
        details["contradicted"] = contradicted.result()
    per_class = {"building": found.building} | found.classes
    return Evidence("views", found.information, per_class, found.shares, found.scenes, details)


class _Contradicted:
    """Share of a teacher's confident pixels, the mean of its buildings' and its background's, told otherwise."""

    def __init__(self, teacher: AnyPredictor, confident: float) -> None:
        self._teacher, self._confident = teacher, confident
        self._counts = np.zeros((2, 2), np.int64)  # background or building, agreed or not

    def add(self, images: np.ndarray, decided: Decided) -> None:
        """Count a scene."""
        building = 1 - predict_scene(self._teacher, images)[0]
        sure = (1 - building >= self._confident, building >= self._confident)
        for kind, where in enumerate(sure):
            wrong = int(np.count_nonzero((decided[0] > 0)[where] != bool(kind)))
            self._counts[kind] += int(np.count_nonzero(where)) - wrong, wrong

    def result(self) -> float:
        """The share; 0 where the teacher is sure of nothing."""
        totals = self._counts.sum(axis=1)
        shares = [wrong / total for wrong, total in zip(self._counts[:, 1], totals, strict=True) if total]
        return float(np.mean(shares)) if shares else 0.0
