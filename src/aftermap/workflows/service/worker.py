"""A worker: a process that does jobs, one at a time, until it is told to end. Kill it whenever you like.

What it did so far lies in the map's work folder. Whoever takes the job next goes on from there.
"""

import os
import signal
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from aftermap.errors import AftermapError, AftermapWarning
from aftermap.files import one_line
from aftermap.geo.opening.archives import forget_unpacked
from aftermap.redaction import hide_secrets
from aftermap.workflows.service.database import Database
from aftermap.workflows.service.jobs import Job, Jobs
from aftermap.workflows.service.maps import Maps
from aftermap.workflows.service.place import Place
from aftermap.workflows.service.queues import Queue
from aftermap.workflows.service.running import Report, run_job, warm
from aftermap.workflows.service.uploads import Uploads

BEAT_SECONDS = 5.0
_TOLD_SECONDS = 0.25

Said = Callable[[str, dict[str, Any]], None]


class _EndedError(Exception):
    """The job is to end: cancelled, another worker's by now, or this worker is to stop."""


class Worker:
    """Does jobs of a service.

    Args:
        place: the service's folder.
        database: its tables.
        queue: what tells of jobs.
        name: that no other worker has; by default made of machine and process.
        said: told what happens, for the log.
    """

    def __init__(
        self,
        place: Place,
        database: Database,
        queue: Queue,
        *,
        name: str | None = None,
        said: Said | None = None,
    ) -> None:
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.stop = threading.Event()
        self._place, self._queue = place, queue
        self._jobs = Jobs(database, attempts=place.limits.attempts)
        self._uploads, self._maps = Uploads(place, database), Maps(place, database)
        self._said: Said = said or (lambda what, about: None)

    def run(self) -> None:
        """Work until `stop` is set."""
        self._said("worker begins", {"worker": self.name})
        with suppress(AftermapError), warnings.catch_warnings():
            warnings.simplefilter("ignore", AftermapWarning)
            warm()
        self._queue.work(self.handle, idle=self.look, stop=self.stop)
        self._said("worker ends", {"worker": self.name})

    def look(self) -> None:
        """Tell again of jobs whose worker ended, and of those that the queue forgot."""
        for number in (*self._jobs.give_back(), *self._jobs.untold()):
            self.handle(number)
            if self.stop.is_set():
                return

    def handle(self, number: str) -> None:
        """Do a job, where it still waits."""
        if self.stop.is_set():
            return  # told again by whoever looks next
        job = self._jobs.claim(number, self.name)
        if job is None:
            return
        begun = time.monotonic()
        self._said("job begins", {"job": job.id, "attempt": job.attempts, "worker": self.name})
        ended = self._do(job)
        about = {"job": job.id, "state": ended, "seconds": round(time.monotonic() - begun, 2)}
        self._said("job ends", about | {"worker": self.name})

    def _do(self, job: Job) -> str:
        lost = threading.Event()
        with self._beating(job, lost), ExitStack() as stack:
            stack.callback(forget_unpacked)
            try:
                run_job(self._place, self._uploads, self._maps, job, self._report(job, lost))
            except _EndedError:
                return self._stopped(job)
            except AftermapError as error:
                told = hide_secrets(_without_folders(str(error), self._place.folder))
                self._jobs.end(job.id, self.name, "failed", told)
                return "failed"
            except Exception as error:  # a mistake of ours must not end the worker, or come back for ever
                self._said(
                    "job broke", {"job": job.id, "error": one_line(error), "kind": type(error).__name__}
                )
                told = f"something went wrong that should not ({type(error).__name__}): tell whoever runs the service"
                self._jobs.end(job.id, self.name, "failed", told)
                return "failed"
        if self._jobs.end(job.id, self.name, "done"):
            return "done"
        return self._stopped(job)

    def _stopped(self, job: Job) -> str:
        now = self._jobs.find(job.id)
        if now is not None and now.stopping and self._jobs.end(job.id, self.name, "cancelled"):
            return "cancelled"
        self._jobs.give_back(self.name, unbegun=True)
        return "given back"

    def _report(self, job: Job, lost: threading.Event) -> Report:
        last: dict[str, Any] = {"stage": None, "at": 0.0}

        def report(stage: str, done: int, total: int) -> None:
            if lost.is_set() or self.stop.is_set():
                raise _EndedError
            now = time.monotonic()
            if stage == last["stage"] and now - last["at"] < _TOLD_SECONDS and done < total:
                return
            last.update(stage=stage, at=now)
            if not self._jobs.tell(job.id, self.name, {"stage": stage, "done": done, "total": total}):
                raise _EndedError

        return report

    @contextmanager
    def _beating(self, job: Job, lost: threading.Event) -> Any:
        """Be heard of while a job is done, also where it says nothing for long."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                if not self._jobs.tell(job.id, self.name):
                    lost.set()
                    return

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def work(worker: Worker) -> None:
    """Be a worker until a signal ends it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop.set())
    worker.run()


def _without_folders(text: str, folder: Path) -> str:
    """A message without where on this machine things lie."""
    for place in {str(folder), str(folder.absolute()), str(folder.resolve())}:
        text = text.replace(place + "/", "")
    return text
