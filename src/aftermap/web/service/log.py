"""What the service writes down: lines of JSON, one an event. The log goes to standard error, the audit log to a file."""

import json
import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aftermap.redaction import hide_secrets

_turn = threading.Lock()


_QUIET = ("request", "job begins", "job ends", "worker begins", "worker ends")
"""Not told to somebody at a terminal."""

_quiet = False


def be_quiet() -> None:
    """Tell only what went wrong from now on."""
    global _quiet
    _quiet = True


def log(event: str, about: dict[str, Any]) -> None:
    """Write a line on standard error."""
    if _quiet and event in _QUIET:
        return
    line = _line({"event": event, **about})
    with _turn:
        sys.stderr.write(line)
        sys.stderr.flush()


class AuditLog:
    """Who did what, and who was refused. Lines are only ever added.

    Args:
        path: the file; for its owner's eyes alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._turn = threading.Lock()

    def add(self, **about: Any) -> None:
        """Add a line."""
        with self._turn:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(self._descriptor, _line(about).encode())

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _line(tree: dict[str, Any]) -> str:
    stamped = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **tree}
    return hide_secrets(json.dumps(stamped, ensure_ascii=True, default=str)) + "\n"
