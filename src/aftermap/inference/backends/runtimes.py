"""Models and graphs on the runtimes that they run on; each runtime is imported where it is wanted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from aftermap.artefacts.exported import GraphFormat, load_exported
from aftermap.errors import ModelError
from aftermap.extras import needs
from aftermap.inference.backends.base import Execution, GraphFile, GraphNetwork, Network, Runtime

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
    from aftermap.inference.backends.converted import convert

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
