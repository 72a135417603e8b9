"""One writer at a time: a lock that goes with its process, however that ends."""

import fcntl
import os
from contextlib import suppress
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

    Raises:
        OutputError: another process writes into it, or nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        while True:
            make_folder(self.folder)
            with writing(self._file):
                descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
                os.close(descriptor)
                who = f"process {holder}" if holder.isdigit() else "another process"
                raise OutputError(
                    f"{self.folder} is being written by {who}: wait until it is done, or choose another output"
                ) from None
            except OSError:
                pass  # a file system without locks: nothing keeps two processes apart there
            if self._is_still_there(descriptor):
                with suppress(OSError):  # a full disk: the number is only told to others
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
            os.close(descriptor)

    def _is_still_there(self, descriptor: int) -> bool:
        """Whether the file that was locked is not one that its last holder has just removed."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._file.stat())
        except FileNotFoundError:
            return False


def _let_go() -> None:
    """A child of the process holds nothing: the lock must not outlive the parent in it."""
    for claim in _held:
        if claim._descriptor is not None:
            os.close(claim._descriptor)
            claim._descriptor = None
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
