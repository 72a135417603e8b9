"""A few tables in SQLite, or in PostgreSQL for a team: one statement at a time, each whole or not at all.

Every change that two processes could make at once is one UPDATE that says what it expects; nothing else locks.
"""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftermap.errors import InputError, OutputError
from aftermap.redaction import hide_secrets

if TYPE_CHECKING:
    import psycopg

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS tokens (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, scopes TEXT NOT NULL, area TEXT,
        parent TEXT, created DOUBLE PRECISION NOT NULL, expires DOUBLE PRECISION, revoked INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE IF NOT EXISTS uploads (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, bytes BIGINT NOT NULL, kind TEXT NOT NULL,
        described TEXT NOT NULL, created DOUBLE PRECISION NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS jobs (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, wanted TEXT NOT NULL, state TEXT NOT NULL,
        progress TEXT NOT NULL, error TEXT, attempts INTEGER NOT NULL, worker TEXT, beat DOUBLE PRECISION NOT NULL,
        stopping INTEGER NOT NULL DEFAULT 0, key TEXT NOT NULL, map TEXT, created DOUBLE PRECISION NOT NULL,
        started DOUBLE PRECISION, finished DOUBLE PRECISION, changed DOUBLE PRECISION NOT NULL, UNIQUE (owner, key))""",
    "CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, changed)",
    """CREATE TABLE IF NOT EXISTS maps (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL, described TEXT NOT NULL,
        created DOUBLE PRECISION NOT NULL)""",
)

_WAIT_SECONDS = 30.0

Row = dict[str, Any]


class Database:
    """The tables of a service; safe for several threads, each of which has a connection of its own.

    Args:
        address: a file of SQLite, or `postgresql://...`.

    Raises:
        InputError: the server cannot be reached.
        OutputError: the file cannot be made.
    """

    def __init__(self, address: str | Path) -> None:
        self.address = address
        self._mine = threading.local()
        self._open: list[sqlite3.Connection | psycopg.Connection[Any]] = []
        self._turn = threading.Lock()
        for statement in SCHEMA:
            self.run(statement)

    @property
    def is_shared(self) -> bool:
        """Whether it is a server that several machines reach."""
        return is_postgres(self.address)

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Do one statement, with `?` for each value; the number of rows that it changed."""
        return int(self._cursor(statement, values).rowcount)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows that one statement finds, by the names of their columns."""
        return [dict(row) for row in self._cursor(statement, values).fetchall()]

    def row(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """The first of them."""
        return next(iter(self.rows(statement, values)), None)

    def close(self) -> None:
        """Close every connection."""
        with self._turn:
            for connection in self._open:
                connection.close()
            self._open.clear()
            self._mine = threading.local()

    def _cursor(self, statement: str, values: Sequence[Any], *, again: bool = True) -> Any:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = self._connect()
            with self._turn:
                self._open.append(connection)
        if not self.is_shared:
            return connection.execute(statement, values)
        try:
            return connection.execute(statement.replace("?", "%s"), values)
        except Exception:
            if not connection.closed or not again:
                raise
            # the server was started anew. Every statement says what it expects, so that twice does no harm
            del self._mine.connection
            return self._cursor(statement, values, again=False)

    def _connect(self) -> Any:
        if self.is_shared:
            return _connect_postgres(str(self.address))
        path = Path(self.address)
        try:
            connection = sqlite3.connect(
                path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except sqlite3.Error as error:
            raise OutputError(f"cannot use {path}: {error}: choose another folder") from None
        return connection


def is_postgres(address: str | Path) -> bool:
    """Whether an address names a PostgreSQL server."""
    return str(address).startswith(("postgresql://", "postgres://"))


def _connect_postgres(address: str) -> Any:
    import psycopg
    from psycopg.rows import dict_row

    try:
        return psycopg.connect(address, autocommit=True, row_factory=dict_row, connect_timeout=10)
    except psycopg.Error as error:
        told = hide_secrets(" ".join(str(error).split()))
        raise InputError(f"cannot reach {hide_secrets(address)}: {told}") from None
