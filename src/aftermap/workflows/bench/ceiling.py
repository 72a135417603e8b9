"""How fast a machine multiplies matrices: what a network that it runs can hardly exceed."""

import time
from typing import Any

import torch
from torch import Tensor

from aftermap.workflows.bench.job import Job

MATRIX_PX = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices whose product is timed, by kind of device."""

_PRODUCTS = 4


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
