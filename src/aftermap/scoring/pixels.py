"""Pixel scores: the official xView2 score and its companions, from one small count table per scene."""

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.mask_png import count_values
from aftermap.scoring.counts import Intervals, Metrics, SceneTables, f1, harmonic_mean, plain, pooled, ratio

DAMAGE_CLASSES = DAMAGE.names[1:]
"""The four classes whose F1 enter the damage score, in mask order 1 to 4."""

ABSENT_CLASS_RULE = (
    "The official score takes the harmonic mean over all four damage classes, and a class that occurs "
    "neither in the target nor in the prediction counts as F1 = 0. In the figure beside it such a class "
    "takes no part: the mean is over the classes that occur in the target or are predicted on a target "
    "building."
)

_INVALID = 255
_PIXELS_AT_ONCE = 1 << 22

# A scene's table has three axes. Target building: background, building, unknown. Target damage: 0 to 4,
# unknown. Prediction: 0 outside predicted buildings, 1 to 4 the class inside them, 5 inside without a class.
_TABLE = (3, 6, 6)
_UNKNOWN_BUILDING, _UNKNOWN_DAMAGE, _UNCLASSED = 2, 5, 5


def _codes(pairs: dict[int, int]) -> np.ndarray:
    table = np.full(256, _INVALID, np.uint8)
    for value, code in pairs.items():
        table[value] = code
    return table


_TARGET_BUILDING = _codes({0: 0, 1: 1, 2: 1, 3: 1, 4: 1, IGNORE: _UNKNOWN_BUILDING})
_TARGET_DAMAGE = _codes({0: 0, 1: 1, 2: 2, 3: 3, 4: 4, IGNORE: _UNKNOWN_DAMAGE})
_PREDICTED_BUILDING = _codes({0: 0, 1: 1, 2: 1, 3: 1, 4: 1})
_PREDICTED_DAMAGE = _codes({0: _UNCLASSED, 1: 1, 2: 2, 3: 3, 4: 4})


@dataclass(frozen=True, slots=True)
class PixelScores:
    """Scores pooled over the pixels of some scenes. A number that nothing could be measured for is NaN.

    Attributes:
        scenes: how many scenes were pooled.
        score: 0.3 `localization_f1` + 0.7 `damage_f1`, as the official scorer pools it.
        localization_f1: pixel F1 of building against background.
        damage_f1: harmonic mean of the four `damage_f1_per_class`, 4 / sum(1 / (F1 + 1e-6)).
        damage_f1_per_class: F1 by class name over the pixels on target buildings.
        score_present: `score` with `damage_f1_present`; see ABSENT_CLASS_RULE.
        damage_f1_present: harmonic mean over the classes that occur in the target or the prediction.
        absent_classes: the classes that take no part in `damage_f1_present`.
        localization_precision: share of predicted building pixels that are building.
        localization_recall: share of building pixels that were predicted.
        localization_iou: intersection over union of building pixels.
        confusion: 5 x 5 pixel counts, rows target and columns prediction, 0 = background (column 0: missed).
            The scores use rows 1 to 4.
        intervals: (low, high) by metric name; class F1 as `damage_f1_per_class.<class>`. Empty below two
            scenes.
        events: the same by event.
    """

    scenes: int
    score: float
    localization_f1: float
    damage_f1: float
    damage_f1_per_class: dict[str, float]
    score_present: float
    damage_f1_present: float
    absent_classes: tuple[str, ...]
    localization_precision: float
    localization_recall: float
    localization_iou: float
    confusion: tuple[tuple[int, ...], ...]
    intervals: Intervals = field(default_factory=dict)
    events: dict[str, "PixelScores"] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the official figures first, the absent-class rule in words beside them."""
        return {
            "score": plain(self.score),
            "localization_f1": plain(self.localization_f1),
            "damage_f1": plain(self.damage_f1),
            "damage_f1_per_class": plain(self.damage_f1_per_class),
            "absent_class_rule": {
                "rule": ABSENT_CLASS_RULE,
                "score": plain(self.score_present),
                "damage_f1": plain(self.damage_f1_present),
                "absent_classes": list(self.absent_classes),
            },
            "localization": {
                "precision": plain(self.localization_precision),
                "recall": plain(self.localization_recall),
                "iou": plain(self.localization_iou),
            },
            "scenes": self.scenes,
            "confusion": {"classes": list(DAMAGE.names), "rows": "target", "pixels": plain(self.confusion)},
            "intervals": plain(self.intervals),
            "events": {name: _without_events(scores) for name, scores in self.events.items()},
        }


class Score:
    """Accumulates scenes for `PixelScores`; keeps 108 counts per scene, whatever the size of the images."""

    def __init__(self) -> None:
        self._tables = SceneTables(math.prod(_TABLE))

    def __len__(self) -> int:
        return len(self._tables)

    def add(
        self,
        prediction_building: np.ndarray,
        prediction_damage: np.ndarray | None,
        target_building: np.ndarray,
        target_damage: np.ndarray | None,
        *,
        event: str,
        scene: str,
    ) -> None:
        """Count the pixels of a scene, or of a part of one: counts under the same scene name are summed.

        Args:
            prediction_building: (H, W), > 0 is building; values 0 to 4.
            prediction_damage: (H, W), 0 to 4; only what lies in predicted buildings is looked at. None where
                only localization was predicted, so that damage takes no part.
            target_building: (H, W), > 0 is building, IGNORE takes no part in localization.
            target_damage: (H, W), 0 to 4, IGNORE takes no part in damage. None where damage is not labelled.
            event: the disaster, for the scores by event.
            scene: name of the scene, the unit that the bootstrap resamples.

        Raises:
            ValueError: shapes differ, or a mask holds another value.
        """
        counts = count_pixels(prediction_building, prediction_damage, target_building, target_damage)
        self._tables.add(counts, event=event, scene=scene)

    def merge(self, other: "Score") -> None:
        """Add what was counted elsewhere, its scenes behind these."""
        self._tables.merge(other._tables)

    def result(self, *, bootstrap: int = 1000, seed: int = 0) -> PixelScores:
        """Scores over everything that was added, and by event; see `counts.pooled`."""
        return pooled(self._tables, pixel_metrics, _pixel_scores, bootstrap=bootstrap, seed=seed)


def pixel_metrics(counts: np.ndarray) -> Metrics:
    """All pixel metrics of pooled count vectors (..., 108), each an array (...).

    Source: the official xView2 scorer: F1 from precision and recall, 0 without true positives; harmonic mean
    of F1 + 1e-6 over four classes; 0.3 localization + 0.7 damage.
    """
    table = np.asarray(counts, float).reshape(*np.shape(counts)[:-1], *_TABLE)
    building = table.sum(axis=-2)  # (..., target building, prediction)
    hit, missed = building[..., 1, 1:].sum(axis=-1), building[..., 1, 0]
    extra = building[..., 0, 1:].sum(axis=-1)
    confusion = _damage_confusion(table)
    tp = np.stack([confusion[..., k, k] for k in range(1, 5)], axis=-1)
    fp = confusion[..., 1:, 1:].sum(axis=-2) - tp
    fn = confusion[..., 1:, :].sum(axis=-1) - tp
    per_class = f1(tp, fp, fn)
    present = tp + fp + fn > 0
    labelled = confusion.sum(axis=(-2, -1)) > 0  # else damage was not labelled at all
    damage = np.where(labelled, harmonic_mean(per_class), np.nan)
    damage_present = harmonic_mean(per_class, where=present)
    localization = f1(hit, extra, missed)
    metrics = {
        "score": 0.3 * localization + 0.7 * damage,
        "localization_f1": localization,
        "damage_f1": damage,
        "score_present": 0.3 * localization + 0.7 * damage_present,
        "damage_f1_present": damage_present,
        "localization_precision": ratio(hit, hit + extra),
        "localization_recall": ratio(hit, hit + missed),
        "localization_iou": ratio(hit, hit + extra + missed),
    }
    for k, name in enumerate(DAMAGE_CLASSES):
        metrics[f"damage_f1_per_class.{name}"] = np.where(labelled, per_class[..., k], np.nan)
    return metrics


def count_pixels(
    prediction_building: np.ndarray,
    prediction_damage: np.ndarray | None,
    target_building: np.ndarray,
    target_damage: np.ndarray | None,
) -> np.ndarray:
    """The 108 counts int64 of a scene that `pixel_metrics` reads; masks as `Score.add` takes them.

    Raises:
        ValueError: shapes differ, or a mask holds another value.
    """
    shape = np.shape(target_building)
    for name, mask in (
        ("prediction_building", prediction_building),
        ("prediction_damage", prediction_damage),
        ("target_building", target_building),
        ("target_damage", target_damage),
    ):
        if mask is not None and (np.ndim(mask) != 2 or np.shape(mask) != shape):
            raise ValueError(f"{name} has shape {np.shape(mask)}, expected the target's {shape} as (H, W)")
    counts = np.zeros(math.prod(_TABLE), np.int64)
    rows = max(1, _PIXELS_AT_ONCE // max(1, shape[1]))
    for row in range(0, shape[0], rows):
        band = slice(row, row + rows)
        counts += _count(
            prediction_building[band],
            None if prediction_damage is None else prediction_damage[band],
            target_building[band],
            None if target_damage is None else target_damage[band],
        )
    return counts


def _count(
    prediction_building: np.ndarray,
    prediction_damage: np.ndarray | None,
    target_building: np.ndarray,
    target_damage: np.ndarray | None,
) -> np.ndarray:
    """The 108 counts of masks of one shape."""
    inside = _encode(prediction_building, _PREDICTED_BUILDING, "prediction_building")
    code = _encode(target_building, _TARGET_BUILDING, "target_building") * np.uint8(6)
    if prediction_damage is None or target_damage is None:
        code += np.uint8(_UNKNOWN_DAMAGE)
    else:
        code += _encode(target_damage, _TARGET_DAMAGE, "target_damage")
    code *= np.uint8(6)
    if prediction_damage is None:
        code += inside * np.uint8(_UNCLASSED)
    else:
        code += inside * _encode(prediction_damage, _PREDICTED_DAMAGE, "prediction_damage")
    return count_values(code)[: math.prod(_TABLE)]


def _encode(mask: np.ndarray, codes: np.ndarray, name: str) -> np.ndarray:
    if mask.dtype.kind not in "bui":
        raise ValueError(f"{name} is {mask.dtype}, expected integer class indices")
    if mask.dtype != np.uint8:
        if mask.size and not 0 <= mask.min() <= mask.max() <= 255:
            raise ValueError(f"{name} holds {mask.min()} to {mask.max()}, expected 0 to 4")
        mask = mask.astype(np.uint8)
    code: np.ndarray = cv2.LUT(np.ascontiguousarray(mask), codes) if mask.size else codes[mask]
    if code.size and code.max() == _INVALID:
        allowed = "0 to 4" if codes[IGNORE] == _INVALID else f"0 to 4 or {IGNORE}"
        raise ValueError(f"{name} holds {mask[code == _INVALID].max()}, expected {allowed}")
    return code


def _damage_confusion(table: np.ndarray) -> np.ndarray:
    """(..., 5 target, 5 predicted) pixels with a known damage class, from tables (..., 3, 6, 6)."""
    damage = table.sum(axis=-3)[..., :_UNKNOWN_DAMAGE, :]
    confusion: np.ndarray = damage[..., :_UNCLASSED].copy()
    confusion[..., 0] += damage[
        ..., _UNCLASSED
    ]  # a building without a class is scored as 0, like the official scorer
    return confusion


def _pixel_scores(counts: np.ndarray, intervals: Intervals, events: dict[str, PixelScores]) -> PixelScores:
    total = counts.sum(axis=0)
    values = {name: float(value) for name, value in pixel_metrics(total).items()}
    confusion = _damage_confusion(total.reshape(_TABLE))
    occurs = confusion[1:, 1:].sum(axis=0) + confusion[1:, :].sum(axis=1) > 0
    return PixelScores(
        scenes=len(counts),
        damage_f1_per_class={name: values.pop(f"damage_f1_per_class.{name}") for name in DAMAGE_CLASSES},
        absent_classes=tuple(name for name, there in zip(DAMAGE_CLASSES, occurs, strict=True) if not there),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        intervals=intervals,
        events=events,
        **values,
    )


def _without_events(scores: PixelScores) -> dict[str, Any]:
    values = scores.as_dict()
    del values["events"], values["absent_class_rule"]["rule"]
    return values
