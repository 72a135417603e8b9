"""Copies of remote files on this machine, kept until there are too many of them."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from aftermap.errors import OutputError
from aftermap.files import make_folder, sha256_of, turn
from aftermap.files.cache import cache_folder, temporary_folder
from aftermap.remote import Address, Stat
from aftermap.remote.reach import parse_amount

KEPT_VARIABLE = "AFTERMAP_ONLINE_KEPT"
"""Environment variable with the most bytes of copies that stay in the cache; the oldest go first."""

_DEFAULT_KEPT = "20GB"
_IN_USE_S = 24 * 3600
_LONGEST_TURN_S = 1800.0


def kept(
    address: Address,
    stat: Stat,
    name: str,
    make: Callable[[Path], None],
    *,
    part: Sequence[int] | None = None,
) -> Path:
    """A copy of a remote file, or of a part of it, made where there is none of this version.

    Args:
        address: of the file.
        stat: its version.
        name: of the copy.
        make: writes it, whole or not at all.
        part: what of the file is copied; None for all.

    Returns:
        A path that stays for as long as this process lives, whatever becomes of the cache.
    """
    version = stat.etag or f"{stat.modified} {address.query}"
    words = json.dumps([1, address.shown, version, stat.size, part])
    folder = cache_folder() / "online" / hashlib.sha256(words.encode()).hexdigest()[:24]
    path = folder / name
    if not path.is_file():
        try:
            make_folder(folder)
            _prune(folder.parent)
            with turn(
                folder.with_suffix(".turn"), seconds=_LONGEST_TURN_S
            ):  # workers may want one image at once
                if not path.is_file():
                    make(path)
        except OutputError:
            with suppress(OSError):
                folder.rmdir()
            raise
    with suppress(OSError):
        os.utime(folder)
    return _pinned(path, folder.name)


def find_kept(files: Sequence[Mapping[str, Any]]) -> Path | None:
    """Copies that an earlier run made of the images of one date, by what its report says of them.

    Args:
        files: name, size and address of each, as in `provenance.json`.

    Returns:
        A file, or a folder of this process where there are several; None where a copy is no longer there, or an image did
        not come from elsewhere.
    """
    found = []
    for file in files:
        name, size = str(file.get("name")), file.get("bytes")
        name = name if len(files) == 1 else name.partition("-")[2]
        if "address" not in file or not name or name != Path(name).name:
            return None
        alike = [
            path
            for path in sorted((cache_folder() / "online").glob(f"*/{escape(name)}"))
            if path.stat().st_size == size
        ]
        if len(alike) > 1:  # tiles of one pass have one name
            alike = [path for path in alike if sha256_of(path) == file.get("sha256")]
        copy = alike[0] if alike else None
        if copy is None:
            return None
        found.append(_pinned(copy, copy.parent.name))
    return None if not found else found[0] if len(found) == 1 else gathered(found)


def gathered(paths: Sequence[Path]) -> Path:
    """A folder of this process with several files, numbered so that their order stays."""
    key = hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()[:24]
    folder = make_folder(temporary_folder() / "online" / key)
    for number, path in enumerate(paths, start=1):
        own = folder / f"{number:03d}-{path.name}"
        if not own.exists():
            own.symlink_to(path.absolute())
    return folder


def _pinned(path: Path, key: str) -> Path:
    """The same file under a name of this process, which nobody removes while it is read."""
    own = temporary_folder() / "online" / key / path.name
    if not own.exists():
        make_folder(own.parent)
        try:
            os.link(path, own)
        except OSError:  # another file system
            return path
    return own


def _prune(folder: Path) -> None:
    """Remove the copies that were not used for longest where all together are too many."""
    limit = parse_amount(os.environ.get(KEPT_VARIABLE, _DEFAULT_KEPT), KEPT_VARIABLE)
    copies = []
    for entry in (each for each in folder.iterdir() if each.is_dir()):
        with suppress(OSError):
            size = sum(file.stat().st_size for file in entry.iterdir())
            copies.append((entry.stat().st_mtime, size, entry))
    total = sum(size for _, size, _ in copies)
    for used, size, entry in sorted(copies):
        if total <= limit or time.time() - used < _IN_USE_S:
            return
        shutil.rmtree(entry, ignore_errors=True)
        total -= size
