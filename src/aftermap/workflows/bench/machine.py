"""The machine on which models are timed."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

LIBRARIES = ("aftermap", "torch", "onnxruntime", "openvino", "numpy")
BUSY_LOAD = 0.5
"""Processes per core that want to run, above which timings are those of a shared machine."""


def describe_machine(threads: int, device: str) -> dict[str, Any]:
    """Processor, memory, GPU, versions, and how busy it is with other work.

    Args:
        threads: that are used.
        device: that is used.
    """
    cores = available_cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    versions = {name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()}
    return {
        "cpu": processor_name(),
        "cores": cores,
        "threads": threads,
        "memory_gb": _memory_gb(),
        "gpu": _gpu_name(device),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "load_before": None if load is None else round(load, 2),
        "shared_with_other_work": load is not None and load > BUSY_LOAD * cores,
    }


def _gpu_name(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else None


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
