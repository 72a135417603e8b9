"""A process that dies before its k-th file operation, for every k.

    for point in crash_points(operation, begin):
        ...  # the state that a kill at this point leaves; `point.folder` is a copy for this point alone

Each point runs in a forked child of the test, so that nothing is imported twice. What counts as a file operation is
everything that changes a file system: Python's own calls by their audit events, writes through file objects of Python
by their flush, and renames through the system call that exchanges folders.
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

KILLED = 86
FINISHED = 0
FAILED = 3

_EVENTS = {
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.utime",
    "shutil.rmtree", "shutil.copyfile", "shutil.copytree",
}  # fmt: skip


@dataclass(frozen=True)
class CrashPoint:
    """What a kill left.

    Attributes:
        number: of the operation before which the process died, from 1.
        operation: its name.
        folder: everything as it was left.
    """

    number: int
    operation: str
    folder: Path


class _Counter:
    """Counts file operations below a folder, and ends the process before one of them."""

    def __init__(self, root: Path, last: int, log: int) -> None:
        self.root, self.last, self.log, self.count, self.inside = str(root), last, log, 0, False

    def step(self, name: str) -> None:
        self.count += 1
        if self.count == self.last:
            os.write(self.log, name.encode())
            os._exit(KILLED)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments[:3]
            writes = isinstance(mode, str) and set(mode) & set("wax+")
            writes = writes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes and self.mine(path):
                self.step(f"open {path}")
        elif event in _EVENTS and any(self.mine(argument) for argument in arguments[:2]):
            self.step(f"{event} {arguments[0]}")

    def mine(self, path: object) -> bool:
        if isinstance(path, int):  # rmtree goes by descriptors of folders
            return False
        try:
            text = os.fsdecode(path)  # type: ignore[arg-type]
        except TypeError:
            return False
        # names without a folder are those that rmtree removes by the descriptor of theirs
        return text.startswith(self.root) or os.sep not in text

    def exchange(self, call: object) -> object:
        def counted(*arguments: object) -> object:
            self.step("exchange of folders")
            return call(*arguments)  # type: ignore[operator]

        return counted


def crash_points(
    operation: Callable[[Path], object], begin: Callable[[Path], object], scratch: Path, *, most: int = 2000
) -> Iterator[CrashPoint]:
    """Let an operation die before each of its file operations in turn; ends with the first run that finishes.

    Args:
        operation: called with a folder; runs in a forked child.
        begin: fills a folder with what the operation finds.
        scratch: an empty folder.
        most: a walk of more points is a fault of the test.

    Raises:
        AssertionError: the operation failed by itself, or was never counted.
    """
    start = scratch / "start"
    start.mkdir()
    begin(start)
    for number in range(1, most):
        folder = scratch / "at" / "folder"
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(start, folder, symlinks=True)
        status, told = _die_at(operation, folder, number)
        if status == FINISHED:
            assert number > 1, "the operation changed no file"
            return
        assert status == KILLED, f"the operation failed at point {number} by itself: {told}"
        yield CrashPoint(number, told.replace(str(folder), "."), folder)
    raise AssertionError(f"more than {most} points")


def _die_at(operation: Callable[[Path], object], folder: Path, number: int) -> tuple[int, str]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = FAILED
        try:
            os.close(read)
            counter = _Counter(folder, number, write)
            fsync = os.fsync

            def counted_fsync(descriptor: int) -> None:
                counter.step("fsync")
                fsync(descriptor)

            os.fsync = counted_fsync  # type: ignore[assignment]
            library = ctypes.CDLL
            ctypes.CDLL = lambda *a, **k: _Exchanging(library(*a, **k), counter)  # type: ignore[assignment,misc]
            sys.addaudithook(counter.audit)
            operation(folder)
            counter.last = -1
            status = FINISHED
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}"[:2000].encode())
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def in_child(operation: Callable[[Path], object], folder: Path) -> str:
    """Do something in a forked child; what it raised, in one line, or nothing."""
    return _die_at(operation, folder, -1)[1]


class _Exchanging:
    """The C library, whose exchange of folders is counted."""

    def __init__(self, library: object, counter: _Counter) -> None:
        self._library, self._counter = library, counter

    def __getattr__(self, name: str) -> object:
        found = getattr(self._library, name)
        return self._counter.exchange(found) if name in ("renameat2", "renameatx_np") else found
