"""From a model's name to its network on the runtime that was asked for."""

from pathlib import Path

from aftermap.artefacts.store import load_model
from aftermap.errors import ModelError
from aftermap.inference.backends.base import Execution, Network, wanted_backend
from aftermap.inference.backends.pytorch import TorchNetwork


def open_network(name: str | Path, execution: Execution | None = None) -> Network:
    """The network of a model folder, an exported model or the model in the box (`"box"`), ready to run.

    Raises:
        ModelError: nothing usable is there, or it does not run in the way asked for.
    """
    execution = execution or Execution()
    backend = wanted_backend(execution.backend)
    if backend not in ("torch", "auto"):
        raise ModelError(f"backend {backend} is not there: use --backend torch")
    return TorchNetwork(load_model(name), execution)
