"""Scores per building: whether each building was found, and whether its damage class is right."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aftermap.classes import DAMAGE, IGNORE
from aftermap.scoring.counts import Intervals, Metrics, SceneTables, f1, plain, pooled, ratio
from aftermap.scoring.instances import (
    MIN_AREA_PX,
    Instances,
    building_classes,
    count_found,
    is_judged,
    shares,
)
from aftermap.wording import counted

DAMAGE_CLASSES = DAMAGE.names[1:]

OBJECT_RULE = (
    "The class of a building is the majority vote of its pixels (ties: the lower class), and it is missed "
    "when most of its pixels are predicted as background. The damage F1 look at target buildings only, where "
    "a missed one is a false negative; false alarms count in localization."
)

_DESTROYED = DAMAGE.index("destroyed")
_DAMAGED = DAMAGE.index("minor-damage")
_CONFUSION = 25
_LENGTH = _CONFUSION + 3  # then localization: true positives, false positives, false negatives


@dataclass(frozen=True, slots=True)
class BuildingScores:
    """Scores pooled over the buildings of some scenes. A number that nothing could be measured for is NaN.

    Attributes:
        scenes: how many scenes were pooled.
        buildings: target buildings with a known damage class.
        missed: those of them that were not found.
        false_alarms: predicted buildings that touch no target building.
        accuracy: share of the buildings whose class is right.
        f1_destroyed: F1 of destroyed against the rest.
        f1_damaged: F1 of damaged (minor, major or destroyed) against not damaged.
        macro_f1: mean of the four `f1_per_class`.
        macro_f1_present: mean over the classes that occur in the target or are predicted on a target
            building.
        f1_per_class: F1 by class name.
        iou: overlap above which a predicted and a target outline are the same building.
        localization_f1: F1 of finding buildings at that overlap.
        localization_precision: share of predicted buildings that match a target building.
        localization_recall: share of target buildings that were matched.
        confusion: 5 x 5 building counts, rows target and columns prediction; column 0: missed, row 0: false
            alarms.
        intervals: (low, high) by metric name; class F1 as `f1_per_class.<class>`. Empty below two scenes.
        events: the same by event.
    """

    scenes: int
    buildings: int
    missed: int
    false_alarms: int
    accuracy: float
    f1_destroyed: float
    f1_damaged: float
    macro_f1: float
    macro_f1_present: float
    f1_per_class: dict[str, float]
    iou: float
    localization_f1: float
    localization_precision: float
    localization_recall: float
    confusion: tuple[tuple[int, ...], ...]
    intervals: Intervals = field(default_factory=dict)
    events: dict[str, "BuildingScores"] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the voting rule in words."""
        return {"rule": OBJECT_RULE, **self._figures()} | {
            "events": {name: scores._figures() for name, scores in self.events.items()}
        }

    def _figures(self) -> dict[str, Any]:
        return {
            "scenes": self.scenes,
            "buildings": self.buildings,
            "missed": self.missed,
            "false_alarms": self.false_alarms,
            "accuracy": plain(self.accuracy),
            "f1_destroyed": plain(self.f1_destroyed),
            "f1_damaged": plain(self.f1_damaged),
            "macro_f1": plain(self.macro_f1),
            "macro_f1_present": plain(self.macro_f1_present),
            "f1_per_class": plain(self.f1_per_class),
            "localization": {
                "iou": self.iou,
                "f1": plain(self.localization_f1),
                "precision": plain(self.localization_precision),
                "recall": plain(self.localization_recall),
            },
            "confusion": {
                "classes": list(DAMAGE.names),
                "rows": "target",
                "buildings": plain(self.confusion),
            },
            "intervals": plain(self.intervals),
        }


@dataclass(frozen=True, slots=True)
class TargetBuildings:
    """The target of a scene, numbered once for any number of predictions.

    Attributes:
        outlines: the buildings that are to be found.
        buildings: those whose damage is judged. classes: uint8 (n,), 1 to 4, or 0 where unknown.
        known: bool (H, W), where there is a building by either mask. unknown: bool (H, W), where neither says anything.
    """

    outlines: Instances
    buildings: Instances
    classes: np.ndarray
    known: np.ndarray
    unknown: np.ndarray

    @classmethod
    def of(
        cls,
        building: np.ndarray,
        damage: np.ndarray | None,
        *,
        instances: np.ndarray | None = None,
        min_area_px: int = MIN_AREA_PX,
    ) -> "TargetBuildings":
        """Number the buildings of masks (H, W); see `BuildingScore.add`."""
        known = (building > 0) & (building != IGNORE)
        if damage is None:
            damage = np.full(np.shape(building), IGNORE, np.uint8)
        if instances is None:
            outlines = Instances.components(known, min_area_px=min_area_px)
            buildings = Instances.classes(damage, min_area_px=min_area_px)
        else:
            outlines = buildings = Instances.of(instances)
        classes = building_classes(np.where(damage == IGNORE, 0, damage), buildings)
        touched = known | ((damage > 0) & (damage != IGNORE))
        return cls(outlines, buildings, classes, touched, (building == IGNORE) & (damage == IGNORE))


def count_buildings(
    predicted: np.ndarray, instances: np.ndarray | Instances, target: TargetBuildings, *, iou: float = 0.5
) -> np.ndarray:
    """The 28 counts int64 of a scene that `building_metrics` reads.

    Args:
        predicted: (H, W), damage 1 to 4 in predicted buildings, 0 elsewhere and where no class is given.
        instances: (H, W), 1 to n numbers the predicted buildings.
        target: what is there.
        iou: see `match_buildings`.
    """
    instances = Instances.of(instances)
    found = building_classes(predicted, target.buildings)
    confusion = _pairs(target.classes[target.classes > 0], found[target.classes > 0])
    judged = is_judged(instances, target.unknown)
    touching = shares(target.known, instances) > 0
    guesses = building_classes(predicted, instances)[judged & ~touching]
    confusion += _pairs(np.zeros_like(guesses), guesses)
    localization = count_found(instances, target.outlines, target.unknown, iou=iou)
    return np.concatenate([confusion, localization])


class BuildingScore:
    """Accumulates scenes for `BuildingScores`; keeps 28 counts per scene."""

    def __init__(self, *, iou: float = 0.5, min_area_px: int = MIN_AREA_PX) -> None:
        """Start empty.

        Args:
            iou: a predicted and a target outline that overlap more than this are the same building.
            min_area_px: smallest component that counts as a building where instances come from masks.
        """
        self._iou = iou
        self._min_area_px = min_area_px
        self._tables = SceneTables(_LENGTH)

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
        target_instances: np.ndarray | None = None,
        prediction_instances: np.ndarray | None = None,
    ) -> None:
        """Count the buildings of a scene.

        Args:
            prediction_building: (H, W), > 0 is building.
            prediction_damage: (H, W), 0 to 4. None where only localization was predicted.
            target_building: (H, W), > 0 is building, IGNORE unknown.
            target_damage: (H, W), 0 to 4, IGNORE unknown. None where damage is not labelled.
            event: the disaster.
            scene: name of the scene; counts under the same name are summed.
            target_instances: (H, W), 1 to n numbers the target buildings, 0 elsewhere. Without it they are
                the connected components of the target: of the building mask for localization, of each class
                of the damage mask for damage, so that touching buildings of unlike damage stay apart.
            prediction_instances: the same for the prediction, for localization.
        """
        labelled = prediction_damage is not None and target_damage is not None
        target = TargetBuildings.of(
            target_building,
            target_damage if labelled else None,
            instances=target_instances,
            min_area_px=self._min_area_px,
        )
        if prediction_damage is None or not labelled:
            prediction_damage = np.zeros_like(prediction_building)
        numbered = (
            Instances.components(prediction_building > 0, min_area_px=self._min_area_px)
            if prediction_instances is None
            else Instances.of(prediction_instances)
        )
        predicted = np.where(prediction_building > 0, prediction_damage, 0)
        counts = count_buildings(predicted, numbered, target, iou=self._iou)
        self._tables.add(counts, event=event, scene=scene)

    def add_classes(self, predicted: np.ndarray, target: np.ndarray, *, event: str, scene: str) -> None:
        """Count buildings whose outlines were given, so that only their classes are to be judged.

        Args:
            predicted: (n,) classes 1 to 4, 0 where no class was given.
            target: (n,) classes 1 to 4; buildings with another value take no part.
            event: the disaster.
            scene: name of the scene.
        """
        predicted, target = np.asarray(predicted), np.asarray(target)
        if predicted.shape != target.shape:
            raise ValueError(f"{len(predicted)} predicted classes for {counted(len(target), 'building')}")
        known = (target >= 1) & (target <= 4)
        counts = np.concatenate([_pairs(target[known], predicted[known]), np.zeros(3, np.int64)])
        self._tables.add(counts, event=event, scene=scene)

    def merge(self, other: "BuildingScore") -> None:
        """Add what was counted elsewhere by the same rules, its scenes behind these."""
        self._tables.merge(other._tables)

    def result(self, *, bootstrap: int = 1000, seed: int = 0) -> BuildingScores:
        """Scores over everything that was added, and by event; see `counts.pooled`."""
        return pooled(self._tables, building_metrics, self._scores, bootstrap=bootstrap, seed=seed)

    def _scores(
        self, counts: np.ndarray, intervals: Intervals, events: dict[str, BuildingScores]
    ) -> BuildingScores:
        total = counts.sum(axis=0)
        confusion = total[:_CONFUSION].reshape(5, 5)
        values = {name: float(value) for name, value in building_metrics(total).items()}
        return BuildingScores(
            scenes=len(counts),
            buildings=int(confusion[1:].sum()),
            missed=int(confusion[1:, 0].sum()),
            false_alarms=int(confusion[0].sum()),
            iou=self._iou,
            f1_per_class={name: values.pop(f"f1_per_class.{name}") for name in DAMAGE_CLASSES},
            confusion=tuple(tuple(int(n) for n in row) for row in confusion),
            intervals=intervals,
            events=events,
            **values,
        )


def building_metrics(counts: np.ndarray) -> Metrics:
    """All per-building metrics of pooled count vectors (..., 28), each an array (...)."""
    counts = np.asarray(counts, float)
    confusion = counts[..., :_CONFUSION].reshape(*counts.shape[:-1], 5, 5)
    judged = confusion[..., 1:, :]  # (..., 4 target, 5 predicted)
    total = judged.sum(axis=(-2, -1))
    tp = np.stack([judged[..., k, k + 1] for k in range(4)], axis=-1)
    fp = judged[..., 1:].sum(axis=-2) - tp
    fn = judged.sum(axis=-1) - tp
    per_class = np.where(total[..., None] > 0, f1(tp, fp, fn), np.nan)
    present = tp + fp + fn > 0
    hit, extra, lost = (counts[..., _CONFUSION + k] for k in range(3))
    outlines = hit + extra + lost > 0
    metrics = {
        "accuracy": ratio(tp.sum(axis=-1), total),
        "f1_destroyed": _f1_from(judged, _DESTROYED),
        "f1_damaged": _f1_from(judged, _DAMAGED),
        "macro_f1": per_class.mean(axis=-1),
        "macro_f1_present": ratio(np.where(present, per_class, 0).sum(axis=-1), present.sum(axis=-1)),
        "localization_f1": np.where(outlines, f1(hit, extra, lost), np.nan),
        "localization_precision": ratio(hit, hit + extra),
        "localization_recall": ratio(hit, hit + lost),
    }
    for k, name in enumerate(DAMAGE_CLASSES):
        metrics[f"f1_per_class.{name}"] = per_class[..., k]
    return metrics


def _pairs(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Confusion counts (25,) of class arrays."""
    return np.bincount(target.astype(np.int64) * 5 + predicted, minlength=_CONFUSION)


def _f1_from(judged: np.ndarray, lowest: int) -> np.ndarray:
    """F1 of class `lowest` or worse from confusions (..., 4 target, 5 predicted); NaN without such ones."""
    tp = judged[..., lowest - 1 :, lowest:].sum(axis=(-2, -1))
    fp = judged[..., : lowest - 1, lowest:].sum(axis=(-2, -1))
    fn = judged[..., lowest - 1 :, :lowest].sum(axis=(-2, -1))
    return np.where(tp + fp + fn > 0, f1(tp, fp, fn), np.nan)
