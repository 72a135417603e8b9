"""Scores of the models that `aftermap bench` compares."""

from pathlib import Path

from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError
from aftermap.inference.predictor import AnyPredictor
from aftermap.scoring.counts import plain
from aftermap.workflows.scoring.evaluate import evaluate


def score_model(predictor: AnyPredictor, data: Path, split: str) -> dict[str, float]:
    """`official_score`, where the model tells damage, and `localization_f1`, on labelled scenes.

    Args:
        predictor: the model.
        data: prepared data.
        split: whose scenes; `all` takes every one.
    """
    pixels = evaluate(predictor, labelled_scenes(data, split)).report.pixels
    scores = {"official_score": plain(pixels.score), "localization_f1": plain(pixels.localization_f1)}
    return {name: value for name, value in scores.items() if value is not None}


def labelled_scenes(data: Path, split: str) -> list[Scene]:
    """The labelled scenes of a split of prepared data; `all` takes every split.

    Raises:
        DataError: there are none.
    """
    scenes = Manifest.load(data).scenes
    chosen = [scene for scene in scenes if scene.is_labelled and split in (scene.split, "all")]
    if not chosen:
        raise DataError(f"{data} has no labelled scenes in split {split}: pass another --split, or all")
    return chosen
