"""What a model that learns classes in steps keeps and takes up: old and new classes, forgetting, intransigence."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np

from aftermap.scoring.class_scores import ClassScores, Confusion
from aftermap.scoring.counts import plain

AVERAGES = ("old", "new", "all", "all_with_background", "micro_f1", "micro_f1_without_background")


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Means over those classes of a group that have support; NaN where none has, or the group is empty."""

    iou: float
    f1: float


@dataclass(frozen=True, slots=True)
class StepScores:
    """The model after one step, on the test set.

    Attributes:
        step: from 0.
        learned: names of the classes new in this step.
        scores: of all its classes, channel 0 the background.
        old: the classes of earlier steps.
        new: the classes of this step.
        all: both.
        all_with_background: both and the background.
        initial: the classes of step 0.
        added: the classes of all later steps up to this one.
        forgetting: by class of earlier steps, its best IoU after an earlier step minus the one now; NaN without
            support. Below 0 where a class became better.
        mean_forgetting: over those classes; NaN in step 0.
        intransigence: by class of this step, the IoU of joint training minus the one now. Empty without a joint model.
        mean_intransigence: over those classes.
    """

    step: int
    learned: tuple[str, ...]
    scores: ClassScores
    old: GroupScores
    new: GroupScores
    all: GroupScores
    all_with_background: GroupScores
    initial: GroupScores
    added: GroupScores
    forgetting: Mapping[str, float]
    mean_forgetting: float
    intransigence: Mapping[str, float]
    mean_intransigence: float

    @property
    def micro_f1(self) -> float:
        """Share of pixels predicted rightly, the background counted."""
        return self.scores.micro.f1

    @property
    def micro_f1_without_background(self) -> float:
        """F1 of the other classes' counts together."""
        return self.scores.micro_without_background.f1

    def as_dict(self) -> dict[str, Any]:
        """For JSON; None where nothing could be measured."""
        groups = ("old", "new", "all", "all_with_background", "initial", "added")
        tree: dict[str, Any] = {"step": self.step, "learned": self.learned}
        for name in groups:
            group: GroupScores = getattr(self, name)
            tree[name] = {"iou": group.iou, "f1": group.f1}
        for name in ("forgetting", "mean_forgetting", "intransigence", "mean_intransigence"):
            value = getattr(self, name)
            tree[name] = dict(value) if isinstance(value, Mapping) else value
        result: dict[str, Any] = plain(tree)
        return result | {"scores": self.scores.as_dict()}


@dataclass(frozen=True, slots=True)
class ContinualScores:
    """A run over all its steps.

    Attributes:
        names: the classes in order of channel, the background first.
        heads: channels that each step added; the background is in the first. 0 in all later ones where these add places.
        steps: in order; there may be fewer than heads while a run goes on.
        joint: scores of the model that learned all classes together, in the same order, or None.
        compat_macro: whether classes without support count in the macro averages, as 0.
    """

    names: tuple[str, ...]
    heads: tuple[int, ...]
    steps: tuple[StepScores, ...]
    joint: ClassScores | None = None
    compat_macro: bool = False

    @classmethod
    def of(
        cls,
        confusions: Sequence[Confusion],
        *,
        names: Sequence[str],
        heads: Sequence[int],
        joint: Confusion | None = None,
        compat_macro: bool = False,
    ) -> Self:
        """Measure a run.

        Args:
            confusions: of the test set after each step, over the classes seen by then.
            names: all classes in order of channel, the background first.
            heads: channels that each step added.
            joint: of the model that learned all classes together, over all of them in the order of `names`.
            compat_macro: see `ClassScores.of`.

        Raises:
            ValueError: no step, more steps than heads, or a number of classes that does not fit.
        """
        names, heads = tuple(names), tuple(heads)
        seen = tuple(accumulate(heads))
        least = 1 if any(heads[1:]) else 0
        if sum(heads) != len(names) or min(heads, default=0) < least or heads[0] < 2:
            raise ValueError(f"heads {list(heads)} do not make the {len(names)} channels {', '.join(names)}")
        if not 1 <= len(confusions) <= len(heads):
            raise ValueError(f"{len(confusions)} confusion matrices, expected 1 to {len(heads)}")
        for step, (confusion, channels) in enumerate(zip(confusions, seen, strict=False)):
            if confusion.classes != channels:
                raise ValueError(
                    f"the confusion matrix after step {step} has {confusion.classes} classes, expected {channels}"
                )
        if joint is not None and joint.classes != len(names):
            raise ValueError(f"the joint confusion matrix has {joint.classes} classes, expected {len(names)}")
        bound = None if joint is None else ClassScores.of(joint, names=names, compat_macro=compat_macro)
        scores = [
            ClassScores.of(confusion, names=names[: confusion.classes], compat_macro=compat_macro)
            for confusion in confusions
        ]
        steps = tuple(_step(step, scores, heads, bound) for step in range(len(scores)))
        return cls(names, heads, steps, bound, compat_macro)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """The run that `as_dict` described, measured again from its matrices.

        Raises:
            ValueError: it describes none.
        """
        try:
            confusions = [Confusion.of(step["scores"]["confusion"]) for step in tree["steps"]]
            joint = None if tree["joint"] is None else Confusion.of(tree["joint"]["confusion"])
            return cls.of(
                confusions,
                names=tree["names"],
                heads=tree["heads"],
                joint=joint,
                compat_macro=tree["compat_macro"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"these are no scores of an incremental run: {error}") from None

    @property
    def final(self) -> StepScores:
        """After the last step there is."""
        return self.steps[-1]

    @property
    def is_complete(self) -> bool:
        """Whether every step has been measured."""
        return len(self.steps) == len(self.heads)

    @property
    def average(self) -> dict[str, float]:
        """Means over the steps of IoU by group (`old` from step 1 on) and of both micro F1."""
        return {name: _mean(_value(step, name) for step in self.steps) for name in AVERAGES}

    @property
    def forgetting(self) -> float:
        """Mean forgetting after the last step."""
        return self.final.mean_forgetting

    @property
    def intransigence(self) -> float:
        """Mean over all classes, each measured right after its step."""
        return _mean(value for step in self.steps for value in step.intransigence.values())

    def iou(self, name: str) -> list[float]:
        """IoU of a class after each step, NaN before it was learned or where it has no support."""
        index = self.names.index(name)
        return [_supported(step.scores, index) for step in self.steps]

    def learned_at(self, name: str) -> int:
        """The step in which a class was learned."""
        index = self.names.index(name)
        return next(step for step, seen in enumerate(accumulate(self.heads)) if index < seen)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; None where nothing could be measured. `from_dict` reads it."""
        return {
            "names": list(self.names),
            "heads": list(self.heads),
            "steps": [step.as_dict() for step in self.steps],
            "average": plain(self.average),
            "forgetting": plain(self.forgetting),
            "intransigence": plain(self.intransigence),
            "joint": None if self.joint is None else self.joint.as_dict(),
            "compat_macro": self.compat_macro,
        }


def group(scores: ClassScores, classes: Sequence[int]) -> GroupScores:
    """Means over some classes, by index."""
    mean = scores.mean(classes)
    return GroupScores(iou=mean.iou, f1=mean.f1)


def _step(
    step: int, scores: Sequence[ClassScores], heads: Sequence[int], joint: ClassScores | None
) -> StepScores:
    now = scores[step]
    seen = [0, *accumulate(heads)]
    first, stop = max(seen[step], 1), seen[step + 1]
    old, new = list(range(1, first)), list(range(first, stop))
    forgetting = {}
    for index in old:
        before = [_supported(past, index) for past in scores[:step] if index < len(past.names)]
        best = max((value for value in before if not math.isnan(value)), default=math.nan)
        forgetting[now.names[index]] = best - _supported(now, index)
    intransigence = {}
    if joint is not None:
        for index in new:
            intransigence[now.names[index]] = _supported(joint, index) - _supported(now, index)
    initial = list(range(1, seen[1]))
    return StepScores(
        step=step,
        learned=now.names[first:stop],
        scores=now,
        old=group(now, old),
        new=group(now, new),
        all=group(now, old + new),
        all_with_background=group(now, [0, *old, *new]),
        initial=group(now, initial),
        added=group(now, [index for index in old + new if index not in initial]),
        forgetting=forgetting,
        mean_forgetting=_mean(forgetting.values()),
        intransigence=intransigence,
        mean_intransigence=_mean(intransigence.values()),
    )


def _supported(scores: ClassScores, index: int) -> float:
    """IoU of a class; NaN where it is not among the classes or has no support."""
    if index >= len(scores.names) or not scores.support[index]:
        return math.nan
    return scores.iou[index]


def _value(step: StepScores, name: str) -> float:
    value = getattr(step, name)
    return value.iou if isinstance(value, GroupScores) else float(value)


def _mean(values: Iterable[float]) -> float:
    """Mean of the numbers among some values, NaN for none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
