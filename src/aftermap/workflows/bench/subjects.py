"""A model on a backend, as a worker of `aftermap bench` measures it."""

import math
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.errors import ModelError
from aftermap.inference.backends.base import Network
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.predictor import AnyPredictor, Predictor
from aftermap.workflows.bench.job import Job

IMPORTED = time.monotonic()


class Model:
    """A model on a backend, predicting one batch over and over."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._predictor: AnyPredictor
        self._network: TimedNetwork | None = None
        self._images: np.ndarray

    def start(self) -> dict[str, Any]:
        """Load the model and predict once.

        Returns:
            `imported`, `loaded` and `finished` on the clock that all processes share (`time.monotonic`), and how the
            model is run.

        Raises:
            ModelError: it cannot be opened, does not take this size, or gives no numbers.
        """
        job = self._job
        options = Options(
            device=job.device, backend=job.backend, threads=job.threads, precision=job.precision, tta=job.tta
        )
        self._predictor = open_predictor(job.model, options)
        if torch := sys.modules.get("torch"):  # graphs are run without it
            torch.set_num_threads(job.threads)
        loaded = time.monotonic()
        multiple, bands = self._predictor.multiple, len(self._predictor.card.bands)
        if job.size_px % multiple:
            near = max(1, round(job.size_px / multiple)) * multiple
            raise ModelError(f"size {job.size_px} is no multiple of {multiple}: pass --size {near}")
        if isinstance(self._predictor, Predictor):
            self._network = self._predictor.network = TimedNetwork(self._predictor.network)
        shape = (job.batch, self._predictor.dates, bands, job.size_px, job.size_px)
        self._images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        probabilities = self._predictor.predict(self._images)
        finished = time.monotonic()
        if not np.isfinite(probabilities).all():
            raise ModelError("its probabilities are not finite")
        return {
            "imported": IMPORTED,
            "loaded": loaded,
            "finished": finished,
            "execution": self._predictor.execution,
        }

    def visit(self, calls: int, untimed: int) -> dict[str, Any]:
        """Predict `untimed` and then `calls` times.

        Returns:
            `seconds` of each of the `calls` and of its network alone (empty for ensembles), processor seconds of all
            calls, and the peak of this process's memory until now.
        """
        for _ in range(untimed):
            self._predictor.predict(self._images)
        seconds: list[float] = []
        network: list[float] = []
        busy = time.process_time()
        for _ in range(calls):
            if self._network:
                self._network.seconds = 0.0
            begin = time.perf_counter()
            self._predictor.predict(self._images)  # gives arrays in memory, so a GPU has finished
            seconds.append(time.perf_counter() - begin)
            if self._network:
                network.append(self._network.seconds)
        peak_gpu = _peak_gpu_mb() if self._job.device.startswith("cuda") else None
        return {
            "seconds": seconds,
            "network_seconds": network,
            "processor_seconds": time.process_time() - busy,
            "execution": self._predictor.execution,
            "peak_mb": peak_memory_mb(),
            "peak_gpu_mb": peak_gpu,
        }

    def score(self, data: str, split: str) -> dict[str, Any]:
        """Score the model on labelled scenes; see `score_model`."""
        from aftermap.workflows.bench.scores import score_model  # no part of a start that is timed

        return {"scores": score_model(self._predictor, Path(data), split)}


class TimedNetwork(Network[Any]):
    """A network with a stopwatch: `seconds` grows by what its calls take."""

    def __init__(self, inner: Network[Any]) -> None:
        self.card, self.sha256, self.multiple, self.raw = inner.card, inner.sha256, inner.multiple, inner.raw
        self.backend, self.device = inner.backend, inner.device
        self.threads, self.precision = inner.threads, inner.precision
        self.seconds = 0.0
        self._inner = inner

    def take(self, array: np.ndarray) -> Any:
        """See `Network`."""
        return self._inner.take(array)

    def prepare(self, images: np.ndarray, valid: np.ndarray | None = None) -> Any:
        """See `Network`."""
        return self._inner.prepare(images, valid)

    def working(self) -> AbstractContextManager[Any]:
        """See `Network`."""
        return self._inner.working()

    def __call__(self, images: Any) -> Any:
        """Logits of the network inside; see `Network`."""
        self._wait()
        begin = time.perf_counter()
        logits = self._inner(images)
        self._wait()
        self.seconds += time.perf_counter() - begin
        return logits

    @property
    def execution(self) -> dict[str, Any]:
        """How the network inside is run."""
        return self._inner.execution

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)


def _peak_gpu_mb() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 1e6


def peak_memory_mb() -> float:
    """The most memory that this process has held, in 1e6 bytes."""
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # what getrusage gives there is at least the peak of the process that started this one
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # not on Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
