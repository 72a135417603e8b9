"""The parity gate: an exported model decides like its original on real scenes, or it is refused.

Both run over whole scenes through the same windows. Probabilities are compared pixel by pixel; decisions are compared
class by class, against the labels where there are any and against the original's own decisions.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.scene import Scene, read_bands, read_images, read_mask
from aftermap.errors import DataError
from aftermap.inference.agreement import Budget, ClassDecisions, Decided, Decisions, Differences
from aftermap.inference.postprocess import Decision, spread_minor
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import DEFAULT_HALO_PX, DEFAULT_WINDOW_PX, predict_scene

__all__ = ["Budget", "Parity", "Tile", "compare"]


@dataclass(frozen=True, slots=True)
class Tile:
    """Pixels to compare on.

    Attributes:
        name: of the scene.
        images: raw values (T, C, H, W) in the card's `given_bands`.
        building: uint8 (H, W), 0, 1 and IGNORE; None where not labelled.
        damage: uint8 (H, W), 0 to 4 and IGNORE; None where not labelled.
        classes: uint8 (H, W), the classes of the model's legend and IGNORE; None where not labelled.
    """

    name: str
    images: np.ndarray
    building: np.ndarray | None = None
    damage: np.ndarray | None = None
    classes: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate found.

    Attributes:
        passed: whether every figure is within the budget.
        reason: one line; where a class fell beyond the budget it names the one that fell most.
        report: all figures and the budget, plain values for JSON.
    """

    passed: bool
    reason: str
    report: dict[str, Any] = field(default_factory=dict)


def compare(
    original: AnyPredictor,
    exported: AnyPredictor,
    scenes: Iterable[Scene | Tile],
    budget: Budget,
    *,
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
    batch: int = 1,
    lookup: np.ndarray | None = None,
) -> Parity:
    """Run two predictors over scenes and hold their differences against a budget.

    Args:
        original: the model as it was trained; its card decides for both.
        exported: the one to be judged.
        scenes: of a prepared dataset, or pixels in memory; labels are used where there are any.
        budget: what is allowed.
        window_px: largest window.
        halo_px: half the overlap of windows.
        batch: windows per call.
        lookup: for a model with a legend, the model's class of each value of the scenes' class masks (256,); None
            leaves their labels out.

    Raises:
        DataError: no scene was given, or one does not fit the model.
    """
    decision = Decision.of(original.card)
    scheme = original.card.classes
    decisions: Decisions | ClassDecisions = (
        ClassDecisions(scheme) if decision.likeliest else Decisions(scheme.names)
    )
    differences, multiple = Differences(), math.lcm(original.multiple, exported.multiple)
    for tile in _tiles(scenes, original, lookup):
        before, after = (
            predict_scene(
                _Even(predictor, multiple), tile.images, window_px=window_px, halo_px=halo_px, batch=batch
            )
            for predictor in (original, exported)
        )
        if before.shape != after.shape:
            return _refused(
                f"the exported model gives {len(after)} classes on {tile.name}, the original {len(before)}"
            )
        for which, values in (("original", before), ("exported", after)):
            wrong = int((~np.isfinite(values).all(axis=0)).sum())
            if wrong:
                return _refused(f"the {which} model gives no finite number at {wrong} pixels of {tile.name}")
        differences.add(before, after)
        if isinstance(decisions, ClassDecisions):
            decisions.add(decision.choose(before), decision.choose(after), tile.classes)
            continue
        truth = _labels(tile, damage=len(before) > 2)
        decisions.add(tile.name, _decide(before, decision), _decide(after, decision), truth)
    if not differences.pixels:
        raise DataError("no scene to compare the exported model on: give at least one")
    return _judged(differences, decisions, budget)


class _Even:
    """A predictor whose windows are multiples of what both predictors need, so that both see the same ones."""

    def __init__(self, predictor: AnyPredictor, multiple: int) -> None:
        self.multiple = multiple
        self.predict = predictor.predict


def _judged(differences: Differences, decisions: Decisions | ClassDecisions, budget: Budget) -> Parity:
    """Every figure against the budget."""
    pixels = differences.pixels
    changes = decisions.changes()
    falls = {change.name: fall for change in changes if (fall := change.fall(budget)) is not None}
    quantile = differences.quantile(budget.quantile)
    mean, agreement = differences.total / pixels, decisions.same / pixels
    worst = max(changes, key=lambda change: falls.get(change.name, 0.0))
    reasons = [worst.sentence(budget)] if falls.get(worst.name, 0.0) > 1 else []
    if agreement < budget.agreement:
        reasons.append(
            f"{agreement:.5f} of the pixels keep their class where {budget.agreement:g} is the least"
        )
    for found, limit, what in (
        (mean, budget.difference_mean, "mean difference of probabilities"),
        (quantile, budget.difference_quantile, f"{budget.quantile:g} quantile of the differences"),
        (differences.largest, budget.difference_max, "largest difference of probabilities"),
    ):
        if found > limit:
            reasons.append(f"{what} {found:.5f} where {limit:g} is allowed")
    report = {
        "scenes": decisions.scenes,
        "labelled_scenes": decisions.labelled_scenes,
        "pixels": pixels,
        "difference": {
            "max": differences.largest,
            "mean": mean,
            "quantile": quantile,
            "quantile_share": budget.quantile,
        },
        "agreement": agreement,
        "building_agreement": decisions.built_same / decisions.built if decisions.built else 1.0,
        "classes": {change.name: change.as_dict(judged=change.name in falls) for change in changes},
        "budget": budget.model_dump(),
    }
    if reasons:
        return _refused(reasons[0], report, also=reasons[1:])
    said = (
        f"largest difference {differences.largest:.5f}, mean {mean:.6f}, {agreement:.5f} of the pixels agree"
    )
    return Parity(True, said, {"passed": True, "reason": said, **report})


def _refused(reason: str, report: dict[str, Any] | None = None, *, also: Sequence[str] = ()) -> Parity:
    return Parity(False, reason, {"passed": False, "reason": reason, "also": list(also), **(report or {})})


def _tiles(
    scenes: Iterable[Scene | Tile], predictor: AnyPredictor, lookup: np.ndarray | None
) -> Iterator[Tile]:
    dates = predictor.dates
    for scene in scenes:
        if isinstance(scene, Tile):
            if len(scene.images) < dates:
                raise DataError(
                    f"scene {scene.name} has {len(scene.images)} dates, the model looks at {dates}"
                )
            yield replace(scene, images=scene.images[:dates])
        elif predictor.card.legend is not None:
            truth = (
                None
                if lookup is None or scene.class_mask is None
                else lookup[read_mask(scene, target="classes")]
            )
            yield Tile(
                scene.name,
                read_dates(scene, predictor),
                classes=truth,
            )
        else:
            yield Tile(
                scene.name,
                read_dates(scene, predictor),
                read_mask(scene, target="building") if scene.is_labelled else None,
                read_mask(scene, target="damage") if scene.damage_mask is not None else None,
            )


def read_dates(scene: Scene, predictor: AnyPredictor) -> np.ndarray:
    """What a model looks at of a scene, uint8 (T, C, H, W) in the order of its card's `given_bands`.

    Raises:
        DataError: the scene has no such bands or dates.
    """
    if predictor.dates == 1:
        return read_bands(scene, predictor.card.given_bands)[None]
    return read_images(scene, dates=predictor.dates)


def _decide(probabilities: np.ndarray, decision: Decision) -> Decided:
    """Building 0/1 and damage 1 to 4 (H, W), as evaluation decides them; no damage with two classes."""
    building, damage = decision.classify(probabilities)
    if len(probabilities) == 2:
        return building.astype(np.uint8), None
    spread = spread_minor(np.where(building, damage, np.uint8(0)), decision.minor_dilation)
    return building.astype(np.uint8), np.where(building, spread, np.uint8(0))


def _labels(tile: Tile, *, damage: bool) -> Decided | None:
    """Target building and damage of a tile; None where neither is known."""
    building = tile.building
    if building is None:
        if tile.damage is None:
            return None
        building = np.where(tile.damage == IGNORE, IGNORE, tile.damage > 0).astype(np.uint8)
    return building, tile.damage if damage else None
