"""What every route of the service works with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request

from aftermap.web.service.log import AuditLog
from aftermap.web.service.metrics import Metrics
from aftermap.workflows.service.database import Database
from aftermap.workflows.service.jobs import Jobs
from aftermap.workflows.service.maps import Maps
from aftermap.workflows.service.place import Place
from aftermap.workflows.service.queues import Queue, open_queue
from aftermap.workflows.service.uploads import Check, Uploads


@dataclass(frozen=True)
class Rules:
    """How a service is open to the world.

    Attributes:
        tokens: whether every request needs one.
        hosts: names under which it answers, beside numbers and `localhost`.
        origins: pages of other sites that may use it (CORS); none by default.
        secure: whether browsers reach it by https, so that cookies are sent by https alone.
    """

    tokens: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    secure: bool = False


@dataclass(frozen=True)
class Service:
    """A service.

    Attributes:
        place: its folder.
        rules: how it is open to the world.
        database: its tables.
        queue: what tells workers of jobs.
        jobs: and the next two: what it keeps.
        audit: who did what.
        metrics: counters.
        workers: how many workers run, for its health; None where others start them.
    """

    place: Place
    rules: Rules
    database: Database
    queue: Queue
    jobs: Jobs
    uploads: Uploads
    maps: Maps
    audit: AuditLog
    metrics: Metrics = field(default_factory=Metrics)
    workers: Callable[[], int] | None = None

    @classmethod
    def open(
        cls,
        place: Place,
        rules: Rules,
        *,
        database: str | Path | None = None,
        workers: Callable[[], int] | None = None,
        check: Check | None = None,
    ) -> "Service":
        """Open the service of a folder.

        Args:
            place: the folder.
            rules: how it is open to the world.
            database: `postgresql://...` of a team; by default two files in the folder.
            workers: tells how many workers run.
            check: says what is in an upload; see `Uploads`.

        Raises:
            InputError: the database cannot be reached.
            OutputError: the folder cannot be written.
        """
        place.made()
        tables = Database(database or place.database)
        uploads = Uploads(place, tables, check)
        uploads.clear()
        return cls(
            place=place,
            rules=rules,
            database=tables,
            queue=open_queue(database or place.queue),
            jobs=Jobs(tables, attempts=place.limits.attempts),
            uploads=uploads,
            maps=Maps(place, tables),
            audit=AuditLog(place.audit),
            workers=workers,
        )


def service_of(request: Request) -> Service:
    """The service that a request goes to."""
    service: Any = request.app.state.service
    assert isinstance(service, Service)
    return service
