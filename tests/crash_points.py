"""What a process leaves that dies before its k-th file operation, for every k.

    for point in crash_points(operation, begin):
        ...  # the state that a kill at this point leaves; `point.folder` is a copy for this point alone

The operation runs once, in a forked child of the test, so that nothing is imported twice; before each of its file
operations everything on the disk is copied, which is what a kill there would leave: what a file object has not yet
flushed is not on the disk, and locks end with the child. What counts as a file operation is everything that changes a
file system: Python's own calls by their audit events, writes through file objects of Python by their flush, and renames
through the system call that exchanges folders.
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
    """Copies the folder of a folder before each file operation below it, and tells the operation's name."""

    def __init__(self, root: Path, kept: Path | None, log: int) -> None:
        self.root, self.kept, self.log, self.count, self.copying = root, kept, log, 0, False

    def step(self, name: str) -> None:
        if self.kept is None or self.copying:
            return
        self.count += 1
        self.copying = True
        shutil.copytree(self.root.parent, self.kept / str(self.count), symlinks=True)
        self.copying = False
        os.write(self.log, f"{name}\n".encode())

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
        return text.startswith(str(self.root)) or os.sep not in text

    def exchange(self, call: object) -> object:
        def counted(*arguments: object) -> object:
            self.step("exchange of folders")
            return call(*arguments)  # type: ignore[operator]

        return counted


def crash_points(
    operation: Callable[[Path], object], begin: Callable[[Path], object], scratch: Path, *, most: int = 2000
) -> Iterator[CrashPoint]:
    """Walk what an operation leaves where it dies, before each of its file operations in turn.

    Args:
        operation: called with a folder; runs in a forked child.
        begin: fills a folder with what the operation finds.
        scratch: an empty folder.
        most: a walk of more points is a fault of the test.

    Raises:
        AssertionError: the operation failed by itself, or was never counted.
    """
    folder, kept = scratch / "at" / "folder", scratch / "kept"
    folder.mkdir(parents=True)
    kept.mkdir()
    begin(folder)
    status, told = _in_child(operation, folder, kept)
    assert status == FINISHED, f"the operation failed by itself: {told}"
    names = told.splitlines()
    assert names, "the operation changed no file"
    assert len(names) < most, f"more than {most} points"
    for number, name in enumerate(names, 1):
        shutil.rmtree(folder.parent)
        (kept / str(number)).rename(folder.parent)
        yield CrashPoint(number, name.replace(str(folder), "."), folder)


def _in_child(operation: Callable[[Path], object], folder: Path, kept: Path | None) -> tuple[int, str]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = FAILED
        try:
            os.close(read)
            counter = _Counter(folder, kept, write)
            fsync = os.fsync

            def counted_fsync(descriptor: int) -> None:
                counter.step("fsync")
                fsync(descriptor)

            os.fsync = counted_fsync  # type: ignore[assignment]
            library = ctypes.CDLL
            ctypes.CDLL = lambda *a, **k: _Exchanging(library(*a, **k), counter)  # type: ignore[assignment,misc]
            sys.addaudithook(counter.audit)
            operation(folder)
            counter.copying = True
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
    return _in_child(operation, folder, None)[1]


class _Exchanging:
    """The C library, whose exchange of folders is counted."""

    def __init__(self, library: object, counter: _Counter) -> None:
        self._library, self._counter = library, counter

    def __getattr__(self, name: str) -> object:
        found = getattr(self._library, name)
        return self._counter.exchange(found) if name in ("renameat2", "renameatx_np") else found
