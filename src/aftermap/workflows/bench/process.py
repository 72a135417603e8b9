"""The other end of a worker: starts its process, asks it things, and says what became of it if it dies."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Self

from aftermap.errors import AftermapError
from aftermap.workflows.bench.job import Job, request_line

_MODULE = "aftermap.workflows.bench.worker"
_LAST_LINE = 160


class CandidateError(AftermapError):
    """A candidate that cannot be measured: its model cannot be used, or its process died."""


class WorkerProcess:
    """A process of its own for one job. It is left alone by Ctrl-C in the terminal and ends with this object.

    Attributes:
        pid: of the process.
        begun: when it was started, on `time.monotonic`.
    """

    def __init__(self, job: Job, variables: Mapping[str, str] | None = None) -> None:
        """Start the process; `start` waits for its first answer.

        Args:
            job: what it measures.
            variables: of its environment, besides those of this process.
        """
        self._job = job
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        # OpenMP reads its variable once, when a library is loaded
        environment = os.environ | {"OMP_NUM_THREADS": str(job.threads)} | dict(variables or {})
        self.begun = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> dict[str, Any]:
        """Hand the job over; returns the first answer.

        Raises:
            CandidateError: the model cannot be used, or the process died.
        """
        return self._exchange(request_line(self._job))

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have the worker do something; returns its answer.

        Raises:
            CandidateError: it could not, or the process died.
        """
        return self._exchange(request_line({"do": do, **arguments}))

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._noise):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # something was still on its way
                    stream.close()

    def _exchange(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CandidateError(self._obituary()) from None
        answer = self._process.stdout.readline()
        if not answer.endswith("\n"):
            raise CandidateError(self._obituary())
        tree: dict[str, Any] = json.loads(answer)
        if "error" in tree:
            raise CandidateError(tree["error"])
        return tree

    def _obituary(self) -> str:
        """Why the process ended, in one line."""
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            if name == "SIGKILL":
                return "its process was killed, as the system does when memory runs out"
            return f"its process was ended by {name}"
        self._noise.seek(0)
        lines = self._noise.read().decode(errors="replace").strip().splitlines()
        last = lines[-1].strip()[:_LAST_LINE] if lines else "it printed nothing"
        return f"its process ended with exit code {code}: {last}"
