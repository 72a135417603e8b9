"""From a model's name to its network on the runtime that was asked for."""

import logging
import warnings
from pathlib import Path
from typing import Any

from aftermap.artefacts.exported import EXPORTED_NAME, is_exported, load_exported
from aftermap.artefacts.store import load_card, load_model, model_folder
from aftermap.errors import AftermapError, BackendWarning
from aftermap.extras import needs
from aftermap.inference.backends.base import Execution, GraphFile, Network, wanted_backend
from aftermap.inference.backends.runtimes import RUNTIMES, open_exported, open_loaded, run_graph

LOGGER = logging.getLogger("aftermap.backends")
"""Told in one line what was chosen."""

COMPANIONS = "exported"
"""Sub-folder of a model folder for exported forms of it, such as `exported/openvino-int8`."""


def open_network(name: str | Path, execution: Execution | None = None) -> Network[Any]:
    """The network of a model folder, an exported model or the model in the box (`"box"`), ready to run.

    A model folder runs on PyTorch unless something else is asked for, an exported model on what its file is for.
    With `auto` an exported form that lies in the model's own folder stands in for it, and PyTorch is not imported;
    where there is none the runtimes are measured.

    Raises:
        ModelError: nothing usable is there, or it does not run in the way asked for.
    """
    execution = execution or Execution()
    if is_exported(name):
        return open_exported(name, execution)
    backend = wanted_backend(execution.backend or "torch")
    if backend != "auto":
        needs(f"{name} with --backend {backend}", "train")
        return open_loaded(load_model(name, to_run=True), backend, execution)
    companion = open_companion(name, execution)
    if companion is not None:
        return companion
    needs(f"{name}, of which there is no exported form beside it,", "train")
    from aftermap.inference.backends.auto import AutoNetwork  # which measures PyTorch among others

    return AutoNetwork(load_model(name, to_run=True), execution)


def open_companion(name: str | Path, execution: Execution) -> Network[Any] | None:
    """The smallest exported form of a model in its own folder, run in its place: on a processor, as it passed the gate.

    One of other weights, or that has not passed the gate, is passed over; one that is damaged or does not run here too,
    with a warning.
    """
    if not execution.device.startswith("cpu") or execution.compiled or execution.precision != "auto":
        return None
    folder, card = model_folder(name), load_card(name)
    found: list[tuple[int, Path, GraphFile]] = []
    for file in folder.glob(f"{COMPANIONS}/*/{EXPORTED_NAME}"):
        try:
            exported = load_exported(file.parent)
        except AftermapError as error:
            _pass_over(file.parent, error)
            continue
        graph = exported.card.graph
        if card.weights is None or graph.source.sha256 != card.weights.sha256:
            continue
        if not (graph.parity or {}).get("passed"):
            continue
        described = GraphFile(
            path=exported.path,
            card=card,
            sha256=card.weights.sha256,
            multiple=graph.multiple,
            least_px=graph.least_px,
            raw=graph.inside,
            weights=graph.precision,
            execution=graph.execution,
            answer=graph.answer,
        )
        found.append((graph.bytes, file.parent, described))
    for _, path, described in sorted(found, key=lambda each: each[:2]):
        try:
            runtime = RUNTIMES["onnx" if described.path.suffix == ".onnx" else "openvino"]
            network = run_graph(described, runtime, execution)
        except (AftermapError, ImportError) as error:
            _pass_over(path, error)
            continue
        LOGGER.info("backend %s: it came with the model", path.relative_to(folder).as_posix())
        return network
    return None


def _pass_over(folder: Path, error: Exception) -> None:
    warnings.warn(f"{folder} is passed over: {error}", BackendWarning, stacklevel=3)
