"""Scores of the models that `aftermap bench` compares."""

from pathlib import Path

from aftermap.data.scene import labelled_scenes
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
