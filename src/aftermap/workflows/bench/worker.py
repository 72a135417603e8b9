"""The process in which one candidate of `aftermap bench` lives: it loads, predicts when told to, and says how long.

It reads one JSON line per request from standard input and answers each with one JSON line. Standard output belongs to
the answers: what libraries print goes to standard error.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import IO, Any, Literal

from aftermap.errors import AftermapError


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


def main() -> None:
    """Serve requests until standard input ends; an error that we raise on purpose is an answer too."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _die_with_parent()
    try:
        _serve(answers)
    except AftermapError as error:
        _answer(answers, {"error": " ".join(str(error).split())})
    except MemoryError:
        _answer(answers, {"error": "there is not enough memory"})


def request_line(request: dict[str, Any] | Job) -> str:
    """A request, or the job with which a worker starts, as the line that it reads."""
    return json.dumps(asdict(request) if isinstance(request, Job) else request) + "\n"


def _serve(answers: IO[str]) -> None:
    job = Job(**json.loads(sys.stdin.readline()))
    subject = _subject(job)
    _answer(answers, subject.start())
    for line in sys.stdin:
        request = json.loads(line)
        _answer(answers, getattr(subject, request.pop("do"))(**request))


def _subject(job: Job) -> Any:
    """What is measured; imported now that standard output is safe."""
    if job.model:
        from aftermap.workflows.bench.subjects import Model

        return Model(job)
    from aftermap.workflows.bench.machine import Machine

    return Machine(job)


def _answer(answers: IO[str], tree: dict[str, Any]) -> None:
    answers.write(json.dumps(tree) + "\n")


def _die_with_parent() -> None:
    """On Linux, end when the process that started this one is killed, even in the middle of a call."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    main()
