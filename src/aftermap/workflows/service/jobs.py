"""Jobs: what was asked for, how far it is, and who works on it. The records are the truth, a queue only tells of them.

    queued --claim--> running --> done | failed | cancelled
       ^                 |
       +--- give back ---+     its worker ended, or was not heard of for a while

A job is taken by one UPDATE that expects it to be queued, so that however often it is told of, one worker has it.
"""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

from aftermap.errors import InputError
from aftermap.workflows.service.database import Database, Row

State = Literal["queued", "running", "done", "failed", "cancelled"]
Kind = Literal["map", "learn"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")

LEASE_SECONDS = 30.0
"""A worker that was not heard of for so long has ended."""

_TELLING_AGAIN_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """A job as it is recorded.

    Attributes:
        id: also that of the map it makes.
        owner: id of the token that asked for it.
        kind: what is done.
        wanted: with which uploads and options.
        state: how it stands.
        progress: stage, done and total.
        error: why it failed.
        attempts: how often it was begun.
        stopping: whether it was asked to end.
        map: the map that it made or works on.
        created: and the next three: seconds since 1970.
    """

    id: str
    owner: str
    kind: Kind
    wanted: dict[str, Any]
    state: State
    progress: dict[str, Any]
    error: str | None
    attempts: int
    stopping: bool
    map: str | None
    created: float
    started: float | None
    finished: float | None
    changed: float
    worker: str | None = field(default=None, compare=False)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ENDED


class Jobs:
    """All jobs of a service.

    Args:
        database: where they are recorded.
        attempts: of a job that ended its worker, before it is given up.
    """

    def __init__(self, database: Database, *, attempts: int = 3) -> None:
        self._database, self._attempts = database, attempts

    def add(
        self, owner: str, kind: Kind, wanted: dict[str, Any], *, key: str = "", of: str | None = None
    ) -> Job:
        """Record a job; with the key of an earlier one of the same owner that one is given back.

        Raises:
            InputError: the key stands for something else.
        """
        number, now = uuid.uuid4().hex, time.time()
        text = json.dumps(wanted, sort_keys=True)
        self._database.run(
            "INSERT INTO jobs (id, owner, kind, wanted, state, progress, attempts, beat, key, map, created, changed) "
            "VALUES (?,?,?,?,'queued','{}',0,?,?,?,?,?) ON CONFLICT (owner, key) DO NOTHING",
            (number, owner, kind, text, now, key or number, of, now, now),
        )
        row = self._database.row("SELECT * FROM jobs WHERE owner=? AND key=?", (owner, key or number))
        assert row is not None
        if row["wanted"] != text or row["kind"] != kind:
            raise InputError(f"the key {key} was used for another job: choose a new one for each")
        return _job(row)

    def find(self, number: str) -> Job | None:
        """A job by its id."""
        row = self._database.row("SELECT * FROM jobs WHERE id=?", (number,))
        return None if row is None else _job(row)

    def all(self, owner: str | None = None, *, limit: int = 100, offset: int = 0) -> list[Job]:
        """Jobs of one owner, or of all, the latest first."""
        where, values = ("WHERE owner=? ", [owner]) if owner else ("", [])
        statement = f"SELECT * FROM jobs {where}ORDER BY created DESC, id LIMIT ? OFFSET ?"
        return [_job(row) for row in self._database.rows(statement, (*values, limit, offset))]

    def count(self, *states: State, owner: str | None = None) -> int:
        """Jobs in some states."""
        marks, values = ",".join("?" * len(states)), [*states]
        also = " AND owner=?" if owner else ""
        row = self._database.row(
            f"SELECT COUNT(*) AS n FROM jobs WHERE state IN ({marks}){also}",
            [*values, *([owner] if owner else [])],
        )
        return int(row["n"]) if row else 0

    # What a user asks of one

    def cancel(self, number: str) -> None:
        """End a job: at once where it waits, as soon as its worker hears of it where it runs."""
        now = time.time()
        waiting = self._database.run(
            "UPDATE jobs SET state='cancelled', finished=?, changed=? WHERE id=? AND state='queued'",
            (now, now, number),
        )
        if not waiting:
            self._database.run(
                "UPDATE jobs SET stopping=1, changed=? WHERE id=? AND state='running'", (now, number)
            )

    def retry(self, number: str) -> bool:
        """Let a job that failed or was cancelled wait again; False where it did not."""
        now = time.time()
        return bool(
            self._database.run(
                "UPDATE jobs SET state='queued', stopping=0, attempts=0, error=NULL, finished=NULL, worker=NULL, "
                "progress='{}', changed=?, beat=? WHERE id=? AND state IN ('failed','cancelled')",
                (now, now, number),
            )
        )

    def remove(self, number: str) -> bool:
        """Forget a job that has ended; False where it has not."""
        return bool(
            self._database.run(
                "DELETE FROM jobs WHERE id=? AND state IN ('done','failed','cancelled')", (number,)
            )
        )

    # What a worker does to one

    def claim(self, number: str, worker: str) -> Job | None:
        """Take a job that waits; None where it does not, because somebody else has it or had it."""
        now = time.time()
        taken = self._database.run(
            "UPDATE jobs SET state='running', worker=?, beat=?, attempts=attempts+1, started=COALESCE(started, ?), "
            "changed=? WHERE id=? AND state='queued'",
            (worker, now, now, now, number),
        )
        return self.find(number) if taken else None

    def tell(self, number: str, worker: str, progress: dict[str, Any] | None = None) -> bool:
        """Be heard of, with how far it is; False where the job is not the worker's any more, or is to end."""
        now = time.time()
        if progress is None:
            held = self._database.run(
                "UPDATE jobs SET beat=? WHERE id=? AND worker=? AND state='running' AND stopping=0",
                (now, number, worker),
            )
        else:
            held = self._database.run(
                "UPDATE jobs SET beat=?, progress=?, changed=? WHERE id=? AND worker=? AND state='running' "
                "AND stopping=0",
                (now, json.dumps(progress), now, number, worker),
            )
        return bool(held)

    def end(self, number: str, worker: str, state: State, error: str | None = None) -> bool:
        """Say how a job ended; False where it was not the worker's any more."""
        now = time.time()
        return bool(
            self._database.run(
                "UPDATE jobs SET state=?, error=?, finished=?, changed=?, worker=NULL WHERE id=? AND worker=? AND "
                "state='running'",
                (state, error, now, now, number, worker),
            )
        )

    def give_back(self, worker: str | None = None, *, unbegun: bool = False) -> list[str]:
        """Let jobs wait again whose worker ended: this one, or any that was not heard of; their ids.

        Args:
            worker: that has ended; None for all that were not heard of for a while.
            unbegun: the worker ended in good order, so that the attempt does not count.
        """
        now = time.time()
        where, values = ("worker=?", [worker]) if worker is not None else ("beat<?", [now - LEASE_SECONDS])
        lost = self._database.rows(
            f"SELECT id, attempts, stopping FROM jobs WHERE state='running' AND {where}", values
        )
        given: list[str] = []
        for row in lost:
            gone = f"state='running' AND id=? AND {where}"
            if row["stopping"]:
                self._database.run(
                    f"UPDATE jobs SET state='cancelled', worker=NULL, finished=?, changed=? WHERE {gone}",
                    (now, now, row["id"], *values),
                )
            elif row["attempts"] >= self._attempts and not unbegun:
                told = f"its worker ended {row['attempts']} times before it was done, so it is not tried again by itself"
                self._database.run(
                    f"UPDATE jobs SET state='failed', error=?, worker=NULL, finished=?, changed=? WHERE {gone}",
                    (told, now, now, row["id"], *values),
                )
            else:
                fewer = 1 if unbegun else 0
                if self._database.run(
                    f"UPDATE jobs SET state='queued', worker=NULL, attempts=attempts-?, changed=? WHERE {gone}",
                    (fewer, now, row["id"], *values),
                ):
                    given.append(row["id"])
        return given

    def untold(self) -> list[str]:
        """Jobs that have waited for a while, of which a queue may have forgotten to tell, the oldest first."""
        rows = self._database.rows(
            "SELECT id FROM jobs WHERE state='queued' AND changed<? ORDER BY created LIMIT 100",
            (time.time() - _TELLING_AGAIN_SECONDS,),
        )
        return [row["id"] for row in rows]


def _job(row: Row) -> Job:
    return Job(
        **{
            **{name: row[name] for name in row if name not in ("beat", "key")},
            "wanted": json.loads(row["wanted"]),
            "progress": json.loads(row["progress"]),
            "stopping": bool(row["stopping"]),
        }
    )
