"""Scores of a map of many classes: a confusion matrix of pixels, and F1, IoU, precision and recall from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from aftermap.classes import IGNORE
from aftermap.scoring.counts import plain
from aftermap.wording import counted

_EPSILON = 1.1920929e-07  # of float32: what the original adds to every denominator


class Confusion:
    """Pixel counts (C, C), rows truth and columns prediction; unknown pixels of the truth take no part."""

    def __init__(self, classes: int) -> None:
        """Start with no pixel.

        Raises:
            ValueError: fewer than one class, or more than an 8-bit mask can name.
        """
        if not 1 <= classes <= IGNORE:
            raise ValueError(f"{counted(classes, 'class', 'classes')}, expected 1 to {IGNORE}")
        self._matrix = np.zeros((classes, classes), np.int64)

    @classmethod
    def of(cls, matrix: np.ndarray | Sequence[Sequence[int]]) -> Self:
        """The counts of a matrix (C, C).

        Raises:
            ValueError: it is not square, or holds something other than whole numbers from 0 on.
        """
        counts = np.asarray(matrix)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
            raise ValueError(f"a confusion matrix of shape {counts.shape}, expected a square one")
        if counts.dtype.kind not in "ui" or counts.min() < 0:
            raise ValueError("a confusion matrix holds counts of pixels, whole numbers from 0 on")
        confusion = cls(len(counts))
        confusion._matrix += counts.astype(np.int64)
        return confusion

    @property
    def classes(self) -> int:
        """C, the background included."""
        return len(self._matrix)

    @property
    def matrix(self) -> np.ndarray:
        """int64 (C, C), a copy."""
        return self._matrix.copy()

    @property
    def pixels(self) -> int:
        """Pixels that were counted."""
        return int(self._matrix.sum())

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Count pixels.

        Args:
            truth: integer class indices of any shape; IGNORE takes no part.
            predicted: of the same shape; looked at where the truth is known.

        Raises:
            ValueError: shapes differ, or a value is no class.
        """
        if np.shape(truth) != np.shape(predicted):
            raise ValueError(
                f"prediction of shape {np.shape(predicted)}, expected the truth's {np.shape(truth)}"
            )
        known = truth != IGNORE
        rows, cols = truth[known].astype(np.int64), predicted[known].astype(np.int64)
        for name, values in (("truth", rows), ("prediction", cols)):
            if values.size and not 0 <= values.min() <= values.max() < self.classes:
                wrong = values.max() if values.max() >= self.classes else values.min()
                raise ValueError(f"the {name} holds {wrong}, expected 0 to {self.classes - 1}")
        counts = np.bincount(rows * self.classes + cols, minlength=self.classes**2)
        self._matrix += counts.reshape(self._matrix.shape)

    def merge(self, other: "Confusion") -> None:
        """Add the counts of another one with as many classes.

        Raises:
            ValueError: it has another number of classes.
        """
        if other.classes != self.classes:
            raise ValueError(
                f"{counted(other.classes, 'class', 'classes')} cannot be added to {self.classes}"
            )
        self._matrix += other._matrix


@dataclass(frozen=True, slots=True)
class Averages:
    """One figure of each kind for several classes; NaN where nothing could be measured."""

    f1: float
    iou: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of pooled pixels.

    A class without support (no pixel of the truth) takes no part in macro averages. Its own figures are 0 where it
    was predicted and NaN where it was not.

    Attributes:
        names: the classes, in order of index.
        background: index of the class that means "nothing of these", or None.
        support: pixels of the truth by class.
        pixels: their sum.
        accuracy: share of them that were predicted rightly.
        f1: by class; so are `iou`, `precision` and `recall`.
        micro: of all classes' counts together: F1, precision and recall are the accuracy.
        macro: means over the classes.
        micro_without_background: of the other classes' counts together.
        macro_without_background: means over the other classes.
        confusion: (C, C) pixel counts, rows truth and columns prediction.
    """

    names: tuple[str, ...]
    background: int | None
    support: tuple[int, ...]
    pixels: int
    accuracy: float
    f1: tuple[float, ...]
    iou: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    micro: Averages
    macro: Averages
    micro_without_background: Averages
    macro_without_background: Averages
    confusion: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls,
        confusion: Confusion,
        *,
        names: Sequence[str] | None = None,
        background: int | None = 0,
        compat_macro: bool = False,
    ) -> Self:
        """Scores of a confusion matrix.

        Args:
            confusion: the counts.
            names: one per class; their numbers where None.
            background: index of the background, None where every class is a real one.
            compat_macro: score classes without support as 0 and count them in macro averages, with the original's
                small number under every fraction.

        Raises:
            ValueError: names and classes differ in number, or the background is no class.
        """
        classes = confusion.classes
        names = tuple(str(index) for index in range(classes)) if names is None else tuple(names)
        if len(names) != classes:
            raise ValueError(f"{len(names)} names for {classes} classes")
        if background is not None and not 0 <= background < classes:
            raise ValueError(f"background {background} is not among the classes 0 to {classes - 1}")
        matrix = confusion.matrix
        tp = matrix.diagonal()
        fp, fn = matrix.sum(axis=0) - tp, matrix.sum(axis=1) - tp
        figures = np.stack(
            [_figures(*counts, compat=compat_macro) for counts in zip(tp, fp, fn, strict=True)]
        )
        support = matrix.sum(axis=1)
        counted = np.full(classes, True) if compat_macro else support > 0
        foreground = np.arange(classes) != (-1 if background is None else background)
        micro = [
            _figures(tp[of].sum(), fp[of].sum(), fn[of].sum(), compat=compat_macro)
            for of in (..., foreground)
        ]
        macro = [_mean(figures[of]) for of in (counted, counted & foreground)]
        f1, iou, precision, recall = (tuple(float(value) for value in column) for column in figures.T)
        return cls(
            names=names,
            background=background,
            support=tuple(int(n) for n in support),
            pixels=confusion.pixels,
            accuracy=float(tp.sum() / confusion.pixels) if confusion.pixels else math.nan,
            f1=f1,
            iou=iou,
            precision=precision,
            recall=recall,
            micro=Averages(*map(float, micro[0])),
            macro=Averages(*map(float, macro[0])),
            micro_without_background=Averages(*map(float, micro[1])),
            macro_without_background=Averages(*map(float, macro[1])),
            confusion=tuple(tuple(int(n) for n in row) for row in matrix),
        )

    def mean(self, classes: Sequence[int]) -> Averages:
        """Means over those of the given classes (indices) that have support; NaN where none has."""
        used = [index for index in classes if self.support[index]]
        columns = (self.f1, self.iou, self.precision, self.recall)
        return Averages(*(float(np.mean([c[i] for i in used])) if used else math.nan for c in columns))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: averages, a table by class, the matrix; None where nothing could be measured."""
        averages = ("micro", "macro", "micro_without_background", "macro_without_background")
        by_class = {
            name: {
                "pixels": self.support[index],
                "f1": self.f1[index],
                "iou": self.iou[index],
                "precision": self.precision[index],
                "recall": self.recall[index],
            }
            for index, name in enumerate(self.names)
        }
        tree = {
            "pixels": self.pixels,
            "accuracy": self.accuracy,
            **{name: _tree(getattr(self, name)) for name in averages},
            "classes": by_class,
            "background": self.background,
            "confusion": self.confusion,
        }
        result: dict[str, Any] = plain(tree)
        return result


def _figures(tp: int, fp: int, fn: int, *, compat: bool) -> tuple[float, float, float, float]:
    """F1, IoU, precision and recall; NaN without a pixel in truth or prediction, unless `compat`.

    Source: the original's metrics under `compat`: F1 of precision and recall, float32's epsilon in denominators.
    """
    if compat:
        precision, recall = tp / (tp + fp + _EPSILON), tp / (tp + fn + _EPSILON)
        f1 = 2 * precision * recall / (precision + recall + _EPSILON)
        return f1, tp / (tp + fp + fn + _EPSILON), precision, recall
    if not tp + fp + fn:
        return math.nan, math.nan, math.nan, math.nan
    return 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn), tp / max(tp + fp, 1), tp / max(tp + fn, 1)


def _mean(figures: np.ndarray) -> np.ndarray:
    """Means (4,) of figures (N, 4), NaN for none."""
    mean: np.ndarray = figures.mean(axis=0) if len(figures) else np.full(4, math.nan)
    return mean


def _tree(averages: Averages) -> dict[str, float]:
    return {name: getattr(averages, name) for name in ("f1", "iou", "precision", "recall")}
