"""Who may do what: tokens with scopes and an area of interest, of which only a checksum is kept."""

import hashlib
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from aftermap.errors import InputError
from aftermap.workflows.service.areas import Area
from aftermap.workflows.service.database import Database, Row

Scope = Literal["read", "map", "review", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "aftermap_"
_SECRET_BYTES = 32
SESSION_SECONDS = 12 * 3600.0


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        id: of the token; `local` where the service asks for none.
        name: as people call it.
        scopes: what may be done.
        area: ground that may be seen; None for all.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    area: Area | None = None

    def may(self, scope: Scope) -> bool:
        """Whether a scope is held; who administers may do everything."""
        return scope in self.scopes or "admin" in self.scopes


LOCAL = Caller("local", "local", frozenset(SCOPES))
"""Whoever uses a service without tokens, on its own machine."""


def create_token(
    database: Database,
    name: str,
    scopes: Sequence[str],
    *,
    area: Area | None = None,
    days: float | None = None,
) -> str:
    """Make a token; the secret is told once and cannot be read again.

    Raises:
        InputError: a scope is unknown, or the name is empty or taken.
    """
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise InputError(f"there is no scope {unknown[0]!r}: choose from {', '.join(SCOPES)}")
    if not scopes:
        raise InputError(f"a token needs a scope: choose from {', '.join(SCOPES)}")
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise InputError("a token needs a name of at most 100 letters")
    if database.row("SELECT id FROM tokens WHERE name=? AND revoked=0 AND parent IS NULL", (name,)):
        raise InputError(f"there is a token {name} already: revoke it, or choose another name")
    expires = None if days is None else time.time() + days * 86400
    secret, _ = _add(database, name, scopes, area.text if area else None, None, expires)
    return secret


def open_session(database: Database, caller: Caller) -> tuple[str, float]:
    """A secret for a browser's cookie, in place of a token: ends by itself, and with the token. And its seconds."""
    area = caller.area.text if caller.area else None
    expires = time.time() + SESSION_SECONDS
    secret, _ = _add(database, caller.name, sorted(caller.scopes), area, caller.id, expires)
    return secret, SESSION_SECONDS


def find_caller(database: Database, secret: str) -> Caller | None:
    """Who holds a secret; None where nobody does, or not any more."""
    row = database.row("SELECT * FROM tokens WHERE digest=?", (_digest(secret),))
    if row is None or _is_over(row):
        return None
    if row["parent"] is not None:
        parent = database.row("SELECT * FROM tokens WHERE id=?", (row["parent"],))
        if parent is None or _is_over(parent):
            return None
        row = parent
    scopes = frozenset(scope for scope in SCOPES if scope in row["scopes"].split(","))
    return Caller(row["id"], row["name"], scopes, Area(row["area"]) if row["area"] else None)


def list_tokens(database: Database) -> list[Row]:
    """All tokens but those of browsers, without their secrets."""
    rows = database.rows("SELECT * FROM tokens WHERE parent IS NULL ORDER BY created")
    return [
        {
            "name": row["name"],
            "scopes": row["scopes"].split(","),
            "area": row["area"] is not None,
            "created": row["created"],
            "expires": row["expires"],
            "state": "revoked" if row["revoked"] else "expired" if _is_over(row) else "valid",
        }
        for row in rows
    ]


def has_tokens(database: Database) -> bool:
    """Whether a token is valid."""
    return any(row["state"] == "valid" for row in list_tokens(database))


def revoke_token(database: Database, name: str) -> None:
    """Let a token and what was opened with it count no more.

    Raises:
        InputError: there is none of that name.
    """
    if not database.run("UPDATE tokens SET revoked=1 WHERE name=? AND revoked=0 AND parent IS NULL", (name,)):
        known = ", ".join(row["name"] for row in list_tokens(database) if row["state"] == "valid") or "none"
        raise InputError(f"there is no valid token {name}: there is {known}")


def end_session(database: Database, secret: str) -> None:
    """Let a browser's secret count no more."""
    database.run("UPDATE tokens SET revoked=1 WHERE digest=? AND parent IS NOT NULL", (_digest(secret),))


def _add(
    database: Database,
    name: str,
    scopes: Sequence[str],
    area: str | None,
    parent: str | None,
    expires: float | None,
) -> tuple[str, str]:
    secret, number = PREFIX + secrets.token_urlsafe(_SECRET_BYTES), uuid.uuid4().hex
    database.run(
        "INSERT INTO tokens (id, name, digest, scopes, area, parent, created, expires) VALUES (?,?,?,?,?,?,?,?)",
        (number, name, _digest(secret), ",".join(scopes), area, parent, time.time(), expires),
    )
    return secret, number


def _digest(secret: str) -> str:
    """Of 32 random bytes, which nobody guesses: a slow checksum would protect no better."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_over(row: Row) -> bool:
    return bool(row["revoked"]) or (row["expires"] is not None and row["expires"] < time.time())
