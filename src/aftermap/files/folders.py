"""Folders that are there whole or not at all, and that keep what their user put into them."""

import ctypes
import errno
import fnmatch
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aftermap.files.whole import PREFIX, sync_path
from aftermap.files.writing import writing

_AT_FDCWD = -100 if sys.platform == "linux" else -2
_EXCHANGE = 2


@contextmanager
def replacing_folder(
    folder: Path, *, ours: Sequence[str], also: tuple[type[Exception], ...] = ()
) -> Iterator[Path]:
    """Write a folder under a temporary name beside it; it takes the place of `folder` when the block ends well.

    with replacing_folder(path, ours=("card.json", "model.safetensors", "README.md")) as part:
        (part / "card.json").write_text(...)

    At no moment is there no folder where there was one, and what an older folder holds that is not ours is in the
    new one too.

    Args:
        folder: the folder.
        ours: names at its top that are made by us, with `*` and `?`; the rest is the user's.
        also: errors of a library, raised in the block, that mean the folder cannot be written.

    Raises:
        DiskFullError: there is no space left.
        OutputError: it cannot be written; an older folder stays.
    """
    folder = real_path(folder)
    part = folder.with_name(PREFIX + folder.name)
    with writing(folder, also=also):
        restore(folder)
        remove_folder(part)
        part.mkdir(parents=True)
        try:
            yield part
            put_in_place(part, folder, ours=ours)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def make_folder(folder: Path) -> Path:
    """Make a folder, and those above it, where there is none; returns it.

    Raises:
        OutputError: it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def put_in_place(made: Path, folder: Path, *, ours: Sequence[str]) -> None:
    """Give a finished folder its name, in place of an older one, with what the user put into that.

    What is older lies at `made` afterwards, or nothing does.

    Raises:
        OSError: it cannot be done; nothing has changed then.
    """
    sync_tree(made)
    if folder.exists():
        carry_over(folder, made, ours=ours)
        exchange(made, folder)
        carry_over(made, folder, ours=ours)  # what was put there in between
    else:
        made.rename(folder)
    sync_path(folder.parent)


def carry_over(old: Path, new: Path, *, ours: Sequence[str]) -> list[str]:
    """Put what is not ours in an older folder into the new one too, linked where the file system can.

    Returns:
        Names at the top that were carried over.
    """
    theirs = sorted(entry.name for entry in old.iterdir() if not is_ours(entry.name, ours))
    for name in theirs:
        if not (new / name).exists():
            _copy(old / name, new / name)
    return theirs


def is_ours(name: str, ours: Sequence[str]) -> bool:
    """Whether a name is among ours, or that of a file which a library keeps beside one of ours."""
    names = [name, *(name.removesuffix(ending) for ending in _COMPANIONS if name.endswith(ending))]
    return name.startswith(PREFIX) or any(fnmatch.fnmatchcase(n, own) for n in names for own in ours)


_COMPANIONS = (".aux.xml", ".ovr", ".msk", "-wal", "-shm", "-journal", ".part")
"""What GDAL and SQLite keep beside a file of ours: it describes the old one and would spoil the new one."""


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        target.mkdir(exist_ok=True)
        for entry in source.iterdir():
            _copy(entry, target / entry.name)
        shutil.copystat(source, target)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)


def exchange(one: Path, other: Path) -> None:
    """Let two folders take each other's place, in one step where the system can.

    Elsewhere `other` lies at `.part-old-<other>` for a moment, from where `restore` brings it back.
    """
    if _exchange_at_once(one, other):
        return
    old = _aside(other)
    remove_folder(old)
    other.rename(old)
    try:
        one.rename(other)
    except OSError:
        old.rename(other)
        raise
    old.rename(one)


def restore(folder: Path) -> None:
    """Bring a folder back that a killed process had moved aside."""
    if folder.exists():
        return
    old, made = (folder.with_name(f"{folder.name}.{ending}") for ending in ("old", "part"))
    if _aside(folder).is_dir():
        _aside(folder).rename(folder)
    elif old.is_dir() and made.is_dir():  # by a version that knew no exchange
        old.rename(folder)


def real_path(folder: Path) -> Path:
    """Where a folder lies that the user may have put a link to: the work is done there, and the link stays."""
    return folder.resolve() if folder.is_symlink() else folder


def remove_folder(folder: Path) -> None:
    """Delete a folder of ours, or the link or file of its name; nothing there is fine.

    Raises:
        OSError: it cannot be deleted.
    """
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Delete what killed processes left half made in a folder that this one has claimed."""
    for stale in folder.glob(f"{PREFIX}*"):
        remove_folder(stale)


def sync_tree(folder: Path) -> None:
    """Have every file below a folder on the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError, PermissionError):
                sync_path(Path(place) / name)
        sync_path(Path(place))


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{PREFIX}old-{folder.name}")


def _exchange_at_once(one: Path, other: Path) -> bool:
    names = {"linux": "renameat2", "darwin": "renameatx_np"}
    call = getattr(ctypes.CDLL(None, use_errno=True), names.get(sys.platform, ""), None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # the kernel, or the file system, cannot
        return False
    raise OSError(code, os.strerror(code), str(other))
