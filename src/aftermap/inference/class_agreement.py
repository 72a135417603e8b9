"""What two models of any classes make of the same pixels, and how a dataset's classes are those of a model."""

import math

import numpy as np

from aftermap.classes import IGNORE, ClassScheme
from aftermap.inference.agreement import ClassChange
from aftermap.scoring.class_scores import Confusion


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
