"""Zip archives of images: unpacked beside nothing of the user's, for as long as the process lives."""

import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from threading import Lock

from aftermap.errors import RasterError
from aftermap.geo.opening.limits import SUFFIXES

BESIDE = (".tfw", ".tifw", ".wld", ".pgw", ".jgw", ".j2w", ".prj", ".msk", ".ovr", ".xml")
"""Files that say where an image lies, or what of it is ground."""

_MAX_RATIO = 1032
_unpacked: dict[tuple[Path, int, int], tempfile.TemporaryDirectory[str]] = {}
_lock = Lock()


def unpack(path: Path, suffixes: tuple[str, ...]) -> Path:
    """Folder with the images of a zip archive and what lies beside them; unpacked once, removed when Python ends.

    Raises:
        RasterError: it is damaged, encrypted, holds no image, or more than the disk.
    """
    stat = path.stat()
    key = (path.resolve(), stat.st_size, stat.st_mtime_ns)
    with _lock:
        if key not in _unpacked:
            folder = tempfile.TemporaryDirectory(prefix="aftermap-")
            try:
                _extract(path, Path(folder.name), suffixes)
            except BaseException:
                folder.cleanup()
                raise
            _unpacked[key] = folder
        return Path(_unpacked[key].name)


def forget_unpacked() -> None:
    """Remove what was unpacked, for a process that goes on for long."""
    with _lock:
        for folder in _unpacked.values():
            folder.cleanup()
        _unpacked.clear()


def _extract(path: Path, folder: Path, suffixes: tuple[str, ...]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if _is_wanted(info, suffixes)]
            if not any(info.filename.lower().endswith(suffixes) for info in members):
                raise RasterError(f"{path} holds no images: expected files ending in {', '.join(suffixes)}")
            size = sum(info.file_size for info in members)
            free = shutil.disk_usage(folder).free
            if size > free or size > _MAX_RATIO * path.stat().st_size + 1_000_000:
                raise RasterError(
                    f"{path} claims to hold {size:,} bytes of images, {free:,} are free in {folder.parent}: unpack it "
                    "elsewhere and pass the folder"
                )
            for info in members:
                out = Path(archive.extract(info, folder))
                moment = time.mktime((*info.date_time, 0, 0, -1))
                os.utime(out, (moment, moment))
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        OverflowError,
    ) as error:
        raise RasterError(f"{path} cannot be unpacked: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise RasterError(f"{path} cannot be unpacked: {(error.strerror or str(error)).lower()}") from None


def _is_wanted(info: zipfile.ZipInfo, suffixes: tuple[str, ...]) -> bool:
    place = PurePosixPath(info.filename)
    if (
        info.is_dir()
        or place.is_absolute()
        or any(part.startswith((".", "__MACOSX")) for part in place.parts)
    ):
        return False
    return place.name.lower().endswith((*suffixes, *BESIDE))


def find_images(path_or_paths: str | Path | Sequence[str | Path]) -> tuple[list[Path], str]:
    """All image files meant by the arguments, folders and archives expanded and sorted, and a name for them.

    Raises:
        RasterError: nothing was given, or a folder or archive without images.
    """
    single = isinstance(path_or_paths, (str, Path))
    given = (
        [Path(path_or_paths)] if isinstance(path_or_paths, (str, Path)) else [Path(p) for p in path_or_paths]
    )
    if not given:
        raise RasterError("no image was given, expected a file, several files or a folder of tiles")
    found: list[Path] = []
    for path in given:
        folder = unpack(path, SUFFIXES) if path.suffix.lower() == ".zip" and path.is_file() else path
        if not folder.is_dir():
            found.append(path)
            continue
        tiles = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and _is_shown(p, folder))
        if not tiles:
            raise RasterError(f"{path} holds no images: expected tiles ending in {', '.join(SUFFIXES)}")
        found.extend(tiles)
    return found, given[0].name if single else f"{given[0].name} and {len(given) - 1} more"


def _is_shown(path: Path, folder: Path) -> bool:
    """False for hidden files, files of hidden folders, and folders."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
