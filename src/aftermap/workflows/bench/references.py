"""Architectures with random weights, to be timed: what `reference:` knows, their model folders, and what they take."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.store import save_model
from aftermap.classes import BUILDING, DAMAGE
from aftermap.models.build import build_model
from aftermap.models.configs import AnyModelConfig, CustomConfig
from aftermap.models.networks.dense import count_parameters
from aftermap.models.weights.published import PUBLISHED
from aftermap.workflows.weights.catalogue import listed_models
from aftermap.workflows.weights.counting import measure

_CALIBRATION_PX = 128


def references() -> dict[str, AnyModelConfig]:
    """Every architecture that `reference:` knows, by name."""
    listed = {
        f"{entry.name}-{use}": config
        for entry in listed_models()
        for use, config in (("localization", entry.localization), ("damage", entry.damage))
        if config is not None and not isinstance(config, CustomConfig)
    }
    return {name: entry.config for name, entry in PUBLISHED.items()} | listed


def write_reference(kind: str, folder: Path, seed: int) -> None:
    """A model folder with random weights and statistics of batch normalisation that fit them.

    Without these, values grow or shrink from layer to layer, and half precision overflows.
    """
    config = references()[kind]
    config = config.model_copy(update={"encoder_weights": None})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(config)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        with torch.inference_mode():
            model.train()(torch.randn(2, model.dates, 3, _CALIBRATION_PX, _CALIBRATION_PX))
    entry = PUBLISHED.get(kind)
    one = config.classes == 1
    details: dict[str, Any] = {"activation": "sigmoid"} if one else {}
    if entry is not None:
        details = {
            "activation": entry.activation,
            "channel_0": entry.channel_0,
            "bands": entry.bands,
            "normalisation": Normalisation(mean=entry.mean, std=entry.std),
        }
    card = Card(
        name=kind,
        dates=2 if model.dates == 2 else 1,
        scheme=BUILDING.name if config.classes <= 2 else DAMAGE.name,
        model=config,
        training=TrainingRecord(data="none: random weights", data_licence="none"),
        licence="MIT",
        limits="Random weights, for timing only.",
        **details,
    )
    save_model(folder, model.eval(), card)


def measured(config: AnyModelConfig, size_px: int) -> tuple[int, float | None]:
    """Parameters and 1e9 multiply-accumulates of one scene, None where a model of the user's own cannot be counted."""
    try:
        counted = measure(config, size_px=size_px)
    except Exception:
        if not isinstance(config, CustomConfig):
            raise
        return count_parameters(build_model(config)), None
    return counted.total, counted.gmacs
