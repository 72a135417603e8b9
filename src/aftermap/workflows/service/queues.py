"""How workers hear of jobs that wait: huey's queue in a file of SQLite, or procrastinate in PostgreSQL for a team.

A queue may forget, and may tell twice: `jobs` says what is so. Only ids are in it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from aftermap.workflows.service.database import is_postgres

if TYPE_CHECKING:
    from procrastinate import App

POLL_SECONDS = 0.1
IDLE_SECONDS = 2.0
"""How often a worker looks for jobs that nobody told of."""

_NAME = "aftermap"
_STALLED_SECONDS = 60.0


class Queue(Protocol):
    """What tells workers of jobs."""

    def put(self, number: str) -> None:
        """Tell of a job."""

    def work(self, handle: Callable[[str], None], *, idle: Callable[[], None], stop: Event) -> None:
        """Hand on the jobs that are told of, one at a time, until `stop` is set; `idle` is called every other second."""


def open_queue(address: str | Path) -> Queue:
    """The queue at an address: a file, or `postgresql://...`."""
    return TeamQueue(str(address)) if is_postgres(address) else FileQueue(Path(address))


class FileQueue:
    """huey's queue in SQLite, for one machine. Its messages are ids, never pickles.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        from huey.storage import SqliteStorage

        self._storage = SqliteStorage(_NAME, filename=str(path), timeout=30, strict_fifo=True)

    def put(self, number: str) -> None:
        """Tell of a job."""
        self._storage.enqueue(number.encode())

    def work(self, handle: Callable[[str], None], *, idle: Callable[[], None], stop: Event) -> None:
        """Hand on jobs; see `Queue`."""
        waited = IDLE_SECONDS
        while not stop.is_set():
            told = self._storage.dequeue()
            if told is not None:
                handle(bytes(told).decode())
            elif waited >= IDLE_SECONDS:
                idle()
                waited = 0.0
            else:
                stop.wait(POLL_SECONDS)
                waited += POLL_SECONDS


class TeamQueue:
    """procrastinate's queue in PostgreSQL: workers on many machines hear of a job at once.

    Args:
        address: `postgresql://...`; its tables are made where there are none.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        logging.getLogger("procrastinate").setLevel(logging.ERROR)
        self._app = self._opened()

    def put(self, number: str) -> None:
        """Tell of a job."""
        self._app.configure_task(_NAME, queue=_NAME).defer(number=number)

    def work(self, handle: Callable[[str], None], *, idle: Callable[[], None], stop: Event) -> None:
        """Hand on jobs; see `Queue`."""
        asyncio.run(self._work(handle, idle, stop))

    async def _work(self, handle: Callable[[str], None], idle: Callable[[], None], stop: Event) -> None:
        from procrastinate import App, PsycopgConnector

        app = App(connector=PsycopgConnector(conninfo=self._address, min_size=1, max_size=4))

        def take(number: str) -> None:
            handle(number)

        app.task(name=_NAME, queue=_NAME)(take)
        async with app.open_async():
            worker = asyncio.create_task(
                app.run_worker_async(
                    queues=[_NAME],
                    concurrency=1,
                    wait=True,
                    install_signal_handlers=False,
                    delete_jobs="always",
                    listen_notify=True,
                    fetch_job_polling_interval=IDLE_SECONDS,
                )
            )
            waited = IDLE_SECONDS
            while not stop.is_set() and not worker.done():
                if waited >= IDLE_SECONDS:
                    await asyncio.to_thread(idle)
                    await _forget_stalled(app)
                    waited = 0.0
                await asyncio.sleep(POLL_SECONDS)
                waited += POLL_SECONDS
            if worker.done():
                worker.result()
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker

    def _opened(self) -> "App":
        import psycopg
        from procrastinate import App, SyncPsycopgConnector

        app = App(connector=SyncPsycopgConnector(conninfo=self._address, min_size=1, max_size=4))
        app.open()
        with psycopg.connect(self._address, autocommit=True) as connection:
            # one at a time: two that begin together would both make the tables
            connection.execute("SELECT pg_advisory_lock(8271941)")
            row = connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone()
            if row is None or row[0] is None:
                app.schema_manager.apply_schema()
        return app

    def close(self) -> None:
        """Close its connections."""
        self._app.close()


async def _forget_stalled(app: "App") -> None:
    """Delete what a worker that ended was told of: `jobs` knows, and tells again."""
    from procrastinate.jobs import Status

    stalled: Any = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=_STALLED_SECONDS)
    for job in stalled:
        await app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
