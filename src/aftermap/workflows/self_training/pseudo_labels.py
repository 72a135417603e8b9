"""A teacher's predictions of a pool of scenes, stored as it goes, and the choice of those that become labels."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aftermap.data.scene import Scene, SceneGrid, read_images
from aftermap.data.soft_labels import SOFT_SCALE, SOFT_UNKNOWN, read_soft, write_soft
from aftermap.files import write_json
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.workflows.self_training.config import LabelsConfig

_LEVELS = SOFT_SCALE + 1
_BLACK_PX = 15

LOW_CONFIDENCE = "low confidence"
BEYOND_LIMIT = "beyond the number of scenes"
NOTHING_LEFT = "no pixel left"
"""Why a scene is rejected."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """A scene as the teacher sees it.

    Attributes:
        scene: with `soft`, the stored prediction.
        confidence: mean probability of the likeliest class.
        building: highest p(building) of a pixel.
        presence: p(building) of the image by the classifier of the teacher; None where it has none.
        pixels: how many have each class as their likeliest.
    """

    scene: Scene
    confidence: float
    building: float
    presence: float | None
    pixels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChosenLabels:
    """Which predictions became labels.

    Attributes:
        accepted: scenes with `soft`, their labels.
        rejected: reasons by name of the scene.
        predicted: pixels by likeliest class, of the whole pool.
        learned: pixels by class, of the labels.
        unknown: pixels of the accepted scenes that became unknown, by reason.
        cutoffs: least confidence by class that the cap on shares left; 0 where it left all pixels.
    """

    accepted: list[Scene]
    rejected: dict[str, str]
    predicted: list[int]
    learned: list[int]
    unknown: dict[str, int]
    cutoffs: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "accepted": len(self.accepted),
            "rejected": len(self.rejected),
            "rejected_because": dict(sorted(Counter(self.rejected.values()).items())),
            "predicted_pixels": self.predicted,
            "learned_pixels": self.learned,
            "unknown_pixels": self.unknown,
            "cutoffs": [round(value, 4) for value in self.cutoffs],
        }


def predict_pool(
    predictor: AnyPredictor,
    scenes: Sequence[Scene],
    folder: Path,
    *,
    settings: dict[str, Any],
    black_is_missing: bool = True,
    presence: Callable[[np.ndarray], float] | None = None,
    on_scene: Callable[[int], None] = lambda _: None,
) -> list[Predicted]:
    """Predict scenes into `folder`, one GeoTIFF and one JSON file each; those that are there are passed over.

    Args:
        predictor: the teacher.
        scenes: of names that occur once.
        folder: where predictions go.
        settings: what else they follow from; with the teacher's hash and the images it makes the fingerprint by which
            a stored prediction is known.
        black_is_missing: see `PredictConfig`.
        presence: p(building) of images (T, 3, H, W) by a classifier.
        on_scene: called with the number of scenes that are done.

    Returns:
        The predictions, in the order of the scenes.
    """
    done = []
    classes = len(predictor.card.classes)
    for number, scene in enumerate(scenes, 1):
        file, note = folder / f"{scene.name}.tif", folder / f"{scene.name}.json"
        mark = _fingerprint(predictor, scene, settings | {"black_is_missing": black_is_missing})
        facts = _stored(note, mark) if file.is_file() else None
        if facts is None:
            note.unlink(missing_ok=True)  # of another teacher: a break must not leave it beside the new file
            images = read_images(scene, dates=predictor.dates)
            probabilities = predict_scene(predictor, images)[1:].copy()
            if black_is_missing:
                probabilities[:, missing_ground(images)] = np.nan
            write_soft(file, probabilities, scene.grid)
            facts = {"fingerprint": mark, "presence": None if presence is None else presence(images)}
            write_json(note, facts)
        labelled = scene.model_copy(update={"soft": file})
        done.append(describe_prediction(labelled, facts["presence"], classes=classes))
        on_scene(number)
    return done


def missing_ground(images: np.ndarray) -> np.ndarray:
    """Where images (T, C, H, W) of some date are black over a whole square, as mosaics are beyond their end.

    Single black pixels are shadows, and no reason to say nothing.
    """
    square = np.ones((_BLACK_PX, _BLACK_PX), np.uint8)
    missing = np.zeros(images.shape[-2:], bool)
    for image in images:
        black = (image == 0).all(axis=0).astype(np.uint8)
        # beyond the frame it counts as black, so that a narrow black margin is one
        black = np.pad(black, _BLACK_PX, constant_values=1)
        opened = cv2.morphologyEx(black, cv2.MORPH_OPEN, square)
        missing |= opened[_BLACK_PX:-_BLACK_PX, _BLACK_PX:-_BLACK_PX] > 0
    return missing


def select_labels(
    predicted: Sequence[Predicted],
    config: LabelsConfig,
    folder: Path,
    *,
    least_confidence: Sequence[float],
    shares: Sequence[float],
    refused: Collection[int] = (),
) -> ChosenLabels:
    """Choose scenes and pixels, and write their labels into `folder`, one GeoTIFF per scene.

    The pixels of the accepted scenes become unknown in this order: those without a prediction, of refused classes,
    inside the ignored band, below the least confidence of their class, and the least confident of a class (other than
    the background) that would take more than its share of what is left.

    Args:
        predicted: the teacher's predictions.
        config: what is accepted.
        folder: where the labels go.
        least_confidence: by class.
        shares: of the classes among the labelled pixels; the cap is a multiple of them.
        refused: classes that the teacher is not believed about.
    """
    ranked = sorted(
        (p for p in predicted if p.confidence >= config.min_scene_confidence),
        key=lambda p: (not sum(p.pixels[1:]), -p.confidence, p.scene.name),
    )
    rejected = {p.scene.name: LOW_CONFIDENCE for p in predicted if p.confidence < config.min_scene_confidence}
    if config.max_scenes:
        rejected |= {p.scene.name: BEYOND_LIMIT for p in ranked[config.max_scenes :]}
    taken = [p.scene for p in predicted if p.scene.name not in rejected]
    limits = _Limits(config, least_confidence, sorted(refused))
    histogram = np.zeros((len(shares), _LEVELS), np.int64)
    for scene in taken:
        best, level, sure, _ = limits.apply(_read(scene))
        for k in range(len(shares)):
            histogram[k] += np.bincount(level[sure & (best == k)], minlength=_LEVELS)
    cap = _Cap(histogram, shares, config.class_prior_cap)
    accepted, unknown = [], Counter[str]()
    learned = np.zeros(len(shares), np.int64)
    for scene in taken:
        stored = _read(scene)
        best, level, sure, dropped = limits.apply(stored)
        kept = cap.keep(best, level, sure)
        if not kept.any():
            rejected[scene.name] = NOTHING_LEFT
            continue
        unknown.update(dropped)
        unknown["share of the class"] += int((sure & ~kept).sum())
        learned += np.bincount(best[kept], minlength=len(shares))
        labels = _labels(stored, best, kept, hard=config.kind == "hard")
        file = write_soft(folder / f"{scene.name}.tif", labels, scene.grid)
        accepted.append(scene.model_copy(update={"soft": file}))
    total = np.sum([p.pixels for p in predicted], axis=0) if predicted else np.zeros(len(shares), int)
    return ChosenLabels(
        accepted,
        dict(sorted(rejected.items())),
        total.tolist(),
        learned.tolist(),
        {reason: count for reason, count in unknown.items() if count},
        [float(level) / SOFT_SCALE for level in cap.cutoffs],
    )


def levels(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All classes (K, H, W) of stored labels (K - 1, H, W) in 254ths, background first, and which pixels are known."""
    known = (stored != SOFT_UNKNOWN).all(axis=0)
    others = np.where(known, stored.astype(np.int64), 0)
    background = np.maximum(SOFT_SCALE - others.sum(axis=0), 0)
    return np.concatenate([background[None], others]), known


def describe_prediction(scene: Scene, presence: float | None, *, classes: int) -> Predicted:
    """What a stored prediction says of its scene as a whole; pixels without one are passed over."""
    every, known = levels(_read(scene))
    level = every.max(axis=0)[known]
    building = (SOFT_SCALE - every[0])[known]
    counts = np.bincount(every.argmax(axis=0)[known], minlength=classes)
    return Predicted(
        scene,
        float(level.mean()) / SOFT_SCALE if level.size else 0.0,
        float(building.max()) / SOFT_SCALE if building.size else 0.0,
        presence,
        tuple(int(count) for count in counts),
    )


class _Limits:
    """Which pixels are sure enough, before shares are looked at."""

    def __init__(self, config: LabelsConfig, least: Sequence[float], refused: Sequence[int]) -> None:
        self._band, self._refused = config.band, np.array(refused, np.int64)
        self._least = np.array(least) * SOFT_SCALE

    def apply(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
        """Likeliest class, its level in 254ths, which pixels are sure (H, W), and how many were dropped and why."""
        every, known = levels(stored)
        best = every.argmax(axis=0)
        level = every.max(axis=0)
        sure, dropped = known, {"no prediction": int((~known).sum())}

        def keep(where: np.ndarray, reason: str) -> None:
            nonlocal sure
            dropped[reason] = int((sure & ~where).sum())
            sure = sure & where

        keep(~np.isin(best, self._refused), "class refused")
        if self._band is not None:
            low, high = (value * SOFT_SCALE for value in self._band)
            keep((every[1] > high) | (every[1] < low) if len(every) == 2 else level > high, "ignored band")
        # a rounding of 254ths must not drop what was asked for
        keep(level + 0.5 >= self._least[best], "confidence of the class")
        return best, level, sure, dropped


class _Cap:
    """Keeps of every class but the background no more pixels than its share allows, the most confident.

    Of the pixels at the last level that fits in part, which may be all of a saturated model's, as many as still fit
    are kept, evenly spaced in the order of the scenes and rows.
    """

    def __init__(self, histogram: np.ndarray, shares: Sequence[float], cap: float | None) -> None:
        """Take the pixels by class and level (K, 255), the classes' labelled shares, and their factor."""
        self.cutoffs = np.zeros(len(shares), np.int64)  # levels above are kept
        self._ties = np.zeros(len(shares), np.int64)
        self._quota = np.zeros(len(shares), np.int64)  # of the ties at the cutoff
        self._seen = np.zeros(len(shares), np.int64)
        self._capped = []
        for k, share in enumerate(shares):
            limit = None if cap is None or k == 0 else int(cap * share * int(histogram.sum()) + 1e-9)
            if limit is None or limit >= histogram[k].sum():
                continue
            above = histogram[k][::-1].cumsum()[::-1]  # pixels of this level and higher
            level = int(np.flatnonzero(above > limit)[-1])
            self._capped.append(k)
            self.cutoffs[k], self._ties[k] = level, histogram[k, level]
            self._quota[k] = limit - (above[level] - histogram[k, level])

    def keep(self, best: np.ndarray, level: np.ndarray, sure: np.ndarray) -> np.ndarray:
        """Which sure pixels (H, W) of the next scene are kept."""
        kept = sure.copy()
        for k in self._capped:
            mine = sure & (best == k)
            kept[mine & (level < self.cutoffs[k])] = False
            rows, cols = np.nonzero(mine & (level == self.cutoffs[k]))
            number = self._seen[k] + np.arange(len(rows))
            # tie n is kept where the quota's straight line passes a whole number
            taken = (number + 1) * self._quota[k] // self._ties[k] > number * self._quota[k] // self._ties[k]
            kept[rows[~taken], cols[~taken]] = False
            self._seen[k] += len(rows)
        return kept


def _labels(stored: np.ndarray, best: np.ndarray, kept: np.ndarray, *, hard: bool) -> np.ndarray:
    """Probabilities (K - 1, H, W), all or nothing where hard, NaN where not kept."""
    if hard:
        labels = np.stack([(best == k).astype(np.float32) for k in range(1, len(stored) + 1)])
    else:
        labels = stored.astype(np.float32) / SOFT_SCALE
    labels[:, ~kept] = np.nan
    return labels


def _read(scene: Scene) -> np.ndarray:
    """Stored labels (K - 1, H, W)."""
    return read_soft(scene).transpose(2, 0, 1)


def _stored(note: Path, mark: str) -> dict[str, Any] | None:
    """What is known of a prediction; None where it is of another teacher, or broken."""
    try:
        facts: dict[str, Any] = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    return facts if facts.get("fingerprint") == mark else None


def _fingerprint(predictor: AnyPredictor, scene: Scene, settings: dict[str, Any]) -> str:
    """Changes with the teacher, how it is run, and the images as far as their checksums are known."""
    grid: SceneGrid | None = scene.grid
    place = grid.model_dump(mode="json") if grid is not None else None
    size = [scene.width, scene.height]
    text = json.dumps(
        [
            predictor.sha256,
            settings,
            scene.name,
            size,
            place,
            str(scene.pre),
            str(scene.post),
            scene.checksums,
        ],
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
