"""Workers as processes beside the server: started, started again when one ends, and told to end with the server.

A worker reads what it is to do from its standard input, which closes when the server is killed, however that happens.
"""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from aftermap.workflows.service.database import Database
from aftermap.workflows.service.jobs import Jobs
from aftermap.workflows.service.place import Limits, Place
from aftermap.workflows.service.queues import open_queue
from aftermap.workflows.service.worker import Said, Worker, work

_LOOKED_SECONDS = 0.2
_REST_SECONDS = 1.0
_END_SECONDS = 20.0


class Staff:
    """Workers on this machine.

    Args:
        place: the service's folder.
        database: `postgresql://...` of a team; None for the files in the folder.
        count: how many.
        jobs: of which a worker that ends gives back its own at once.
        said: told when one ends.
        quiet: whether they say nothing.
    """

    def __init__(
        self,
        place: Place,
        database: str | None,
        count: int,
        jobs: Jobs,
        said: Said,
        *,
        quiet: bool = False,
    ) -> None:
        self._quiet = quiet
        self._place, self._database, self._count, self._jobs, self._said = place, database, count, jobs, said
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="staff", daemon=True)

    def start(self) -> None:
        """Start them."""
        self._jobs.give_back()
        for _ in range(self._count):
            self._begin()
        self._thread.start()

    def running(self) -> int:
        """How many run."""
        return sum(process.poll() is None for process in list(self._running.values()))

    @property
    def processes(self) -> list[int]:
        """Their process numbers."""
        return [process.pid for process in list(self._running.values())]

    def stop(self) -> None:
        """Let them end: each gives back the job that it is at."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        for process in self._running.values():
            process.terminate()
        end = time.monotonic() + _END_SECONDS
        for name, process in self._running.items():
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
            self._jobs.give_back(name, unbegun=True)
        self._running.clear()

    def _begin(self) -> None:
        name = f"{os.uname().nodename}-{uuid.uuid4().hex[:12]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "aftermap.workflows.service.staff"], stdin=subprocess.PIPE
        )
        told = {
            "name": name,
            "folder": str(self._place.folder),
            "limits": dataclasses.asdict(self._place.limits),
            "database": self._database,
            "quiet": self._quiet,
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
        self._running[name] = process

    def _keep(self) -> None:
        while not self._over.wait(_LOOKED_SECONDS):
            for name, process in list(self._running.items()):
                if process.poll() is None:
                    continue
                given = self._jobs.give_back(name)
                self._said("worker ended", {"worker": name, "status": process.returncode, "gave back": given})
                del self._running[name]
                if process.stdin is not None:
                    process.stdin.close()
                if self._over.wait(_REST_SECONDS if process.returncode else 0):
                    return
                self._begin()


def log_line(event: str, about: dict[str, Any]) -> None:
    """A line of JSON on standard error."""
    from datetime import UTC, datetime

    stamped = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **about}
    sys.stderr.write(json.dumps(stamped, default=str) + "\n")
    sys.stderr.flush()


def silent(event: str, about: dict[str, Any]) -> None:
    """Nothing, but for what went wrong."""
    if event == "job broke":
        log_line(event, about)


def open_worker(place: Place, database: str | None, *, name: str | None = None, said: Said) -> Worker:
    """A worker of a service."""
    tables = Database(database or place.database)
    return Worker(place, tables, open_queue(database or place.queue), name=name, said=said)


def main() -> None:
    """Be one of the workers of a server that says on standard input what is to be done."""
    told = json.loads(sys.stdin.buffer.readline())
    place = Place(
        Path(told["folder"]),
        Limits(**told["limits"] | {"address_hosts": tuple(told["limits"]["address_hosts"])}),
    )
    worker = open_worker(
        place, told["database"], name=told["name"], said=silent if told["quiet"] else log_line
    )

    def watch() -> None:
        # nothing more comes: this returns when the server has gone. Not through `sys.stdin`, which an end would wait for
        os.read(sys.stdin.fileno(), 1)
        worker.stop.set()

    threading.Thread(target=watch, name="server", daemon=True).start()
    work(worker)


if __name__ == "__main__":
    main()
