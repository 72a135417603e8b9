"""Files that users send: written as they come, checked before anything else touches them, counted against a budget."""

import json
import os
import re
import shutil
import time
import unicodedata
import uuid
import warnings
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import anyio

from aftermap.errors import AftermapError, InputError, OutputError
from aftermap.files import make_folder
from aftermap.files.folders import remove_folder
from aftermap.files.writing import writing
from aftermap.geo.opening.limits import MAX_PIXELS_VARIABLE, SUFFIXES
from aftermap.wording import counted
from aftermap.workflows.service.database import Database, Row
from aftermap.workflows.service.place import Place

VECTORS = (".gpkg", ".geojson", ".json", ".geojsonl", ".fgb", ".parquet", ".kml", ".csv", ".zip", ".kmz")
"""Endings of footprints and areas that are taken; Shapefiles come in an archive."""

ARCHIVE_MEMBERS = 10_000
ARCHIVE_RATIO = 200
"""How much larger than itself an archive may claim to be: images hardly shrink in one."""

_CHECKED_EVERY = 16 << 20
_LONGEST = 80
_UNRECORDED_SECONDS = 3600.0

Purpose = Literal["image", "vectors"]
Check = Callable[[Path, Purpose, int], dict[str, Any]]


class TooLargeError(InputError):
    """An upload is beyond a budget."""


@dataclass(frozen=True)
class Upload:
    """A file that was sent.

    Attributes:
        id: of it.
        owner: id of the token that sent it.
        name: as it is kept.
        bytes: its size.
        kind: whether it holds images or vectors.
        described: what was found in it.
        created: seconds since 1970.
    """

    id: str
    owner: str
    name: str
    bytes: int
    kind: Purpose
    described: dict[str, Any]
    created: float


class Uploads:
    """All uploads of a service.

    Args:
        place: where they lie, and what is allowed.
        database: where they are recorded.
        check: says what is in a file, or refuses it; by default in this process.
    """

    def __init__(self, place: Place, database: Database, check: Check | None = None) -> None:
        self._place, self._database = place, database
        self._check: Check = check or check_file
        self._arriving: dict[str, int] = {}

    def find(self, number: str) -> Upload | None:
        """An upload by its id."""
        row = self._database.row("SELECT * FROM uploads WHERE id=?", (number,))
        return None if row is None else _upload(row)

    def all(self, owner: str | None = None, *, limit: int = 100, offset: int = 0) -> list[Upload]:
        """Uploads of one owner, or of all, the latest first."""
        where, values = ("WHERE owner=? ", [owner]) if owner else ("", [])
        statement = f"SELECT * FROM uploads {where}ORDER BY created DESC, id LIMIT ? OFFSET ?"
        return [_upload(row) for row in self._database.rows(statement, (*values, limit, offset))]

    def path(self, upload: Upload) -> Path:
        """Where it lies."""
        return self._place.upload(upload.id) / upload.name

    def remove(self, number: str) -> None:
        """Delete one."""
        self._database.run("DELETE FROM uploads WHERE id=?", (number,))
        with writing(self._place.upload(number)):
            remove_folder(self._place.upload(number))

    def kept_bytes(self, owner: str) -> int:
        """Of all that an owner has sent."""
        row = self._database.row("SELECT COALESCE(SUM(bytes), 0) AS n FROM uploads WHERE owner=?", (owner,))
        return int(row["n"]) if row else 0

    async def receive(
        self, owner: str, name: str, purpose: Purpose, parts: AsyncIterator[bytes], *, told_bytes: int | None
    ) -> Upload:
        """Write an upload as it comes, and check it; nothing stays of one that is refused.

        Args:
            owner: whose.
            name: of the file, as the user calls it.
            purpose: what it is to be.
            parts: its content.
            told_bytes: how long it says it is.

        Raises:
            TooLargeError: it is beyond a budget.
            InputError: it is not what it is to be.
            OutputError: it cannot be kept.
        """
        kept = file_name(name, purpose)
        number = uuid.uuid4().hex
        held = await anyio.to_thread.run_sync(self.kept_bytes, owner)
        allowed = self._allowed(held)
        if told_bytes is not None and told_bytes > allowed:
            raise TooLargeError(f"{kept} is of {told_bytes:,} bytes, {allowed:,} are allowed")
        folder = self._place.folder / "uploads" / f".part-{number}"
        path = folder / kept
        try:
            make_folder(folder)
            size = await self._write(owner, path, parts, allowed, held)
            described = await anyio.to_thread.run_sync(self._check, path, purpose, self._place.limits.pixels)
            upload = Upload(number, owner, kept, size, purpose, described, time.time())
            with writing(self._place.upload(number)):
                folder.rename(self._place.upload(number))
            self.keep(upload)
            return upload
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, upload: Upload) -> None:
        """Record a file that lies where it is to lie; one that is recorded stays as it is."""
        self._database.run(
            "INSERT INTO uploads (id, owner, name, bytes, kind, described, created) VALUES (?,?,?,?,?,?,?) "
            "ON CONFLICT (id) DO NOTHING",
            (
                *(upload.id, upload.owner, upload.name, upload.bytes, upload.kind),
                *(json.dumps(upload.described), upload.created),
            ),
        )

    def allowed(self, owner: str) -> int:
        """Bytes that an owner may still send."""
        return self._allowed(self.kept_bytes(owner))

    def clear(self) -> None:
        """Delete what an ended server left half received, and what a killed one did not come to record."""
        for folder in (self._place.folder / "uploads").iterdir():
            old = time.time() - folder.stat().st_mtime > _UNRECORDED_SECONDS
            if folder.name.startswith(".part-") or (old and self.find(folder.name) is None):
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _counted(self, owner: str) -> Iterator[Callable[[int], None]]:
        """Count what arrives for an owner, so that many uploads at once are not allowed each what one would be."""
        mine = 0

        def arrived(count: int) -> None:
            nonlocal mine
            mine += count
            self._arriving[owner] = self._arriving.get(owner, 0) + count

        try:
            arrived(0)
            yield arrived
        finally:
            self._arriving[owner] -= mine

    def _allowed(self, kept: int) -> int:
        limits = self._place.limits
        free = shutil.disk_usage(self._place.folder).free - limits.free_bytes
        return max(0, min(limits.upload_bytes, limits.kept_bytes - kept, free))

    async def _write(
        self, owner: str, path: Path, parts: AsyncIterator[bytes], allowed: int, kept: int
    ) -> int:
        size = unsaved = 0
        with writing(path), self._counted(owner) as arrived:
            async with await anyio.open_file(path, "wb") as file:
                async for part in parts:
                    size, unsaved = size + len(part), unsaved + len(part)
                    arrived(len(part))
                    if size > allowed or self._arriving[owner] > self._place.limits.kept_bytes - kept:
                        raise TooLargeError(
                            f"{path.name} has more than the {allowed:,} bytes that are allowed"
                        )
                    if unsaved > _CHECKED_EVERY:
                        unsaved = 0
                        if shutil.disk_usage(path.parent).free < self._place.limits.free_bytes:
                            raise OutputError("the disk of the service is nearly full: tell whoever runs it")
                    await file.write(part)
                await file.flush()
                await anyio.to_thread.run_sync(os.fsync, file.fileno())
        if not size:
            raise InputError(f"{path.name} is empty")
        return size


def file_name(name: str, purpose: Purpose) -> str:
    """A user's name of a file as it is kept: no folders, nothing that a shell or a library takes for more than letters.

    Raises:
        InputError: it ends like nothing that is taken.
    """
    plain = unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).name)
    stem, dot, ending = plain.rpartition(".")
    ending = f".{ending.lower()}" if dot else ""
    allowed = (*SUFFIXES, ".zip") if purpose == "image" else VECTORS
    if ending not in allowed:
        raise InputError(
            f"{name[:100]!r} is not taken as {purpose}: expected a name ending in {', '.join(allowed)}"
        )
    stem = re.sub(r"[^\w. -]", "_", stem)[: _LONGEST - len(ending)].strip(". ") or "file"
    while len(stem.encode()) > 200:
        stem = stem[:-1]
    return stem + ending


def check_file(path: Path, purpose: Purpose, pixels: int) -> dict[str, Any]:
    """What is in a file, looked at no further than its headers.

    Raises:
        TooLargeError: it claims more pixels, or more bytes when unpacked, than are allowed.
        InputError: it is not what it is to be.
    """
    try:
        if path.suffix == ".zip" or path.suffix == ".kmz":
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _image(path, pixels) if purpose == "image" else _vectors(path)
    except (InputError, OutputError) as error:
        raise type(error)(_without_folders(str(error), path)) from None
    except AftermapError as error:
        raise InputError(_without_folders(str(error), path)) from None


def _image(path: Path, pixels: int) -> dict[str, Any]:
    from aftermap.geo.opening.archives import find_images
    from aftermap.geo.opening.files import RasterFile

    tiles, _ = find_images(path)
    files = [RasterFile.inspect(tile) for tile in tiles]
    total = sum(file.grid.width * file.grid.height for file in files)
    if total > pixels:
        raise TooLargeError(f"{path.name} claims {total:,} pixels, {pixels:,} are allowed")
    first = files[0]
    crs = first.grid.crs
    return {
        "files": len(files),
        "width": first.grid.width,
        "height": first.grid.height,
        "pixels": total,
        "bands": first.count,
        "dtype": first.dtype,
        "georeferenced": crs is not None,
        "acquired": first.acquired.isoformat() if first.acquired else None,
        "bounds": _bounds([file.grid for file in files]) if crs is not None else None,
    }


def _bounds(grids: list[Any]) -> list[float]:
    from aftermap.workflows.service.tiles.ground import ground_of

    boxes = [ground_of(grid).bounds for grid in grids[:1000]]
    west, south, east, north = zip(*boxes, strict=True)
    return [min(west), min(south), max(east), max(north)]


def _vectors(path: Path) -> dict[str, Any]:
    from aftermap.geo.vectors.files import check_vectors

    check_vectors(path, "footprints")
    return {"files": 1}


def _check_archive(path: Path) -> None:
    """Refuse an archive that would fill a disk or name places outside of itself; nothing is unpacked for it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError) as error:
        raise InputError(
            f"{path.name} is no archive that can be read: {' '.join(str(error).split())}"
        ) from None
    if len(members) > ARCHIVE_MEMBERS:
        raise TooLargeError(f"{path.name} holds {len(members):,} files, {ARCHIVE_MEMBERS:,} are allowed")
    size, claimed = path.stat().st_size, sum(member.file_size for member in members)
    if claimed > ARCHIVE_RATIO * size + 1_000_000:
        raise TooLargeError(
            f"{path.name} claims {claimed:,} bytes in {size:,}, more than {counted(ARCHIVE_RATIO, 'time')} its size"
        )
    for member in members:
        place = PurePosixPath(member.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts:
            raise InputError(f"{path.name} names a place outside of itself: {member.filename[:100]!r}")


def _without_folders(text: str, path: Path) -> str:
    """A message for somebody who sees neither the folders nor the environment of this machine."""
    text = text.partition(f": if that is right, set {MAX_PIXELS_VARIABLE}")[0]
    return text.replace(str(path), path.name).replace(str(path.parent), "")


def _upload(row: Row) -> Upload:
    return Upload(**{**row, "described": json.loads(row["described"])})
