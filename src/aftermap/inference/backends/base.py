"""What a predictor needs of a network, whatever runs it."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from aftermap.artefacts.card import Card
from aftermap.artefacts.exported import ExportedCard
from aftermap.errors import ModelError

Runtime = Literal["torch", "onnxruntime", "openvino"]
"""What runs a network."""

Backend = Literal["auto", "torch", "onnxruntime", "openvino"]
"""A runtime, or `auto` for the fastest measured on this machine."""

Precision = Literal["auto", "f32", "bf16", "f16"]
"""Arithmetic of the network: `auto` is what an exported file says, f16 on a GPU and f32 everywhere else."""

BACKEND_VARIABLE = "AFTERMAP_BACKEND"
"""Environment variable with the runtime that `auto` stands for."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How a network is run.

    Attributes:
        device: `cpu`, `cuda` or `cuda:n`.
        backend: the runtime, or `auto`; None is PyTorch for a model folder, and an exported file's own runtime.
        threads: of the processor; 0 takes OMP_NUM_THREADS where it is set, else what the runtime chooses.
        precision: of the network's arithmetic.
        compiled: let torch.compile build kernels for a GPU: a minute at the first window, faster ones after it.
    """

    device: str = "cpu"
    backend: Backend | None = None
    threads: int = 0
    precision: Precision = "auto"
    compiled: bool = False


class Network(ABC):
    """A model's network on a runtime: images in, logits out.

    Attributes:
        card: bands, normalisation, activation and classes of the model.
        sha256: identifies its weights.
        multiple: heights and widths must be multiples of this.
        raw: whether it takes raw values (normalisation is inside of the network) in the order of
            `card.given_bands`, instead of normalised float32 in the order of `card.bands`.
        backend: what runs it.
        device: where it takes images and leaves logits.
        threads: of the processor; 0 where the runtime chose.
        precision: of its arithmetic: f32, bf16, f16 or int8.
    """

    card: Card | ExportedCard
    sha256: str
    multiple: int
    raw: bool = False
    backend: Runtime
    device: torch.device
    threads: int = 0
    precision: str = "f32"

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, T, C, H, W); the next call may overwrite them.

        Args:
            images: on `device`: raw values in the card's dtype where `raw`, else normalised float32.
        """

    @property
    def execution(self) -> dict[str, Any]:
        """How it is run, for reports."""
        return {
            "backend": self.backend,
            "device": str(self.device),
            "threads": self.threads or None,
            "precision": self.precision,
        }


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A graph on disk that a runtime reads.

    Attributes:
        path: the `.onnx` or `.xml` file.
        card: of the model.
        sha256: identifies the model's weights.
        multiple: heights and widths must be multiples of this.
        least_px: the smallest height and width.
        raw: whether normalisation is inside of it.
        weights: how its weights are stored: fp32, fp16 or int8.
        execution: arithmetic that it was accepted with, f32 or bf16.
    """

    path: Path
    card: Card | ExportedCard
    sha256: str
    multiple: int
    least_px: int = 1
    raw: bool = False
    weights: str = "fp32"
    execution: str = "f32"


class GraphNetwork(Network):
    """What networks have in common that are read from a graph file."""

    def __init__(self, graph: GraphFile, execution: Execution) -> None:
        """Take over what the graph is; see `Network`."""
        self.graph = graph
        self.card, self.sha256 = graph.card, graph.sha256
        self.multiple, self.raw = graph.multiple, graph.raw
        self.device = torch_device(execution.device)
        self.threads = thread_count(execution.threads)
        if execution.compiled:
            raise ModelError(
                f"torch.compile is nothing for {self.backend}: leave --compile out, or use --backend torch"
            )

    @property
    def execution(self) -> dict[str, Any]:
        """How it is run, for reports."""
        told = super().execution
        return told if self.graph.weights == "fp32" else told | {"weights": self.graph.weights}

    def array(self, images: Tensor) -> np.ndarray:
        """Images as an array in one piece, without a copy where they are on the processor and in one piece.

        Raises:
            ModelError: they are smaller than the graph takes.
        """
        if min(images.shape[-2:]) < self.graph.least_px:
            height, width = images.shape[-2:]
            raise ModelError(
                f"{self.card.name} takes no images of {height} x {width} px: at least {self.graph.least_px} px"
            )
        found: np.ndarray = np.ascontiguousarray(images.cpu().numpy())
        return found


def thread_count(threads: int) -> int:
    """Threads to run with: those asked for, else OMP_NUM_THREADS, else 0 for the runtime's own choice.

    PyTorch follows that variable by itself and the other runtimes do not; here all do.

    Raises:
        ModelError: a negative number.
    """
    if threads < 0:
        raise ModelError(f"{threads} threads: expected 0 (all that the runtime takes) or more")
    if threads:
        return threads
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdigit() else 0


def wanted_backend(backend: Backend) -> Backend:
    """The backend, with `auto` replaced by what AFTERMAP_BACKEND names.

    Raises:
        ModelError: no such backend.
    """
    chosen, origin = backend, "backend"
    if backend == "auto" and os.environ.get(BACKEND_VARIABLE):
        chosen, origin = os.environ[BACKEND_VARIABLE], BACKEND_VARIABLE  # type: ignore[assignment]
    if chosen not in get_args(Backend):
        raise ModelError(f"{origin} {chosen!r}: expected one of {', '.join(get_args(Backend))}")
    return chosen


def torch_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ModelError: no such device, or no GPU here.
    """
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ModelError(f"no device {name!r}: use cpu, cuda or cuda:n")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("device cuda was asked for, but torch sees no GPU here: use --device cpu")
    return torch.device(name)
