"""The process in which one candidate of `aftermap bench` lives: it loads, predicts when told to, and says how long.

It reads one JSON line per request from standard input and answers each with one JSON line. Standard output belongs to
the answers: what libraries print goes to standard error.
"""

import json
import os
import sys
from typing import IO, Any

from aftermap.errors import AftermapError
from aftermap.workflows.bench.job import Job


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
    from aftermap.workflows.bench.ceiling import Machine

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
