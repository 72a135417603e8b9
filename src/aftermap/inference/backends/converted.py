"""Model folders as graphs for runtimes other than PyTorch, converted once and kept in the cache."""

import copy
import hashlib
import importlib.metadata
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import torch

import aftermap.models
from aftermap import __version__
from aftermap.artefacts.graphs.graph_modules import SingleGraph, sizes_of
from aftermap.artefacts.graphs.write import save_openvino, to_onnx, to_openvino
from aftermap.artefacts.store import LoadedModel
from aftermap.files.choices import digest
from aftermap.inference.backends.base import GraphFile
from aftermap.inference.backends.cache import kept_graph
from aftermap.models.configs import CustomConfig

_NAMES = {"onnxruntime": "model.onnx", "openvino": "model.xml"}
_PACKAGES = ("torch", "timm", "segmentation-models-pytorch", "openvino", "onnxruntime", "onnx")


def convert(loaded: LoadedModel, runtime: Literal["onnxruntime", "openvino"]) -> GraphFile:
    """The graph of a model for a runtime, in float32 with normalisation outside; from the cache where it is there.

    Raises:
        ModelError: the model cannot be converted, or a package that this takes is not installed.
        OutputError: there is no room for the graph.
    """

    def make(folder: Path) -> None:
        module = SingleGraph(_on_processor(loaded), inside=False)
        if runtime == "openvino":
            save_openvino(to_openvino(module), folder / _NAMES[runtime])
        else:
            to_onnx(module, folder / _NAMES[runtime])

    card = loaded.card
    # the code of a user's own model may change while its weights stay
    lasting = not isinstance(card.model, CustomConfig)
    key = digest(runtime, loaded.sha256, card.model.model_dump(mode="json"), made_by())
    path = kept_graph(key, _NAMES[runtime], make, lasting=lasting)
    multiple, least_px = sizes_of(loaded)
    return GraphFile(path=path, card=card, sha256=loaded.sha256, multiple=multiple, least_px=least_px)


@cache
def made_by() -> dict[str, str | None]:
    """Everything besides the model that decides what a graph looks like."""
    found: dict[str, str | None] = {"aftermap": __version__, "models": _code_of_models()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _code_of_models() -> str:
    """Checksum of the architectures' source, which may change between two versions."""
    folder = Path(aftermap.models.__path__[0])
    text = b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))
    return hashlib.sha256(text).hexdigest()


def _on_processor(loaded: LoadedModel) -> LoadedModel:
    """The model itself, or a copy of one that is on a GPU."""
    if next(loaded.model.parameters(), torch.zeros(())).device.type == "cpu":
        return loaded
    return replace(loaded, model=copy.deepcopy(loaded.model).cpu())
