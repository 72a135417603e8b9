"""Models and graphs on the runtimes that they run on; each runtime is imported where it is wanted."""

import copy
import hashlib
import importlib.metadata
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

import torch

import aftermap.models
from aftermap import __version__
from aftermap.artefacts.exported import GraphFormat, load_exported
from aftermap.artefacts.graphs.graph_modules import SingleGraph, sizes_of
from aftermap.artefacts.graphs.write import save_openvino, to_onnx, to_openvino
from aftermap.artefacts.store import LoadedModel
from aftermap.errors import ModelError
from aftermap.extras import needs
from aftermap.inference.backends.base import Execution, GraphFile, GraphNetwork, Network, Runtime
from aftermap.inference.backends.cache import digest, kept_graph
from aftermap.models.configs import CustomConfig

if TYPE_CHECKING:
    from aftermap.artefacts.store import LoadedModel


RUNTIMES: dict[GraphFormat, Runtime] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What runs an exported graph, by its format."""


def open_loaded(loaded: "LoadedModel", runtime: Runtime, execution: Execution) -> Network[Any]:
    """A loaded model on a runtime, converted for it where need be.

    Raises:
        ModelError: it cannot be converted, or does not run in the way asked for.
    """
    if runtime == "torch":
        from aftermap.inference.backends.pytorch import TorchNetwork

        return TorchNetwork(loaded, execution)

    return run_graph(convert(loaded, runtime), runtime, execution)


def open_exported(name: str | Path, execution: Execution) -> Network[Any]:
    """An exported model on its runtime.

    Raises:
        ModelError: its files are not whole, or it was to run on another runtime.
    """
    loaded = load_exported(name)
    graph = loaded.card.graph
    runtime = RUNTIMES[graph.format]
    if execution.backend not in (None, "auto", runtime):
        raise ModelError(
            f"{name} is exported for {runtime}, which {execution.backend} does not run: leave --backend out, or give "
            "the model folder that it was made from"
        )
    described = GraphFile(
        path=loaded.path,
        card=loaded.card,
        sha256=loaded.sha256,
        multiple=graph.multiple,
        least_px=graph.least_px,
        raw=graph.inside,
        weights=graph.precision,
        execution=graph.execution,
        answer=graph.answer,
    )
    return run_graph(described, runtime, execution)


def run_graph(graph: GraphFile, runtime: Runtime, execution: Execution) -> Network[Any]:
    """A graph file on the runtime that reads it, its answer to the probe compared with the stored one.

    Raises:
        ModelError: the graph does not run in the way asked for, or is computed wrongly.
    """
    network = _on_runtime(graph, runtime, execution)
    network.check_answer()
    return network


def _on_runtime(graph: GraphFile, runtime: Runtime, execution: Execution) -> GraphNetwork:
    match runtime:
        case "onnxruntime":
            needs(f"{graph.path.name} for ONNX Runtime", "onnx")
            from aftermap.inference.backends.onnxruntime import OnnxNetwork

            return OnnxNetwork(graph, execution)
        case "openvino":
            from aftermap.inference.backends.openvino import OpenvinoNetwork

            return OpenvinoNetwork(graph, execution)
        case "torch":
            raise ModelError(f"{graph.path} is no model for torch")
        case _:
            assert_never(runtime)


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
