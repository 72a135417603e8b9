"""One writer at a time: a lock that goes with its process, however that ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from aftermap.errors import OutputError
from aftermap.files.folders import make_folder
from aftermap.files.writing import writing

LOCK_NAME = ".lock"

_held: set["Claim"] = set()


class Claim:
    """The right to write into a folder; given back with `release`, at the end of a `with`, or when the process ends.

    Args:
        folder: made where there is none.
        taken: what to say where another process has it, with `{who}` for that; by default that it is being written.

    Raises:
        OutputError: another process writes into it, or nothing can be written there.
    """

    def __init__(self, folder: Path, *, taken: str | None = None) -> None:
        self.folder = folder
        self._taken = taken
        self._file = folder / LOCK_NAME
        self._descriptor: int | None = self._take()
        _held.add(self)

    def release(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            _held.discard(self)
            with suppress(OSError):
                self._file.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _take(self) -> int:
        make_folder(self.folder)
        with writing(self._file):
            descriptor = _lock(self._file)
        if descriptor is not None:
            return descriptor
        try:
            holder = self._file.read_text().strip()
        except OSError:
            holder = ""
        who = f"process {holder}" if holder.isdigit() else "another process"
        if self._taken is not None:
            raise OutputError(self._taken.replace("{who}", who))
        raise OutputError(
            f"{self.folder} is being written by {who}: wait until it is done, or choose another output"
        )


@contextmanager
def turn(file: Path, *, seconds: float) -> Iterator[None]:
    """Do something that two processes must not do at once, after the other one; not waiting longer than this.

    Args:
        file: of the lock, beside what it is about; removed afterwards.
        seconds: to wait; after that, or where the file cannot be made, it is done all the same.
    """
    descriptor, end = None, time.monotonic() + seconds
    with suppress(OSError):
        while (descriptor := _lock(file)) is None and time.monotonic() < end:
            time.sleep(0.05)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                file.unlink()
            os.close(descriptor)


def _lock(file: Path) -> int | None:
    """A descriptor that holds the lock until it is closed; None where another process has it.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            pass  # a file system without locks: nothing keeps two processes apart there
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                with suppress(OSError):  # a full disk: the number is only told to others
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
        os.close(descriptor)  # its last holder has just removed it


def _let_go() -> None:
    """A child of the process holds nothing: the lock must not outlive the parent in it."""
    for claim in _held:
        if claim._descriptor is not None:
            os.close(claim._descriptor)
            claim._descriptor = None
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
