"""Choosing the threshold of a gate on labelled scenes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from aftermap.artefacts.ensemble import is_ensemble
from aftermap.data.scene import Scene
from aftermap.errors import ModelError
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.gate import GateChoice, choose_gate
from aftermap.inference.predictor import Predictor


def choose_gate_threshold(
    model: str | Path,
    scenes: Sequence[Scene],
    *,
    lose: float,
    min_pixels: int,
    options: Options | None = None,
    on_scene: Callable[[], None] | None = None,
) -> GateChoice:
    """The largest threshold at which a model as a gate costs at most a share of the buildings' pixels.

    Args:
        model: a localization model of one date.
        scenes: labelled ones, which must not be those that will judge the gated model.
        lose: share of the labelled building pixels that may lie in windows taken as empty.
        min_pixels: windows with fewer pixels above the threshold are empty.
        options: how the model is run.
        on_scene: called after every scene.

    Raises:
        ModelError: it cannot be a gate, or sees nothing where buildings are.
        DataError: no building is labelled.
    """
    predictor = None if is_ensemble(model) else open_predictor(model, options)
    if not isinstance(predictor, Predictor) or predictor.dates != 1 or len(predictor.card.classes) != 2:
        raise ModelError(f"{model} cannot be a gate: expected a localization model of one date")
    return choose_gate(predictor, scenes, lose=lose, min_pixels=min_pixels, on_scene=on_scene)
