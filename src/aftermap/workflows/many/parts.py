"""Parts: what is left of a scene once it is mapped, one archive each, put in its place whole and once.

    PARTS/NAME-KEY.zip      provenance.json, summary.json, buildings.gpkg, damage.tif, probabilities.tif, two pictures,
                            job.json

The key tells what went in: images, options, model, version. Two workers that do the same scene make the same part; the
first one counts. A folder of this machine holds them, or a bucket.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from aftermap.errors import InputError
from aftermap.files import make_folder, writing
from aftermap.files.whole import PREFIX, sync_path

ENDING = ".zip"
FACTS = "job.json"


class Parts(Protocol):
    """Where parts are kept; small and picklable, as every worker has one."""

    def names(self) -> set[str]:
        """Those that are there, without their ending."""

    def keep(self, name: str, file: Path) -> bool:
        """Put a file in its place, whole; False where one is there already, which stays."""

    def fetch(self, name: str, folder: Path) -> Path:
        """The file of a part, on this machine; in `folder` where it has to be brought."""


class FolderParts:
    """Parts in a folder that all workers see.

    Args:
        folder: made where there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> set[str]:
        """Those that are there, without their ending."""
        return {path.name.removesuffix(ENDING) for path in self.folder.glob(f"*{ENDING}")}

    def keep(self, name: str, file: Path) -> bool:
        """Put a file in its place, whole; False where one is there already, which stays."""
        target = make_folder(self.folder) / f"{name}{ENDING}"
        part = target.with_name(f"{PREFIX}{os.getpid()}-{target.name}")
        with writing(target):
            try:
                shutil.copyfile(file, part) if not _linked(file, part) else None
                sync_path(part)
                os.link(part, target)  # fails where there is one, at the same moment too
            except FileExistsError:
                return False
            finally:
                with suppress(OSError):
                    part.unlink()
            sync_path(self.folder)
        return True

    def fetch(self, name: str, folder: Path) -> Path:
        """The file of a part."""
        return self.folder / f"{name}{ENDING}"


def _linked(file: Path, part: Path) -> bool:
    """Whether the file could be given a second name, which costs nothing."""
    try:
        os.link(file, part)
    except OSError:
        return False
    return True


def pack(folder: Path, file: Path) -> Path:
    """Put the files of a folder into an archive, unpacked as they are: they are packed each for itself."""
    with writing(file), zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                archive.write(path, path.name)
    return file


def facts_of(file: Path) -> dict[str, Any]:
    """What the work said of the scene of a part; nothing where it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            told = json.loads(archive.read(FACTS))
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def unpack(file: Path, folder: Path, names: Iterable[str]) -> Path:
    """Take some files out of a part, which is checked by its checksums on the way.

    Raises:
        InputError: it is no archive, or a file is missing or altered.
    """
    make_folder(folder)
    try:
        with zipfile.ZipFile(file) as archive:
            for name in names:
                with archive.open(name) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise InputError(
            f"the part {file} cannot be used: {error}: remove it, and repeat with --resume"
        ) from None
    return folder
