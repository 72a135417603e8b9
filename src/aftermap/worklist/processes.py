"""The engine for one machine: processes, each with one job at a time, any of which may die."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

import aftermap
from aftermap.errors import AftermapError
from aftermap.worklist.job import Answer, Job, Work, over_budget
from aftermap.worklist.team import Limits, Queue, Say
from aftermap.worklist.worker import OVER_BUDGET

_MODULE = "aftermap.worklist.worker"
_LOOK_SECONDS = 0.5
_FALSE_STARTS = 3
_LAST_WORDS = 300


def run_in_processes(work: Work, queue: Queue, limits: Limits, *, say: Say) -> None:
    """Do all jobs of a queue; a worker that dies is replaced.

    Args:
        work: what is done.
        queue: the jobs; each is answered.
        limits: of the workers.
        say: for the log.

    Raises:
        AftermapError: the work cannot be started at all.
    """
    count = min(limits.workers or cores(), queue.left)
    threads = max(1, cores() // max(count, 1))
    team = [_Worker(number, work, limits, threads) for number in range(1, count + 1)]
    false_starts = 0
    try:
        while queue.left:
            for worker in team:
                if worker.is_ready and worker.job is None and queue.has_waiting:
                    worker.give(queue.take(worker.name))
            busy: list[Any] = [
                worker.line for worker in team if worker.job is not None or not worker.is_ready
            ]
            heard = wait(busy, _LOOK_SECONDS)
            for place, worker in enumerate(team):
                if worker.line in heard:
                    job, answer = worker.job, worker.hear()
                    if job is not None and answer is not None:
                        queue.answered(job, answer)
                elif worker.is_late:
                    job, answer = worker.job, worker.stop_late()
                    if job is not None:
                        queue.answered(job, answer)
                if not worker.is_dead:
                    continue
                say(f"{worker.name}: ended, {worker.last_words() or 'without a word'}")
                false_starts = false_starts + 1 if not worker.is_ready else 0
                if false_starts >= _FALSE_STARTS:
                    raise AftermapError(worker.why_it_never_began())
                worker.close()
                if queue.has_waiting:
                    team[place] = _Worker(worker.number, work, limits, threads)
            team = [worker for worker in team if not worker.is_dead]
    finally:
        for worker in team:
            worker.close()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process at the other end of a socket."""

    def __init__(self, number: int, work: Work, limits: Limits, threads: int) -> None:
        self.number, self.name = number, f"worker {number}"
        self.job: Job | None = None
        self.is_ready = self.is_dead = False
        self._limits, self._since = limits, time.monotonic()
        self._noise: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        ours, theirs = socket.socketpair()
        self.line: Connection = Connection(ours.detach())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._noise,
                stderr=self._noise,
                env=_environment(threads),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C in the terminal comes to the parent alone
            )
        self.name += f" (process {self._process.pid})"
        self._send((work, limits.memory_bytes, os.getpid()))

    @property
    def is_late(self) -> bool:
        """Whether its job takes longer than it may."""
        limit = self._limits.seconds
        return self.job is not None and limit is not None and time.monotonic() - self._since > limit

    def give(self, job: Job) -> None:
        self.job, self._since = job, time.monotonic()
        self._send(job)

    def hear(self) -> Answer | None:
        """What it said of its job; None where it is ready for the first one.

        Raises:
            AftermapError: the work cannot be started.
        """
        try:
            told = self.line.recv()
        except (EOFError, OSError):
            return self._died()
        if isinstance(told, AftermapError):
            raise told
        self.is_ready = True
        self.job = None
        return told if isinstance(told, Answer) else None

    def stop_late(self) -> Answer:
        """End it because of the time that its job takes."""
        self._kill()
        self.is_dead = True
        took = time.monotonic() - self._since
        return Answer(None, f"took longer than {self._limits.seconds:g} s", "time", took)

    def ended(self) -> str:
        """How its process ended."""
        status = self._process.wait()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def why_it_never_began(self) -> str:
        """For who waits for a worker that has ended without one job."""
        if self._process.returncode == OVER_BUDGET:
            allowed = (self._limits.memory_bytes or 0) / 1e9
            return f"a worker needs more memory than {allowed:g} GB before any job: allow more (--memory)"
        return f"workers die before any job: {self.last_words() or self.ended()}"

    def last_words(self) -> str:
        """The end of what it wrote."""
        self._noise.seek(0)
        lines = self._noise.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:_LAST_WORDS] if lines else ""

    def close(self) -> None:
        """End it, whatever it does."""
        self._kill()
        self.line.close()
        self._noise.close()

    def _died(self) -> Answer:
        self.is_dead = True
        how, took = self.ended(), time.monotonic() - self._since
        self.job = None
        if self._process.returncode == OVER_BUDGET:
            return replace(over_budget(self._limits.memory_bytes or 0), seconds=took)
        hint = (
            ", as the system does where memory is short"
            if self._process.returncode == -signal.SIGKILL
            else ""
        )
        return Answer(None, f"its worker process died ({how}{hint})", "crash", took)

    def _send(self, what: object) -> None:
        with contextlib.suppress(OSError):  # it is dead, which is heard of when it is listened to
            self.line.send(what)

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()


def _environment(threads: int) -> dict[str, str]:
    """That of this process, with this package and a share of the processor's threads."""
    package = str(Path(aftermap.__file__).parent.parent)
    paths = [package, *(part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part)]
    own = {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    return {"OMP_NUM_THREADS": str(threads)} | dict(os.environ) | own
