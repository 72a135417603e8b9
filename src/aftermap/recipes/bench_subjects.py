"""What a worker of `aftermap bench` measures: a model on a backend, or the machine itself."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, ModelError
from aftermap.inference.backends.base import Network, torch_device
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.pooling import plain
from aftermap.inference.predictor import AnyPredictor, Predictor
from aftermap.recipes.bench_worker import Job
from aftermap.recipes.evaluate import evaluate

IMPORTED = time.monotonic()

MATRIX_PX = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices whose product is timed, by kind of device."""

_PRODUCTS = 4


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
        torch.set_num_threads(job.threads)
        options = Options(
            device=job.device, backend=job.backend, threads=job.threads, precision=job.precision, tta=job.tta
        )
        self._predictor = open_predictor(job.model, options)
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
        peak_gpu = torch.cuda.max_memory_allocated() / 1e6 if self._job.device.startswith("cuda") else None
        return {
            "seconds": seconds,
            "network_seconds": network,
            "processor_seconds": time.process_time() - busy,
            "execution": self._predictor.execution,
            "peak_mb": peak_memory_mb(),
            "peak_gpu_mb": peak_gpu,
        }

    def score(self, data: str, split: str) -> dict[str, Any]:
        """Score the model on labelled scenes.

        Args:
            data: prepared data.
            split: whose scenes; `all` takes every one.

        Returns:
            `scores`: the official score where it tells damage, and localization F1.
        """
        pixels = evaluate(self._predictor, labelled_scenes(Path(data), split)).report.pixels
        scores = {"official_score": plain(pixels.score), "localization_f1": plain(pixels.localization_f1)}
        return {"scores": {name: value for name, value in scores.items() if value is not None}}


class Machine:
    """How fast the machine multiplies matrices: what a network that it runs can hardly exceed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._products: dict[str, tuple[Any, Tensor, Tensor]] = {}

    def start(self) -> dict[str, Any]:
        """Make the matrices and multiply each pair once; precisions without a product here are left out.

        Raises:
            ModelError: no such device.
        """
        torch.set_num_threads(self._job.threads)
        device = torch_device(self._job.device)
        self._side = MATRIX_PX["cuda" if device.type == "cuda" else "cpu"]
        generator = torch.Generator().manual_seed(0)
        floats = torch.randn(self._side, self._side, generator=generator)
        integers = torch.randint(-127, 128, floats.shape, generator=generator).to(torch.int8)
        matrices = {"f32": floats, "bf16": floats.bfloat16(), "int8": integers}
        if device.type == "cuda":  # on a processor its product is a slow loop
            matrices["f16"] = floats.half()
        for name, matrix in matrices.items():
            left = matrix.to(device)
            right = left.t().contiguous()
            multiply = torch._int_mm if name == "int8" else torch.matmul
            try:
                multiply(left, right)
            except (RuntimeError, NotImplementedError, AttributeError):
                continue
            self._products[name] = (multiply, left, right)
        return {"side_px": self._side}

    def visit(self, calls: int, untimed: int) -> dict[str, Any]:
        """GFLOP/s of the fastest of `calls` times four products, by precision; the first takes no part."""
        found: dict[str, float] = {}
        for name, (multiply, left, right) in self._products.items():
            seconds = []
            for _ in range(untimed + _PRODUCTS * calls):
                begin = time.perf_counter()
                multiply(left, right)
                if left.is_cuda:
                    torch.cuda.synchronize(left.device)
                seconds.append(time.perf_counter() - begin)
            found[name] = 2 * self._side**3 / min(seconds[untimed:]) / 1e9
        return {"gflops": found}


class TimedNetwork(Network):
    """A network with a stopwatch: `seconds` grows by what its calls take."""

    def __init__(self, inner: Network) -> None:
        self.card, self.sha256, self.multiple, self.raw = inner.card, inner.sha256, inner.multiple, inner.raw
        self.backend, self.device = inner.backend, inner.device
        self.threads, self.precision = inner.threads, inner.precision
        self.seconds = 0.0
        self._inner = inner

    def __call__(self, images: Tensor) -> Tensor:
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
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def labelled_scenes(data: Path, split: str) -> list[Scene]:
    """The labelled scenes of a split of prepared data; `all` takes every split.

    Raises:
        DataError: there are none.
    """
    scenes = Manifest.load(data).scenes
    chosen = [scene for scene in scenes if scene.is_labelled and split in (scene.split, "all")]
    if not chosen:
        raise DataError(f"{data} has no labelled scenes in split {split}: pass another --split, or all")
    return chosen


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
