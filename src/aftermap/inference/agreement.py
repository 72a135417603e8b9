"""What two models make of the same pixels: differences of probabilities, and decisions class by class."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from aftermap.artefacts.exported import Precision
from aftermap.classes import IGNORE, ClassScheme
from aftermap.config import Config
from aftermap.scoring.class_scores import Confusion
from aftermap.scoring.counts import plain
from aftermap.scoring.pixels import Score

Decided = tuple[np.ndarray, np.ndarray | None]
"""Building 0/1 and damage 0 to 4 (H, W); no damage where a model only finds buildings."""

_STEPS = 1 << 16  # of the histogram of differences; a quantile is rounded up to one of them


class Budget(Config):
    """How far an exported model may be from its original.

    The difference of a pixel is the largest over its classes.

    Attributes:
        difference_max: of any pixel.
        quantile: share of the pixels that `difference_quantile` holds for.
        difference_quantile: of that share of the pixels.
        difference_mean: mean over the pixels.
        agreement: least share of pixels that get the same class.
        f1_loss: what the F1 of a class, or of buildings, may lose against the labels.
        f1_agreement: least F1 of the exported decisions against the original's, for classes that the labels
            show too little of to judge.
        least_px: classes with fewer pixels than this are reported and not judged.
    """

    difference_max: float = Field(ge=0, le=1)
    quantile: float = Field(default=0.999, gt=0, le=1)
    difference_quantile: float = Field(ge=0, le=1)
    difference_mean: float = Field(ge=0, le=1)
    agreement: float = Field(ge=0, le=1)
    f1_loss: float = Field(ge=0, le=1)
    f1_agreement: float = Field(ge=0, le=1)
    least_px: int = Field(default=2000, ge=1)

    @classmethod
    def of(cls, precision: Precision) -> "Budget":
        """What is allowed by default for a precision."""
        return _BUDGETS[precision]


_BUDGETS: dict[Precision, Budget] = {
    "fp32": Budget(
        difference_max=0.01,
        difference_quantile=0.001,
        difference_mean=0.0001,
        agreement=0.9999,
        f1_loss=0.001,
        f1_agreement=0.999,
    ),
    "fp16": Budget(
        difference_max=0.2,
        difference_quantile=0.02,
        difference_mean=0.002,
        agreement=0.999,
        f1_loss=0.005,
        f1_agreement=0.99,
    ),
    "int8": Budget(
        difference_max=1.0,
        difference_quantile=0.3,
        difference_mean=0.02,
        agreement=0.98,
        f1_loss=0.015,
        f1_agreement=0.85,
    ),
}


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class in both models.

    Attributes:
        name: of the class.
        original: F1 of the original against the labels; NaN without labels.
        exported: the same of the exported model.
        agreement: F1 of the exported model against the original's decisions.
        labelled_px: pixels of the class in the labels.
        decided_px: pixels of the class in the original's decisions.
    """

    name: str
    original: float
    exported: float
    agreement: float
    labelled_px: int
    decided_px: int

    def as_dict(self, *, judged: bool) -> dict[str, Any]:
        """Plain values."""
        values = {
            "f1_original": self.original,
            "f1_exported": self.exported,
            "f1_change": self.exported - self.original,
            "labelled_px": self.labelled_px,
            "f1_against_original": self.agreement,
            "decided_px": self.decided_px,
            "judged": judged,
        }
        return {name: plain(value) for name, value in values.items()}

    def fall(self, budget: Budget) -> float | None:
        """How many times the allowed loss was lost; None where there are too few pixels to judge."""
        if self.labelled_px >= budget.least_px:
            lost, allowed = self.original - self.exported, budget.f1_loss
        elif self.decided_px >= budget.least_px:
            lost, allowed = 1 - self.agreement, 1 - budget.f1_agreement
        else:
            return None
        if lost <= 0:
            return 0.0
        return lost / allowed if allowed > 0 else math.inf

    def sentence(self, budget: Budget) -> str:
        """What happened to the class."""
        if self.labelled_px >= budget.least_px:
            return (
                f"{self.name} fell from F1 {self.original:.4f} to {self.exported:.4f}, "
                f"a loss of {self.original - self.exported:.4f} where {budget.f1_loss:g} is allowed"
            )
        return (
            f"{self.name} agrees with the original only to F1 {self.agreement:.4f} "
            f"where {budget.f1_agreement:g} is the least"
        )


class Differences:
    """Differences of probabilities, pooled over pixels."""

    def __init__(self) -> None:
        self.pixels = 0
        self.largest = self.total = 0.0
        self.histogram = np.zeros(_STEPS + 1, np.int64)

    def add(self, original: np.ndarray, exported: np.ndarray) -> None:
        """Count a scene: probabilities (K, H, W) of both."""
        difference = np.abs(original - exported).max(axis=0)
        self.pixels += difference.size
        self.total += float(difference.sum(dtype=np.float64))
        self.largest = max(self.largest, float(difference.max()))
        steps = np.ceil(np.minimum(difference, 1) * np.float32(_STEPS)).astype(np.int64)
        self.histogram += np.bincount(steps.ravel(), minlength=_STEPS + 1)

    def quantile(self, share: float) -> float:
        """The difference that `share` of the pixels do not exceed, rounded up to 1/65536."""
        reached = int(np.searchsorted(self.histogram.cumsum(), math.ceil(share * self.pixels)))
        return min(reached / _STEPS, self.largest)


class Decisions:
    """Agreement of decisions, and scores by class: buildings as a whole, then the classes of damage."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = ("building", *(names[1:] if len(names) > 2 else ()))
        self.scenes = self.labelled_scenes = 0
        self.same = self.built = self.built_same = 0
        self._labelled_px = np.zeros(len(self.names), np.int64)
        self._decided_px = np.zeros(len(self.names), np.int64)
        self._original, self._exported, self._agreed = Score(), Score(), Score()

    def add(self, name: str, original: Decided, exported: Decided, truth: Decided | None) -> None:
        """Count a scene.

        Args:
            name: of the scene.
            original: building and damage (H, W) as the original decided them.
            exported: the same of the exported model.
            truth: the labels, where there are any.
        """
        before, after = (building if damage is None else damage for building, damage in (original, exported))
        same, built = before == after, (before > 0) | (after > 0)
        self.same += int(same.sum())
        self.built += int(built.sum())
        self.built_same += int((same & built).sum())
        scene = f"{self.scenes} {name}"
        self._agreed.add(*exported, *original, event="", scene=scene)
        self._decided_px += self._pixels(*original)
        self.scenes += 1
        if truth is None:
            return
        self._original.add(*original, *truth, event="", scene=scene)
        self._exported.add(*exported, *truth, event="", scene=scene)
        self._labelled_px += self._pixels(*truth)
        self.labelled_scenes += 1

    def changes(self) -> list[ClassChange]:
        """What became of every class."""
        scores = [_by_class(score, self.names) for score in (self._original, self._exported, self._agreed)]
        pixels = [self._labelled_px.tolist(), self._decided_px.tolist()]
        columns = zip(self.names, *scores, *pixels, strict=True)
        return [ClassChange(*column) for column in columns]

    def _pixels(self, building: np.ndarray, damage: np.ndarray | None) -> np.ndarray:
        """Pixels of building and of the classes."""
        counts = [int((building == 1).sum())]
        if len(self.names) > 1:
            counts += [0 if damage is None else int((damage == k).sum()) for k in range(1, len(self.names))]
        return np.array(counts, np.int64)


def _by_class(score: Score, names: tuple[str, ...]) -> list[float]:
    """F1 of buildings and of the damage classes; NaN where nothing was scored."""
    if not len(score):
        return [math.nan] * len(names)
    result = score.result(bootstrap=0)
    return [result.localization_f1, *(result.damage_f1_per_class[name] for name in names[1:])]


def lookup_between(dataset: ClassScheme, model: ClassScheme) -> np.ndarray:
    """The model's index of each of a dataset's classes, by their names, as a table uint8 (256,).

    What the model has no class for is unknown (IGNORE). The dataset's background is the model's, whatever their names.
    """
    table = np.full(256, IGNORE, np.uint8)
    for index, name in enumerate(dataset.names):
        if name in model.names:
            table[index] = model.names.index(name)
    if dataset.background is not None and model.background is not None:
        table[dataset.background] = model.background
    return table


class ClassDecisions:
    """Agreement of decisions, and F1 by class, over scenes; every class counts, the background too."""

    def __init__(self, scheme: ClassScheme) -> None:
        self._names = scheme.names
        self.scenes = self.labelled_scenes = 0
        self.same = self.built = self.built_same = 0
        self._background = -1 if scheme.background is None else scheme.background
        self._original, self._exported, self._agreed = (Confusion(len(scheme)) for _ in range(3))

    def add(self, original: np.ndarray, exported: np.ndarray, truth: np.ndarray | None) -> None:
        """Count a scene: class indices (H, W) of both models, and the labels where there are any."""
        same, built = original == exported, (original != self._background) | (exported != self._background)
        self.same += int(same.sum())
        self.built += int(built.sum())
        self.built_same += int((same & built).sum())
        self._agreed.add(original, exported)
        self.scenes += 1
        if truth is None or (truth == IGNORE).all():
            return
        self._original.add(truth, original)
        self._exported.add(truth, exported)
        self.labelled_scenes += 1

    def changes(self) -> list[ClassChange]:
        """What became of every class."""
        scores = [_f1(found.matrix) for found in (self._original, self._exported, self._agreed)]
        pixels = [found.matrix.sum(axis=1).tolist() for found in (self._original, self._agreed)]
        return [ClassChange(*column) for column in zip(self._names, *scores, *pixels, strict=True)]


def _f1(matrix: np.ndarray) -> list[float]:
    """F1 of every class of a confusion matrix; NaN where it is in neither."""
    hits, total = np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1)
    return [2 * int(h) / int(t) if t else math.nan for h, t in zip(hits, total, strict=True)]
