"""The machine on which models are timed: what it is, and how fast it multiplies matrices."""

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aftermap.workflows.bench.job import Job

LIBRARIES = ("aftermap", "torch", "onnxruntime", "openvino", "numpy")
MATRIX_PX = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices whose product is timed, by kind of device."""

_PRODUCTS = 4
BUSY_LOAD = 0.5
"""Processes per core that want to run, above which timings are those of a shared machine."""


class Machine:
    """How fast the machine multiplies matrices: what a network that it runs can hardly exceed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._products: dict[str, tuple[Any, Tensor, Tensor]] = {}

    def start(self) -> dict[str, Any]:
        """Make the matrices and multiply each pair once; precisions without a product here are left out."""
        torch.set_num_threads(self._job.threads)
        device = torch.device(self._job.device)
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


def describe_machine(threads: int, device: str) -> dict[str, Any]:
    """Processor, memory, GPU, versions, and how busy it is with other work.

    Args:
        threads: that are used.
        device: that is used.
    """
    cores = available_cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    gpu = (
        torch.cuda.get_device_name(device)
        if device.startswith("cuda") and torch.cuda.is_available()
        else None
    )
    versions = {name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()}
    return {
        "cpu": processor_name(),
        "cores": cores,
        "threads": threads,
        "memory_gb": _memory_gb(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "load_before": None if load is None else round(load, 2),
        "shared_with_other_work": load is not None and load > BUSY_LOAD * cores,
    }


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """The name that the processor gives itself."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
