"""One command at a time for a bucket: a file there says who writes, and is written anew as long as they live.

    OUT/lease.json      machine, process, and a number of its own

A store locks nothing, so this holds among commands that ask. Whose last sign is older than `LASTS_SECONDS`, or whose
process is gone from this machine, is taken for dead.
"""

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aftermap.errors import AbsentError, AftermapError, OutputError
from aftermap.remote import Address, Online

NAME = "lease.json"
LASTS_SECONDS = 120.0
_EVERY_SECONDS = 20.0


class Lease:
    """The right to write into a folder of a bucket, until `release`.

    Args:
        out: the folder.
        online: the way there.
        take_over: take it from whoever has it.

    Raises:
        OutputError: another command has it, and lives.
        RemoteError: the bucket cannot be read or written.
    """

    def __init__(self, out: Address, online: Online, *, take_over: bool = False) -> None:
        self._out, self._address, self._online = out, out.join(NAME), online
        own = {"machine": socket.gethostname(), "process": os.getpid(), "number": uuid.uuid4().hex}
        self._number, self._data = own["number"], json.dumps(own).encode()
        self._take(take_over)
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._beat.start()

    def check(self) -> None:
        """Make sure that nobody has taken it over.

        Raises:
            OutputError: somebody has.
        """
        told = self._told()
        if told is not None and told.get("number") != self._number:
            raise OutputError(f"{self._out.shown} was taken over by {_who(told)}, which makes the map now")

    def release(self) -> None:
        """Give it back, unless somebody has taken it over."""
        self._ended.set()
        self._beat.join(5)
        with suppress(AftermapError):
            self.check()
            self._online.delete(self._address)

    def _take(self, take_over: bool) -> None:
        if self._online.write(self._address, self._data, create=True):
            return
        told = self._told()
        if told is not None and not take_over and not _is_dead(told):
            age = self._age()
            if age < LASTS_SECONDS:
                raise OutputError(
                    f"{self._out.shown} is being written by {_who(told)}, which gave a sign {age:.0f} s ago: wait until "
                    f"it is done; where it is dead, wait {LASTS_SECONDS - age:.0f} s more or pass --take-over"
                )
        self._online.write(self._address, self._data)
        self.check()

    def _told(self) -> dict[str, Any] | None:
        """What the file says; None where there is none."""
        try:
            told = json.loads(self._online.read(self._address))
        except AbsentError:
            return None
        except (ValueError, RecursionError):
            return {}
        return told if isinstance(told, dict) else {}

    def _age(self) -> float:
        """Seconds since it was written last, by the clock of the store."""
        modified = self._online.stat(self._address).modified
        return 0.0 if modified is None else max(0.0, (datetime.now(UTC) - modified).total_seconds())

    def _renew(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            with suppress(AftermapError):  # a store that does not answer now may answer the next time
                self.check()
                self._online.write(self._address, self._data)


def _who(told: dict[str, Any]) -> str:
    return f"process {told.get('process', '?')} of {told.get('machine', 'an unknown machine')}"


def _is_dead(told: dict[str, Any]) -> bool:
    """Whether it was a process of this machine that is gone."""
    process = told.get("process")
    if told.get("machine") != socket.gethostname() or not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
