"""What a predictor needs of a network, whatever runs it."""

import os
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, get_args

import numpy as np

from aftermap.artefacts.arrays import A, blank, copied, filled
from aftermap.artefacts.card import Card
from aftermap.artefacts.exported import ExportedCard
from aftermap.artefacts.graphs.probe import MOST_DEVIATION, Answer, probe, probe_size
from aftermap.errors import ModelError
from aftermap.files.choices import digest, recall, remember

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


class Network(ABC, Generic[A]):
    """A model's network on a runtime: raw values in, prepared for it, logits out.

    PyTorch calculates with its tensors on a device; graphs are given NumPy's arrays, and give such.

    Attributes:
        card: bands, normalisation, activation and classes of the model.
        sha256: identifies its weights.
        multiple: heights and widths must be multiples of this.
        raw: whether it takes raw values (normalisation is inside of the network) in the order of
            `card.given_bands`, instead of normalised float32 in the order of `card.bands`.
        backend: what runs it.
        device: where it calculates: `cpu`, `cuda` or `cuda:n`.
        threads: of the processor; 0 where the runtime chose.
        precision: of its arithmetic: f32, bf16, f16 or int8.
    """

    card: Card | ExportedCard
    sha256: str
    multiple: int
    raw: bool = False
    backend: Runtime
    device: str = "cpu"
    threads: int = 0
    precision: str = "f32"

    @abstractmethod
    def take(self, array: np.ndarray) -> A:
        """An array as what it calculates with, without a copy where that can be."""

    @abstractmethod
    def __call__(self, images: A) -> A:
        """Logits (B, K, H, W) of images (B, T, C, H, W); the next call may overwrite them.

        Args:
            images: as `prepare` gives them: raw values in the card's dtype where `raw`, else normalised float32.
        """

    def release(self) -> None:
        """Give memory back that only the next call needs, which takes it anew."""

    def working(self) -> AbstractContextManager[Any]:
        """What it and the arithmetic around it run in."""
        return nullcontext()

    def prepare(self, images: np.ndarray, valid: np.ndarray | None = None) -> A:
        """Raw values (B, T, C, H, W) to what the network takes.

        Pixels without data come to the middle of the range: 0 after the normalisation, and the rounded mean before one
        that is inside of the network. The next call may overwrite what this one gives.

        Args:
            images: in the card's dtype, bands in the order of `card.given_bands`.
            valid: bool (B, T, H, W), False where a date has no data.
        """
        hidden = None if valid is None or valid.all() else self.take(~valid[:, :, None])
        if self.raw:
            x = self.take(images)
            return x if hidden is None else filled(x, hidden, self._middle)
        order = list(self.card.band_order)
        if images.shape[2] == len(order) and order != sorted(order):
            images = images[:, :, order]
        x = copied(self.take(images))
        x -= self._mean  # in place, as memory traffic is what this costs
        x /= self._std
        if hidden is not None:
            blank(x, hidden)
        return x

    @property
    def execution(self) -> dict[str, Any]:
        """How it is run, for reports."""
        return {
            "backend": self.backend,
            "device": self.device,
            "threads": self.threads or None,
            "precision": self.precision,
        }

    @cached_property
    def _mean(self) -> A:
        return self._by_band(self.card.normalisation.mean)

    @cached_property
    def _std(self) -> A:
        return self._by_band(self.card.normalisation.std)

    @cached_property
    def _middle(self) -> A:
        """The rounded mean of the bands as they are given."""
        given = np.empty(len(self.card.band_order), np.float32)
        given[list(self.card.band_order)] = self.card.normalisation.mean
        return self._by_band(given.round())

    def _by_band(self, values: Any) -> A:
        return self.take(np.array(values, np.float32).reshape(1, 1, -1, 1, 1))


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
        answer: what it says of the probe, where that was kept.
    """

    path: Path
    card: Card | ExportedCard
    sha256: str
    multiple: int
    least_px: int = 1
    raw: bool = False
    weights: str = "fp32"
    execution: str = "f32"
    answer: Answer | None = None


class GraphNetwork(Network[np.ndarray]):
    """What networks have in common that are read from a graph file.

    Attributes:
        graph: the file.
        kept_as: names what was compiled for this machine and is kept; None where it is compiled anew each time.
    """

    kept_as: str | None = None

    def __init__(self, graph: GraphFile, execution: Execution) -> None:
        """Take over what the graph is; see `Network`."""
        self.graph = graph
        self.card, self.sha256 = graph.card, graph.sha256
        self.multiple, self.raw = graph.multiple, graph.raw
        self.device = known_device(execution.device)
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

    def take(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def answers(self) -> Answer:
        """What it says of the probe."""
        size = probe_size(self.multiple, self.graph.least_px)
        images = probe(self.card.dates, len(self.card.bands), size)
        return Answer.of(self(self.prepare(images)), size)

    def check_answer(self) -> None:
        """Compare what it says of the probe with what it said when it was exported; of what is kept compiled, once.

        Raises:
            ModelError: it says something else, so that this runtime computes it wrongly here.
        """
        kept = self.graph.answer
        if kept is None:
            return
        key = None if self.kept_as is None else digest("answer", self.kept_as, kept.model_dump())
        if key is not None and recall(key) is not None:
            return
        images = probe(self.card.dates, len(self.card.bands), kept.size_px)
        deviation = kept.deviation(self(self.prepare(images)))
        if not deviation <= MOST_DEVIATION:
            raise ModelError(
                f"{self.backend} computes {self.graph.path} wrongly on this machine: its answer to a known image is "
                f"{deviation:.0%} of the spread away from the stored one, at most {MOST_DEVIATION:.0%} is rounding: take "
                f"another version of {self.backend}, or the model that it was exported from with --backend torch"
            )
        if key is not None:
            remember(key, {"deviation": deviation})

    def whole(self, images: np.ndarray) -> np.ndarray:
        """Images in one piece of memory, without a copy where they are.

        Raises:
            ModelError: they are smaller than the graph takes.
        """
        if min(images.shape[-2:]) < self.graph.least_px:
            height, width = images.shape[-2:]
            raise ModelError(
                f"{self.card.name} takes no images of {height} x {width} px: at least {self.graph.least_px} px"
            )
        return np.ascontiguousarray(images)


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


def known_device(name: str) -> str:
    """The name of a device, if it is one.

    Raises:
        ModelError: there is no such kind of device.
    """
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ModelError(f"no device {name!r}: use cpu, cuda or cuda:n")
    return name
