"""Zip archives of images: unpacked beside nothing of the user's, for as long as the process lives."""

import os
import shutil
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath
from threading import Lock

from aftermap.errors import RasterError

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
