"""Tiny models of several kinds, as folders and as exported files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.exported import GRAPH_NAMES, GraphFormat, seal
from aftermap.artefacts.graphs.graph_modules import graph_module
from aftermap.artefacts.graphs.write import save_openvino, to_onnx, to_openvino
from aftermap.artefacts.store import save_model
from aftermap.models.build import build_model
from aftermap.models.configs import AnyModelConfig, SiameseUnetConfig, UnetConfig

SMALL: dict[str, Any] = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (16, 16, 16)}

KINDS: dict[str, AnyModelConfig] = {
    "one date": UnetConfig(**SMALL),
    "two dates": SiameseUnetConfig(**SMALL),
    "folded": SiameseUnetConfig(**SMALL, fold=2, fuse="decoder", head_stride=4),
}

BGR: dict[str, Any] = {
    "bands": ("blue", "green", "red"),
    "normalisation": Normalisation(mean=(90, 100, 120.4), std=(50, 60, 70)),
}


def save(folder: Path, config: AnyModelConfig, seed: int = 0, **card: Any) -> Path:
    """A model folder with random weights whose output differs from pixel to pixel."""
    torch.manual_seed(seed)
    model = build_model(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    values = {
        "name": folder.name,
        "model": config,
        "dates": model.dates,
        "scheme": "building" if model.classes == 2 else "joint-damage-scale",
        "training": TrainingRecord(data="none", data_licence="none"),
        "licence": "MIT",
    }
    save_model(folder, model, Card(**values | card))
    return folder


def export(source: Path, folder: Path, kind: GraphFormat, *, inside: bool = True, **graph: Any) -> Path:
    """An exported model folder; entries of its graph can be given."""
    folder.mkdir()
    made = graph_module(source, inside=inside, graph_format=kind)
    path = folder / GRAPH_NAMES[kind]
    if kind == "onnx":
        to_onnx(made.module, path)
    else:
        save_openvino(to_openvino(made.module), path)
    seal(folder, made.card.model_copy(update={"graph": made.card.graph.model_copy(update=graph)}))
    return folder


def pictures(dates: int = 2, size: tuple[int, int] = (64, 96), batch: int = 2, seed: int = 0) -> np.ndarray:
    """Raw values (B, T, 3, H, W), smooth enough that scales make sense."""
    coarse = np.random.default_rng(seed).integers(0, 256, (batch, dates, 3, size[0] // 8, size[1] // 8))
    return coarse.repeat(8, axis=-2).repeat(8, axis=-1).astype(np.uint8)
