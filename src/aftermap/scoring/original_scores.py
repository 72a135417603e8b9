"""The measures by which the published systems chose their checkpoints, as accumulators over whole scenes.

They differ from the official score (`scoring.pixels`) and are here to repeat runs and to compare; what a model is
worth is said by the official score. Each takes one scene at a time in `update` and answers `score` and its parts in
`result`. Pixels that are IGNORE in a target take no part in what that target decides.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aftermap.classes import DAMAGE, IGNORE
from aftermap.scoring.counts import harmonic_mean

System = Literal["xview2", "metadamagenet"]
BuildingMeasure = Literal["pooled", "per-image"]

DAMAGE_CLASSES = DAMAGE.names[1:]
LOCALIZATION_THRESHOLD = 0.3
"""Above it the winner's validation took an out-of-fold probability for a building."""


class OriginalScore(ABC):
    """What all measures of this module have in common: scenes are checked, then counted.

    Attributes:
        needs_damage: whose damage measure this is; None where damage is not looked at.
    """

    needs_damage: str | None = None

    def update(
        self,
        prediction: np.ndarray,
        truth_building: np.ndarray,
        truth_damage: np.ndarray | None = None,
        localization: np.ndarray | None = None,
    ) -> None:
        """Count a scene.

        Args:
            prediction: probabilities (K, H, W) with the background first, those of a building (H, W), or class
                indices (H, W) of an integer type.
            truth_building: (H, W), > 0 is building.
            truth_damage: (H, W), 0 to 4; only for damage.
            localization: (H, W) where another model sees buildings: a mask (bool) or probabilities (float). Only
                the xView2 winner's damage measure looks at it; without it the prediction's own buildings are taken.

        Raises:
            ValueError: shapes or values that do not fit.
        """
        if self.needs_damage is None:
            truth_damage = localization = None
        elif truth_damage is None:
            raise ValueError(f"{self.needs_damage}'s damage measure needs truth_damage")
        _check_shapes(prediction, truth_building, truth_damage, localization)
        self._count(Observed(prediction, truth_building, truth_damage, localization))

    @abstractmethod
    def _count(self, scene: "Observed") -> None: ...

    @abstractmethod
    def result(self) -> dict[str, float]:
        """`score` and its parts; NaN where nothing could be measured."""
        ...


@dataclass(frozen=True, slots=True)
class Observed:
    """A scene's prediction and truth, with shapes that fit; see `OriginalScore.update`."""

    prediction: np.ndarray
    building: np.ndarray
    damage: np.ndarray | None
    localization: np.ndarray | None

    @property
    def known(self) -> np.ndarray:
        """Where the building target says anything, bool (H, W)."""
        mask: np.ndarray = self.building != IGNORE
        return mask

    def damage_truth(self, scored: np.ndarray) -> np.ndarray:
        """Damage 0 to 3 (no damage first) of the pixels of a mask; those without a class are no-damage."""
        assert self.damage is not None  # `update` has seen to it
        truth: np.ndarray = np.maximum(self.damage[scored].astype(np.int64) - 1, 0)
        return truth


def original_score(
    system: System, task: Literal["building", "damage"], *, building: BuildingMeasure = "pooled"
) -> OriginalScore:
    """The measure of a published system, as its runs used it.

    Args:
        system: whose.
        task: what was learned.
        building: of the xView2 winner's damage runs; `per-image` for its ResNet-34.
    """
    if system == "metadamagenet":
        return MetaDamageNetLocalizationScore() if task == "building" else MetaDamageNetDamageScore()
    return Xview2LocalizationScore() if task == "building" else Xview2DamageScore(building=building)


class Xview2LocalizationScore(OriginalScore):
    """Mean over the images of the Dice coefficient of p(building) > 0.5; an empty image left empty counts 1.

    Source: xView2 first place, validation of the localization runs.
    """

    def __init__(self) -> None:
        self._values: list[float] = []

    def _count(self, scene: Observed) -> None:
        known = scene.known
        self._values.append(dice(_is_building(scene.prediction, above=0.5)[known], scene.building[known] > 0))

    def result(self) -> dict[str, float]:
        """`score`: the mean Dice coefficient."""
        return {"score": float(np.mean(self._values)) if self._values else math.nan}


class Xview2DamageScore(OriginalScore):
    """0.3 localization + 0.7 damage F1, as the winner's classification runs were validated.

    Damage is the likeliest of the four classes, put to no-damage outside of the localization; pixels on target
    buildings are scored, and those without a damage class count as no-damage. So a missed building pixel is
    no-damage, not missed.

    Source: xView2 first place, `validate` of the classification training scripts.
    """

    needs_damage = "the winner"

    def __init__(
        self,
        *,
        building: BuildingMeasure = "pooled",
        localization_threshold: float = LOCALIZATION_THRESHOLD,
        compat_nan: bool = False,
    ) -> None:
        """Start from nothing.

        Args:
            building: F1 of the pixels of all scenes, or the mean of the scenes' Dice coefficients (the winner's
                ResNet-34).
            localization_threshold: of localization given as probabilities.
            compat_nan: NaN as soon as one class neither occurs nor is predicted, by which the original never saved
                a checkpoint; otherwise the damage F1 is that of the other classes.
        """
        self._building = building
        self._threshold = localization_threshold
        self._compat_nan = compat_nan
        self._localization = np.zeros(3, np.int64)
        self._per_image: list[float] = []
        self._confusion = np.zeros((4, 4), np.int64)

    def _count(self, scene: Observed) -> None:
        prediction = scene.prediction
        building = self._buildings(prediction, scene.localization)
        if prediction.ndim == 3:
            if len(prediction) != len(DAMAGE):
                raise ValueError(f"prediction has {len(prediction)} channels, expected {len(DAMAGE)}")
            chosen = prediction[1:].argmax(axis=0)
        else:
            chosen = np.maximum(_classes(prediction).astype(np.int64) - 1, 0)
        chosen = np.where(building, chosen, 0)

        known = scene.known
        counts = _counts(building[known], scene.building[known] > 0)
        self._localization += counts
        self._per_image.append(_f1(counts, empty=1.0))

        scored = known & (scene.building > 0) & (scene.damage != IGNORE)
        truth = scene.damage_truth(scored)
        self._confusion += np.bincount(truth * 4 + chosen[scored], minlength=16).reshape(4, 4)

    def result(self) -> dict[str, float]:
        """`score`, `xview2_localization`, `xview2_damage_f1` and `xview2_f1_<class>`."""
        tp, fp, fn = self.counts().T
        found = 2 * tp + fp + fn
        per_class = np.divide(2 * tp, found, out=np.full(4, np.nan), where=found > 0)
        if self._compat_nan:
            damage = float(harmonic_mean(per_class))
        else:
            damage = float(harmonic_mean(np.nan_to_num(per_class), where=found > 0))
        if not self._per_image:
            localization = math.nan
        elif self._building == "pooled":
            localization = _f1(self._localization, empty=1.0)
        else:
            localization = float(np.mean(self._per_image))
        named = zip(DAMAGE_CLASSES, per_class, strict=True)
        return {
            "score": 0.3 * localization + 0.7 * damage,
            "xview2_localization": localization,
            "xview2_damage_f1": damage,
            **{f"xview2_f1_{name}": float(value) for name, value in named},
        }

    def counts(self) -> np.ndarray:
        """int64 (4, 3): true positives, false positives and false negatives of the damage classes."""
        tp = np.diag(self._confusion)
        return np.stack([tp, self._confusion.sum(axis=0) - tp, self._confusion.sum(axis=1) - tp], axis=1)

    def _buildings(self, prediction: np.ndarray, localization: np.ndarray | None) -> np.ndarray:
        if localization is None:
            return _is_building(prediction, above=self._threshold)
        if localization.dtype != bool and localization.dtype.kind != "f":
            raise ValueError(
                f"localization is {localization.dtype}, expected bool or probabilities: "
                "pass bytes of a stored map through stored_localization"
            )
        mask: np.ndarray = localization if localization.dtype == bool else localization > self._threshold
        return mask


class MetaDamageNetLocalizationScore(OriginalScore):
    """F1 of p(building) >= 0.5 over the pixels of all scenes, 0 where there is no building and none is predicted.

    Source: MetaDamageNet, localization score (micro Dice of torchmetrics 0.9).
    """

    def __init__(self) -> None:
        self._counts = np.zeros(3, np.int64)

    def _count(self, scene: Observed) -> None:
        known = scene.known
        self._counts += _counts(
            _is_building(scene.prediction, at_least=0.5)[known], scene.building[known] > 0
        )

    def result(self) -> dict[str, float]:
        """`score`: the F1."""
        return {"score": _f1(self._counts, empty=0.0)}


class OpenCitiesScore(OriginalScore):
    """Mean over the scenes of the Jaccard index of p(building) >= 0.5, counted over both classes at once.

    With a accurate pixels of n it is a / (2n - a), so that background counts like buildings: a scene without any is 1
    when left empty. It is not the index of the competition's ranking, and its runs did not choose by it.

    Source: Open Cities third place, validation (`jaccard_score` of scikit-learn, `average="micro"`).
    """

    def __init__(self) -> None:
        self._values: list[float] = []

    def _count(self, scene: Observed) -> None:
        known = scene.known
        right = _is_building(scene.prediction, at_least=0.5)[known] == (scene.building[known] > 0)
        if right.size:
            accuracy = float(right.mean())
            self._values.append(accuracy / (2 - accuracy))

    def result(self) -> dict[str, float]:
        """`score`: the mean index."""
        return {"score": float(np.mean(self._values)) if self._values else math.nan}


class MetaDamageNetDamageScore(OriginalScore):
    """0.3 localization + 0.7 damage, both from the likeliest of five classes against the damage target alone.

    A predicted background on a building counts as no-damage, and the harmonic mean is over the classes that the
    target has; without any building it is 1.

    Source: MetaDamageNet, `DamageLocalizationMetric`, `DamageClassificationMetric` and their composite.
    """

    needs_damage = "MetaDamageNet"

    def __init__(self) -> None:
        self._localization = np.zeros(3, np.int64)
        self._confusion = np.zeros((4, 4), np.int64)

    def _count(self, scene: Observed) -> None:
        prediction, target = scene.prediction, scene.damage
        assert target is not None  # `update` has seen to it
        if prediction.ndim == 3 and len(prediction) != len(DAMAGE):
            raise ValueError(f"prediction has {len(prediction)} channels, expected {len(DAMAGE)}")
        chosen = prediction.argmax(axis=0) if prediction.ndim == 3 else _classes(prediction)
        known = target != IGNORE
        self._localization += _counts(chosen[known] > 0, target[known] > 0)
        scored = known & (target > 0)
        truth = scene.damage_truth(scored)
        damage = np.maximum(chosen[scored].astype(np.int64), 1) - 1
        self._confusion += np.bincount(truth * 4 + damage, minlength=16).reshape(4, 4)

    def result(self) -> dict[str, float]:
        """`score`, `metadamagenet_localization`, `metadamagenet_damage` and `metadamagenet_f1_<class>`."""
        tp = np.diag(self._confusion)
        wanted = self._confusion.sum(axis=1)
        found = self._confusion.sum(axis=0) + wanted
        per_class = np.divide(2.0 * tp, found, out=np.full(4, np.nan), where=wanted > 0)
        damage = 1.0
        if wanted.any():
            damage = float(harmonic_mean(np.nan_to_num(per_class), where=wanted > 0))
        localization = _f1(self._localization, empty=0.0)
        named = zip(DAMAGE_CLASSES, per_class, strict=True)
        return {
            "score": 0.3 * localization + 0.7 * damage,
            "metadamagenet_localization": localization,
            "metadamagenet_damage": damage,
            **{f"metadamagenet_f1_{name}": float(value) for name, value in named},
        }


def stored_localization(levels: np.ndarray, threshold: float = LOCALIZATION_THRESHOLD) -> np.ndarray:
    """Building mask of a probability map stored in bytes: from 77 on at the winner's threshold of 0.3."""
    if levels.dtype != np.uint8:
        raise ValueError(f"a stored map is uint8, found {levels.dtype}")
    mask: np.ndarray = levels > threshold * 255
    return mask


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two masks, 1 where both are empty."""
    return _f1(_counts(first.astype(bool), second.astype(bool)), empty=1.0)


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> float:
    """Jaccard index of two masks, 1 where both are empty."""
    both, extra, missed = _counts(first.astype(bool), second.astype(bool))
    union = both + extra + missed
    return float(both / union) if union else 1.0


def background_and_building(channels: np.ndarray, axis: int = 0) -> np.ndarray:
    """Five damage channels as two: the first, and the sum of the others."""
    first, others = np.split(channels, [1], axis=axis)
    return np.concatenate([first, others.sum(axis=axis, keepdims=True)], axis=axis)


def _is_building(
    prediction: np.ndarray, *, above: float | None = None, at_least: float | None = None
) -> np.ndarray:
    """Buildings of a prediction: by threshold where it holds probabilities."""
    if prediction.dtype.kind != "f":
        mask: np.ndarray = _classes(prediction) > 0
        return mask
    if prediction.ndim == 3:
        # two channels hold p(building) itself, which 1 - p(background) would round
        prediction = {1: prediction[0], 2: prediction[-1]}.get(len(prediction), 1 - prediction[0])
    mask = prediction > above if above is not None else prediction >= at_least
    return mask


def _classes(prediction: np.ndarray) -> np.ndarray:
    if prediction.ndim != 2 or prediction.dtype.kind not in "bui":
        raise ValueError(
            f"prediction is {prediction.dtype} {prediction.shape}, expected class indices (H, W) of an integer type"
        )
    if prediction.size and not 0 <= prediction.min() <= prediction.max() < len(DAMAGE):
        raise ValueError(
            f"prediction holds {prediction.min()} to {prediction.max()}, expected 0 to {len(DAMAGE) - 1}"
        )
    return prediction


def _check_shapes(prediction: np.ndarray, *masks: np.ndarray | None) -> None:
    shape = np.shape(prediction)[-2:]
    if np.ndim(prediction) not in (2, 3):
        raise ValueError(f"prediction has shape {np.shape(prediction)}, expected (K, H, W) or (H, W)")
    for mask in masks:
        if mask is not None and np.shape(mask) != shape:
            raise ValueError(f"a mask has shape {np.shape(mask)}, expected the prediction's {shape}")


def _counts(predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """True positives, false positives and false negatives of two boolean arrays."""
    both = np.count_nonzero(predicted & wanted)
    return np.array(
        [both, np.count_nonzero(predicted) - both, np.count_nonzero(wanted) - both], dtype=np.int64
    )


def _f1(counts: np.ndarray, *, empty: float) -> float:
    tp, fp, fn = (int(n) for n in counts)
    whole = 2 * tp + fp + fn
    return 2 * tp / whole if whole else empty
