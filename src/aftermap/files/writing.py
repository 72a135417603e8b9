"""One line for a write that failed: what could not be written, why, and what to do."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aftermap.errors import OutputError

_FULL_BYTES = 1 << 20

_ELSEWHERE = "choose another place"
_WORDS = {
    errno.EROFS: f"the file system is read-only: {_ELSEWHERE}",
    errno.EACCES: f"permission denied: {_ELSEWHERE}",
    errno.EPERM: f"not permitted: {_ELSEWHERE}",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EFBIG: f"the file is larger than a limit here allows (ulimit -f, or the file system): {_ELSEWHERE}",
    errno.EISDIR: "it is a folder, expected a file: choose another name",
}


class DiskFullError(OutputError):
    """There is no space left for the result."""


@contextmanager
def writing(path: Path, *, also: tuple[type[Exception], ...] = (), resumable: bool = False) -> Iterator[None]:
    """Turn what the operating system says about a failed write into an OutputError that says what to do.

    Args:
        path: what is being written, named in the message.
        also: errors of a library that mean the same, such as rasterio's.
        resumable: what is finished stays, and `--resume` goes on from it.

    Raises:
        DiskFullError: there is no space left.
        OutputError: it cannot be written.
    """
    failures: tuple[type[Exception], ...] = (OSError, OutputError, *also)
    try:
        yield
    except failures as error:
        if _is_full(error, path):
            then = "then pass --resume" if resumable else "then try again"
            raise DiskFullError(f"cannot write {path}: the disk is full: free some space, {then}") from error
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {path}: {_reason(error, path)}") from error


def keep_inputs(out: Path, *inputs: Path | str | None) -> None:
    """Refuse to write over a file that is being read.

    Args:
        out: what is to be written.
        inputs: what is read; None and addresses are nothing of this machine.

    Raises:
        OutputError: it is one of them, also by another name.
    """
    for each in inputs:
        if each is None:
            continue
        with suppress(OSError, ValueError):
            if out.samefile(each):
                raise OutputError(f"{out} is read for this, and stays as it is: choose another name to write")


def one_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def _reason(error: Exception, path: Path) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not parent.is_dir():
            return f"{parent} is a file, expected a folder: {_ELSEWHERE}"
        if parent != path.absolute().parent:
            return f"there is no folder {path.parent}: make it first, or correct the path"
    if code in _WORDS:
        return _WORDS[code]
    text = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    return f"{text}: {_ELSEWHERE}"


def _is_full(error: Exception, path: Path) -> bool:
    """Whether no space is the cause; libraries report that in many words, some of them far from it."""
    if isinstance(error, DiskFullError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    place = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(place).free < _FULL_BYTES
