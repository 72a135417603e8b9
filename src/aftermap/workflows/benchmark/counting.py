"""What is kept of a scene that a model was shown: counts by pixel and building, and what each given building got."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.errors import DataError
from aftermap.files import replacing
from aftermap.inference.objects.buildings import Evidence
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.scoring.instances import label_components
from aftermap.scoring.objects import TargetBuildings, count_buildings
from aftermap.scoring.pixels import count_pixels
from aftermap.workflows.scoring.evaluate import decide


@dataclass(frozen=True, slots=True)
class SceneCounts:
    """One scene, one model.

    Attributes:
        pixels: int64 (108,), see `pixels.count_pixels`. buildings: int64 (28,), see `objects.count_buildings`.
        own: float64 (n, 4), the model's probabilities of each given building, corrected where its card says how.
        decided: int64 (n,), 0 to 3, the class that is decided. truth: int64 (n,), 0 to 3.
        mpx: size of the scene. seconds: processor time of the network, all threads.
    """

    pixels: np.ndarray
    buildings: np.ndarray
    own: np.ndarray
    decided: np.ndarray
    truth: np.ndarray
    mpx: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Target:
    """A scene, read and numbered once for all models: images uint8 (T, 3, H, W), masks (H, W), buildings."""

    images: np.ndarray
    building: np.ndarray
    damage: np.ndarray
    buildings: TargetBuildings

    @classmethod
    def of(cls, scene: Scene) -> "Target":
        """Read it.

        Raises:
            DataError: an image or a mask cannot be read.
        """
        building, damage = read_mask(scene, target="building"), read_mask(scene, target="damage")
        return cls(read_images(scene, dates=2), building, damage, TargetBuildings.of(building, damage))


def count_scene(predictor: AnyPredictor, target: Target) -> SceneCounts:
    """Show a scene to a model, and count.

    A given building is a connected part of one class of the damage mask: touching houses of one class are one, as masks
    know no more.
    """
    started = time.process_time()
    probabilities = predict_scene(predictor, target.images[: predictor.dates])
    seconds = time.process_time() - started
    building, damage = decide(probabilities, Decision.of(predictor.card))
    assert damage is not None
    instances = _shapes(building, probabilities, predictor.card.object_threshold)
    labels, count = target.buildings.buildings.labels, target.buildings.buildings.count
    evidence = Evidence(count, predictor.damage_weights)
    unknown = np.zeros(labels.shape, np.uint8)
    evidence.add(labels, probabilities, unknown)
    judged = (evidence.pixels[:, 0] > 0) & (target.buildings.classes > 0)
    means = evidence.levels[judged] / evidence.pixels[judged, :1]
    own = means[:, 4:8] / means[:, 4:8].sum(axis=1, keepdims=True)
    card = predictor.card
    return SceneCounts(
        count_pixels(building, damage, target.building, target.damage),
        count_buildings(damage * building, instances, target.buildings),
        own if card.calibration is None else card.calibration.apply(own),
        means[:, :4].argmax(axis=1),
        target.buildings.classes[judged].astype(np.int64) - 1,
        building.size / 1e6,
        seconds,
    )


def save_counts(path: Path, counts: list[SceneCounts]) -> None:
    """Write what models made of one scene, whole or not at all."""
    arrays = {
        f"{number}_{field.name}": np.asarray(getattr(one, field.name))
        for number, one in enumerate(counts)
        for field in fields(SceneCounts)
    }
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stubs take allow_pickle for an array


def load_counts(path: Path, models: int) -> list[SceneCounts] | None:
    """What `save_counts` wrote; None where there is nothing of so many models."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return list(_stored(dict(stored), models))
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _stored(arrays: dict[str, np.ndarray], models: int) -> Iterator[SceneCounts]:
    for number in range(models):
        values: dict[str, Any] = {f.name: arrays[f"{number}_{f.name}"] for f in fields(SceneCounts)}
        yield SceneCounts(**values | {name: float(values[name]) for name in ("mpx", "seconds")})


def check_model(predictor: AnyPredictor, name: str) -> None:
    """Refuse a model that a benchmark of damage cannot score.

    Raises:
        DataError: it tells something else.
    """
    if predictor.card.legend is not None or len(predictor.card.classes) != 5:
        raise DataError(f"{name} tells {predictor.card.scheme}: a benchmark compares models of damage")


def _shapes(building: np.ndarray, probabilities: np.ndarray, least: float) -> np.ndarray:
    """Parts of the building mask, numbered from 1 (H, W), but for those whose mean p(building) is below `least`."""
    parts = label_components(building)
    if not least:
        return parts
    inside = np.flatnonzero(parts)
    numbers = parts.ravel()[inside]
    sizes = np.maximum(np.bincount(numbers), 1)
    kept = np.bincount(numbers, weights=1 - probabilities[0].ravel()[inside]) / sizes >= least
    shapes = np.zeros_like(parts)
    shapes.ravel()[inside] = (np.cumsum(kept) * kept)[numbers]
    return shapes
