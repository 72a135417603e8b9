"""The fastest runtime for a model on this machine: measured on its first window, remembered for the next program."""

import importlib.metadata
import importlib.util
import logging
import os
import time
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np
import torch

from aftermap.artefacts.activation import to_channels, to_probabilities
from aftermap.artefacts.arrays import as_numpy
from aftermap.artefacts.store import LoadedModel
from aftermap.errors import AftermapError, BackendWarning
from aftermap.files.choices import digest, processor, recall, remember
from aftermap.inference.backends.base import Execution, Network, Runtime
from aftermap.inference.backends.converted import made_by
from aftermap.inference.backends.pytorch import torch_device
from aftermap.inference.backends.runtimes import open_loaded

LOGGER = logging.getLogger("aftermap.backends")
"""Told in one line what was chosen."""

MEAN_DIFFERENCE, TAIL_DIFFERENCE, TAIL = 1e-3, 2e-2, 0.999
"""A runtime is left out whose probabilities differ from PyTorch's by more in the mean, or at that quantile."""

ROUNDS = 4
SECONDS = 6.0
"""Most repeats, and the time after which no further round is begun."""

SLOW_SECONDS = 20.0
"""Where the first calls alone took longer, they are what counts."""

_HOPELESS = 1.5  # times the fastest: not repeated
_settled: dict[str, "Choice"] = {}  # by architecture: what this program has chosen


@dataclass(frozen=True, slots=True)
class Choice:
    """Which runtime was taken, and why.

    Attributes:
        runtime: the fastest.
        seconds: the least time per batch of windows, by runtime.
        left_out: runtimes that were no candidates, with the reason.
        window: shape (B, T, C, H, W) that was timed.
        remembered: whether it was measured by an earlier program.
    """

    runtime: Runtime
    seconds: dict[str, float]
    left_out: dict[str, str]
    window: tuple[int, ...]
    remembered: bool = False

    def __str__(self) -> str:
        """One line for the user."""
        mine = self.seconds[self.runtime]
        others = sorted((s / mine, name) for name, s in self.seconds.items() if name != self.runtime)
        ratios = [f"{ratio:.1f} times as fast as {name}" for ratio, name in others]
        why = ", ".join(ratios) if ratios else "nothing else runs this model here"
        when = "measured earlier" if self.remembered else "measured now"
        return f"backend {self.runtime}: {why} ({self.window[-2]} x {self.window[-1]} px, {when})"


class AutoNetwork(Network[Any]):
    """A model on the runtime that is fastest for its first window; until then it is none.

    Every candidate is shown that window and timed, in turn, a few times. One whose probabilities are not PyTorch's is
    left out with a warning. The choice holds for all models of that architecture in this program, and is kept
    in the cache folder for this model, machine, window size and these versions.
    """

    def __init__(self, loaded: LoadedModel, execution: Execution) -> None:
        """Take the model; nothing is converted or measured yet."""
        self._torch_device = torch_device(execution.device)
        self.device = str(self._torch_device)
        self.card, self.sha256, self.multiple = loaded.card, loaded.sha256, loaded.model.stride
        self.backend, self.threads = "torch", execution.threads
        self._loaded: LoadedModel | None = loaded
        self._execution = execution
        self._network: Network[Any] | None = None
        self.choice: Choice | None = None

    def prepare(self, images: np.ndarray, valid: np.ndarray | None = None) -> Any:
        """See `Network.prepare`; the first call decides on the runtime."""
        if self._network is None:
            self._settle(super().prepare(images, valid))
        assert self._network is not None
        return self._network.prepare(images, valid)

    def take(self, array: np.ndarray) -> Any:
        """The array as what the chosen runtime calculates with; until one is chosen, itself."""
        return array if self._network is None else self._network.take(array)

    def release(self) -> None:
        """As the runtime does."""
        if self._network is not None:
            self._network.release()

    def working(self) -> AbstractContextManager[Any]:
        """Nothing is kept for learning, whatever the runtime."""
        return torch.inference_mode()

    def __call__(self, images: Any) -> Any:
        """Logits of prepared images."""
        assert self._network is not None
        return self._network(images)

    @property
    def execution(self) -> dict[str, Any]:
        """How it is run, for reports; before the first window that is not known."""
        if self._network is None or self.choice is None:
            return {"backend": "auto", "device": self.device}
        choice = {key: value for key, value in asdict(self.choice).items() if key != "runtime"}
        return self._network.execution | {"auto": choice}

    def _settle(self, images: np.ndarray) -> None:
        assert self._loaded is not None
        loaded, execution, shape = self._loaded, self._execution, images.shape
        setting = digest(_machine(self._torch_device), asdict(execution), made_by(), _size_class(shape))
        architecture = digest(loaded.card.model.model_dump(mode="json"), setting)
        key = digest(loaded.sha256, architecture)
        known = _settled.get(architecture)
        choice = known or _recalled(key)
        if choice is not None:
            try:
                self._network = open_loaded(loaded, choice.runtime, execution)
            except AftermapError:  # no longer what it was
                choice = known = None
        if choice is None:
            self._network, choice = choose(loaded, images, execution)
            remember(key, asdict(choice))
        if known is None:
            LOGGER.info("%s", choice)
        _settled[architecture] = choice
        assert self._network is not None
        self.choice, self._loaded = choice, None
        self.backend, self.threads = self._network.backend, self._network.threads
        self.precision = self._network.precision


def choose(loaded: LoadedModel, images: np.ndarray, execution: Execution) -> tuple[Network[Any], Choice]:
    """Measure the runtimes on images and take the fastest that gives PyTorch's probabilities.

    Args:
        loaded: the model.
        images: normalised float32 (B, T, C, H, W), as they will come.
        execution: `backend` is not looked at.
    """
    networks: dict[Runtime, Network[Any]] = {}
    first: dict[Runtime, float] = {}
    left_out: dict[str, str] = {}
    expected: np.ndarray | None = None
    for runtime in get_args(Runtime):
        reason = missing(runtime, execution)
        if reason is None:
            try:
                network = open_loaded(loaded, runtime, execution)
                first[runtime], logits = _timed(network, images)
            except AftermapError as error:
                if runtime == "torch":
                    raise
                reason = str(error)
        if reason is None:
            found = _probabilities(network, logits)
            if expected is None:
                expected = found
            else:
                reason = _disagreement(loaded.card.name, runtime, expected, found)
        if reason is None:
            networks[runtime] = network
        else:
            left_out[runtime] = reason
    seconds = measure(networks, images, {runtime: first[runtime] for runtime in networks})
    fastest = min(seconds, key=lambda runtime: seconds[runtime])
    told = {str(runtime): round(value, 5) for runtime, value in seconds.items()}
    return networks[fastest], Choice(fastest, told, left_out, images.shape)


def measure(
    networks: Mapping[Runtime, Network[Any]], images: np.ndarray, first: Mapping[Runtime, float]
) -> dict[Runtime, float]:
    """The least seconds per call of each network, in rounds over all of them so that each sees the same machine.

    After a round those go that are far behind. Where the first calls alone took longer than `SLOW_SECONDS`, they are
    what counts.

    Args:
        networks: by runtime.
        images: what they are shown.
        first: seconds that the first call of each took, which is slower than the others.
    """
    if len(networks) == 1 or sum(first.values()) > SLOW_SECONDS:
        return dict(first)
    least: dict[Runtime, float] = {}
    running, begun = list(networks), time.perf_counter()
    for _ in range(ROUNDS):
        for runtime in running:
            taken, _ = _timed(networks[runtime], images)
            least[runtime] = min(taken, least.get(runtime, taken))
        limit = _HOPELESS * min(least.values())
        running = [runtime for runtime in running if least[runtime] <= limit]
        if len(running) == 1 or time.perf_counter() - begun > SECONDS:
            break
    return least


def missing(runtime: Runtime, execution: Execution) -> str | None:
    """Why a runtime need not be tried, or None."""
    if runtime == "torch":
        return None
    if execution.compiled:
        return "torch.compile was asked for"
    if runtime == "openvino" and not execution.device.startswith("cpu"):
        return f"openvino does not run on {execution.device}"
    needed = ("openvino",) if runtime == "openvino" else ("onnxruntime", "onnx")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed" if absent else None


def _timed(network: Network[Any], images: np.ndarray) -> tuple[float, Any]:
    """Seconds until the logits are there, and the logits."""
    taken = network.take(images)
    begun = time.perf_counter()
    logits = network(taken)
    if isinstance(logits, torch.Tensor) and logits.is_cuda:
        torch.cuda.synchronize(logits.device)
    return time.perf_counter() - begun, logits


def _probabilities(network: Network[Any], logits: Any) -> np.ndarray:
    card = network.card
    channels = to_channels(
        logits, activation=card.activation, channel_0=card.channel_0, temperature=card.temperature
    )
    return as_numpy(to_probabilities(channels))


def _disagreement(name: str, runtime: Runtime, expected: np.ndarray, found: np.ndarray) -> str | None:
    """How far a runtime is from PyTorch, with a warning, if it is too far."""
    difference = np.abs(found - expected).ravel()
    mean = float(difference.mean())
    tail = float(np.quantile(difference[:: max(1, len(difference) // 1_000_000)], TAIL))
    if mean <= MEAN_DIFFERENCE and tail <= TAIL_DIFFERENCE:  # false for NaN too
        return None
    reason = (
        f"its probabilities differ from torch's by {mean:.2g} in the mean, {tail:.2g} at quantile {TAIL:g}"
    )
    warnings.warn(f"{runtime} is not used for {name}: {reason}", BackendWarning, stacklevel=2)
    return reason


def _recalled(key: str) -> Choice | None:
    """What an earlier program chose."""
    facts = recall(key)
    if facts is None:
        return None
    try:
        choice = Choice(**facts)
        valid = choice.seconds[choice.runtime] > 0
        return replace(choice, window=tuple(choice.window), remembered=True) if valid else None
    except (TypeError, KeyError):
        return None


def _size_class(shape: tuple[int, ...]) -> int:
    """Windows of one class are within a factor of 1.4 of each other in pixels per batch."""
    return round(float(np.log2(shape[0] * shape[-2] * shape[-1])))


def _machine(device: torch.device) -> list[Any]:
    """What decides how fast runtimes are, besides their versions."""
    facts: list[Any] = [processor(), os.cpu_count(), os.environ.get("OMP_NUM_THREADS")]
    if hasattr(os, "sched_getaffinity"):
        facts.append(len(os.sched_getaffinity(0)))
    if device.type == "cuda":
        facts.append(torch.cuda.get_device_name(device))
    return facts
