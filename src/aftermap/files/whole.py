"""Files that are there whole or not at all, whenever the process dies."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from aftermap.files.writing import writing

PREFIX = ".part-"
"""Begins the name of a file that is being written."""

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)
_SYNCS: ContextVar[bool] = ContextVar("syncs", default=True)


@contextmanager
def replacing(
    path: Path,
    *,
    also: tuple[type[Exception], ...] = (),
    parents: bool = False,
    sync: bool = True,
    shared: bool = False,
) -> Iterator[Path]:
    """Write a file under a temporary name beside it; it takes the place of `path` when the block ends well.

    with replacing(path) as part:
        part.write_bytes(data)

    The temporary name keeps the ending of the real one, for libraries that go by it. After an error nothing of it
    is left and an older file stays.

    Args:
        path: the file.
        also: errors of a library, raised in the block, that mean the file cannot be written.
        parents: make its folder where there is none.
        sync: have it on the disk before it gets its name, so that a loss of power leaves the old file or the
            new one; about 12 ms on a plain disk, so off for the thousands of small files of one result.
        shared: other processes may write the same file at the same moment; the last one wins.

    Raises:
        DiskFullError: there is no space left.
        OutputError: it cannot be written.
    """
    part = path.with_name(f"{PREFIX}{os.getpid()}-{path.name}" if shared else PREFIX + path.name)
    with writing(path, also=also):
        try:
            if parents:
                path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.stat()  # said before any work: some libraries report it in words of their own
            part.unlink(missing_ok=True)
            yield part
            if sync:
                sync_path(part)
            part.replace(path)
            if sync:
                sync_path(path.parent)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, parents: bool = False, sync: bool = True) -> Path:
    """Write a file, whole or not at all; returns it.

    Raises:
        OutputError: it cannot be written; an older file stays.
    """
    with replacing(path, parents=parents, sync=sync) as part:
        part.write_bytes(data)
    return path


def write_text(path: Path, text: str, *, parents: bool = False, sync: bool = True) -> Path:
    """Write text as UTF-8, whole or not at all; returns the file.

    Raises:
        OutputError: it cannot be written; an older file stays.
    """
    return write_bytes(path, text.encode(), parents=parents, sync=sync)


@contextmanager
def unsynced(apply: bool = True) -> Iterator[None]:
    """Within this nothing waits for the disk: for files that are made again after a loss of power anyway.

    Args:
        apply: False changes nothing.
    """
    token = _SYNCS.set(_SYNCS.get() and not apply)
    try:
        yield
    finally:
        _SYNCS.reset(token)


def sync_path(path: Path) -> None:
    """Have a file's bytes, or a folder's list of names, on the disk; where the file system cannot, do without."""
    if not _SYNCS.get():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)
