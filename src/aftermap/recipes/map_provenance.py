"""What a map's `provenance.json` says: model, inputs, options, warnings, times."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aftermap.inference.ensemble import EnsemblePredictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.products.provenance import describe_file, describe_grid, describe_input, versions
from aftermap.recipes.inputs import Inputs


def describe_run(
    inputs: Inputs,
    predictor: AnyPredictor,
    options: dict[str, Any],
    messages: Sequence[str],
    footprints: Path | None,
    aoi: Path | None,
    seconds: tuple[float, Mapping[str, float]],
    start_row: int,
) -> dict[str, Any]:
    """What `provenance.json` says of a map.

    Args:
        inputs: what was mapped.
        predictor: the model, after it ran.
        options: those that decide the pixels.
        messages: what the user was warned about.
        footprints: the user's buildings.
        aoi: the user's area.
        seconds: wall time so far, in all and by stage.
        start_row: the row from which an interrupted run went on.
    """
    card, pair = predictor.card, inputs.pair
    described = {
        name: describe_input(source.files, source.grid, dtype=source.dtype, bands=source.bands)
        for name, source in (("pre", pair.pre), ("post", pair.post), ("cloud_mask", inputs.cloud_mask))
        if source is not None
    }
    described |= {
        name: describe_file(path)
        for name, path in (("footprints", footprints), ("aoi", aoi))
        if path is not None
    }
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": "pre+post",
        "scale": card.scheme,
        "model": {
            "name": card.name,
            "version": card.version,
            "sha256": predictor.sha256,
            "licence": card.licence,
            "training_data": card.training.data,
            "training_data_licence": card.training.data_licence,
            "building_threshold": card.building_threshold,
            "class_thresholds": card.class_thresholds,
            "minor_dilation": card.minor_dilation,
            "limits": card.limits,
        },
        "inputs": described,
        "grid": describe_grid(inputs.grid),
        "shift": pair.shift,
        "stretch": inputs.stretches or None,
        "options": options,
        "execution": predictor.execution or None,
        "warnings": list(messages),
        "notes": list(inputs.notes),
        "resumed_at_row": start_row or None,
        "gate": gate_counts(predictor),
        "seconds": round(seconds[0], 1),
        "stages": {stage: round(value, 2) for stage, value in seconds[1].items()},
        "versions": versions(),
    }


def gate_counts(predictor: AnyPredictor) -> dict[str, Any] | None:
    """What an ensemble's gate did since this run began."""
    gate = predictor.gate if isinstance(predictor, EnsemblePredictor) else None
    return gate.as_dict() if gate is not None else None
