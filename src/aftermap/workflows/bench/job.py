"""What a worker of `aftermap bench` is started for, and how it is told."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is started for.

    Attributes:
        model: anything that `open_predictor` opens; empty for the matrix products of the machine.
        backend: `auto`, `torch`, `onnxruntime` or `openvino`.
        batch: images or pairs per call.
        size_px: height and width.
        threads: of the processor.
        device: `cpu`, `cuda` or `cuda:n`.
        precision: of the network's arithmetic.
        tta: views that are averaged.
    """

    model: str = ""
    backend: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    batch: int = 1
    size_px: int = 1024
    threads: int = 1
    device: str = "cpu"
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"
    tta: Literal["none", "half-turn", "flips", "rotations", "full"] = "none"


def request_line(request: dict[str, Any] | Job) -> str:
    """A request, or the job with which a worker starts, as the line that it reads."""
    return json.dumps(asdict(request) if isinstance(request, Job) else request) + "\n"
