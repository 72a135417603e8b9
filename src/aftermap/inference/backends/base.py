"""What a predictor needs of a network, whatever runs it."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from aftermap.artefacts.card import Card
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
        backend: the runtime, or `auto`.
        threads: of the processor; 0 takes OMP_NUM_THREADS where it is set, else what the runtime chooses.
        precision: of the network's arithmetic.
        compiled: let torch.compile build kernels for a GPU: a minute at the first window, faster ones after it.
    """

    device: str = "cpu"
    backend: Backend = "torch"
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

    card: Card
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
