"""From a model's name to its network on the runtime that was asked for."""

from pathlib import Path
from typing import assert_never

from aftermap.artefacts.exported import is_exported, load_exported
from aftermap.artefacts.store import LoadedModel, load_model
from aftermap.errors import ModelError
from aftermap.extras import needs
from aftermap.inference.backends.base import Execution, GraphFile, Network, Runtime, wanted_backend
from aftermap.inference.backends.converted import convert
from aftermap.inference.backends.pytorch import TorchNetwork

RUNTIMES: dict[str, Runtime] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What runs an exported graph, by its format."""


def open_network(name: str | Path, execution: Execution | None = None) -> Network:
    """The network of a model folder, an exported model or the model in the box (`"box"`), ready to run.

    A model folder runs on PyTorch unless something else is asked for, an exported model on what its file is for.

    Raises:
        ModelError: nothing usable is there, or it does not run in the way asked for.
    """
    execution = execution or Execution()
    if is_exported(name):
        return open_exported(name, execution)
    backend = wanted_backend(execution.backend or "torch")
    loaded = load_model(name)
    if backend == "auto":
        from aftermap.inference.backends.auto import AutoNetwork  # built on this module

        return AutoNetwork(loaded, execution)
    return open_loaded(loaded, backend, execution)


def open_loaded(loaded: LoadedModel, runtime: Runtime, execution: Execution) -> Network:
    """A loaded model on a runtime, converted for it where need be.

    Raises:
        ModelError: it cannot be converted, or does not run in the way asked for.
    """
    if runtime == "torch":
        return TorchNetwork(loaded, execution)
    return run_graph(convert(loaded, runtime), runtime, execution)


def open_exported(name: str | Path, execution: Execution) -> Network:
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
    )
    return run_graph(described, runtime, execution)


def run_graph(graph: GraphFile, runtime: Runtime, execution: Execution) -> Network:
    """A graph file on the runtime that reads it."""
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
