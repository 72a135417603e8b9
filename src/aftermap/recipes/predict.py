"""Predictions of a whole dataset as PNGs in the xView2 competition's naming, ready for `aftermap score`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.errors import OutputError
from aftermap.inference.predictor import Predictor
from aftermap.recipes.evaluate import decide, predict_scene


def predict_dataset(
    predictor: Predictor,
    scenes: Sequence[Scene],
    folder: Path,
    *,
    targets: Path | None = None,
    overwrite: bool = False,
    on_scene: Callable[[Scene], None] | None = None,
) -> int:
    """Write `<event>_<number>_localization_prediction.png` and, for damage models, `..._damage_prediction.png`.

    A scene whose files exist is passed over, so that an interrupted run goes on where it stopped.

    Args:
        predictor: the model.
        scenes: what to predict, with or without labels.
        folder: where the predictions go.
        targets: where the truth of labelled scenes goes in the same naming (`..._target.png`); None writes none.
        overwrite: predict again what is there.
        on_scene: called after every scene.

    Returns:
        How many scenes were predicted.

    Raises:
        OutputError: a folder cannot be written.
    """
    count = 0
    for scene in scenes:
        last = folder / competition_name(scene, "localization", "prediction")
        if overwrite or not last.exists():
            probabilities = predict_scene(predictor, read_images(scene, dates=predictor.dates))
            building, damage = decide(probabilities, predictor.card.building_threshold)
            if damage is not None:
                _write(folder / competition_name(scene, "damage", "prediction"), damage * building)
            _write(last, building)
            count += 1
        if targets is not None and scene.is_labelled:
            _write(
                targets / competition_name(scene, "localization", "target"),
                read_mask(scene, target="building"),
            )
            if scene.damage_mask is not None:
                _write(
                    targets / competition_name(scene, "damage", "target"), read_mask(scene, target="damage")
                )
        if on_scene is not None:
            on_scene(scene)
    return count


def competition_name(scene: Scene, task: str, role: str) -> str:
    """File name of a mask: `guatemala-volcano_00000001_damage_prediction.png`."""
    return f"{scene.name}_{task}_{role}.png"


def _write(path: Path, mask: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
        temporary.rename(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
