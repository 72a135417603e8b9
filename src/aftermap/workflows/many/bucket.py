"""A bucket as the destination of a map of many scenes.

    s3://bucket/event/parts/NAME-KEY.zip        a part for each scene, until the map is there
    s3://bucket/event/...                       the map; provenance.json is put last

    s3://bucket/event/lease.json                while a command works, see `lease`

What is under way lies on the machine that does it. Where two commands write one bucket all the same they do some work
twice, and each part and the map come out the same.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from aftermap.errors import AbsentError, OutputError, RemoteError
from aftermap.extras import needs
from aftermap.files import Claim, make_folder, read_json, write_json
from aftermap.files.cache import cache_folder
from aftermap.remote import Address, Budget, Online
from aftermap.workflows.many.lease import Lease
from aftermap.workflows.many.parts import ENDING
from aftermap.workflows.many.records import LOG
from aftermap.workflows.mapping.work import MARKER

_NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class BucketParts:
    """Parts in a bucket.

    Attributes:
        address: of the folder in it.
    """

    address: Address

    @cached_property
    def online(self) -> Online:
        """The way there; each process has its own."""
        return Online(budget=Budget(_NO_LIMIT))

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address}

    def names(self) -> set[str]:
        """Those that are there, without their ending."""
        found = (stat.address.name for stat in self.online.list(self.address))
        return {name.removesuffix(ENDING) for name in found if name.endswith(ENDING)}

    def keep(self, name: str, file: Path) -> bool:
        """Put a file in its place, whole; False where one is there already, which stays."""
        return self.online.write(self.address.join(f"{name}{ENDING}"), file, create=True)

    def fetch(self, name: str, folder: Path) -> Path:
        """The file of a part, brought into a folder."""
        path = make_folder(folder) / f"{name}{ENDING}"
        self.online.download(self.address.join(f"{name}{ENDING}"), path)
        return path

    def remove(self) -> None:
        """Delete all of them."""
        for stat in list(self.online.list(self.address)):
            self.online.delete(stat.address)


class BucketDestination:
    """A folder in a bucket.

    Attributes:
        kept: the parts.
        under_way: folder of each machine for the scenes that it maps.
        result: folder of this machine where the map is made.
        log: the log file.

    Args:
        out: its address.
        resume: go on with what an interrupted run has put there.
        overwrite: replace a map there, and start again.
        take_over: whatever another command there does.

    Raises:
        OutputError: a map, an interrupted run or another command is in the way.
        RemoteError: the bucket cannot be reached or written.
    """

    def __init__(self, out: Address, *, resume: bool, overwrite: bool, take_over: bool = False) -> None:
        check_bucket(out, resume=resume, overwrite=overwrite)
        self.out = out
        self.kept = BucketParts(out.join("parts"))
        number = hashlib.sha256(str(out).encode()).hexdigest()[:16]
        self.under_way = Path(tempfile.gettempdir()) / f"aftermap-many-{number}"
        self.path = cache_folder() / "many" / number
        self.result, self.log = self.path / "result", self.path / LOG
        self._online = self.kept.online
        self._lease = Lease(out, self._online, take_over=take_over)
        try:
            self._claim = Claim(self.path)
            if not resume:
                self.log.unlink(missing_ok=True)
                if overwrite:
                    self.kept.remove()
            shutil.rmtree(self.result, ignore_errors=True)
            make_folder(self.result)
        except BaseException:
            self._lease.release()
            raise

    def finish(self, *, keep: bool) -> str:
        """Put the map into the bucket, its report last; the parts go unless they are to stay.

        Raises:
            OutputError: another command has taken over.
        RemoteError: it cannot be written.
        """
        self._lease.check()
        files = sorted(path for path in self.result.rglob("*") if path.is_file())
        names = [path.relative_to(self.result).as_posix() for path in files]
        marker = self.result / MARKER
        write_json(marker, {**read_json(marker), "files": names})
        earlier = self._earlier()
        for path, name in zip(files, names, strict=True):
            if path != marker:
                self._online.write(self.out.join(*name.split("/")), path)
        self._online.write(self.out.join(MARKER), marker)
        for name in set(earlier) - set(names):
            self._online.delete(self.out.join(*name.split("/")))
        if not keep:
            self.kept.remove()
        shutil.rmtree(self.result, ignore_errors=True)
        shutil.rmtree(self.under_way, ignore_errors=True)
        return self.out.shown

    def keep_table(self, table: Path) -> str:
        """Put the table of a run without a map beside the parts."""
        place = self.kept.address.join(table.name)
        self._online.write(place, table)
        return place.shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._claim.release()
        self._lease.release()

    def _earlier(self) -> list[str]:
        """The files of an older map there."""
        try:
            told = json.loads(self._online.read(self.out.join(MARKER)))
        except (AbsentError, ValueError, RecursionError):
            return []
        files = told.get("files") if isinstance(told, dict) else None
        return [str(name) for name in files] if isinstance(files, list) else []


def published_in_bucket(out: Address) -> dict[str, Any] | None:
    """The report of the finished map there, where no parts of an interrupted run lie beside it."""
    if out.is_web or out.scheme == "file" or not out.key.strip("/"):
        return None  # which is refused in words of its own
    needs(f"writing to {out.scheme}://", "catalog")
    online = Online(budget=Budget(_NO_LIMIT))
    try:
        if next(online.list(out.join("parts")), None) is not None:
            return None
        told = json.loads(online.read(out.join(MARKER)))
    except (AbsentError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and "failed_scenes" in told else None


def check_bucket(out: Address, *, resume: bool, overwrite: bool) -> None:
    """Refuse an address before any work.

    Raises:
        OutputError: it is none of a bucket, or a map or an interrupted run is in the way.
        RemoteError: it cannot be reached.
        MissingExtraError: reaching it needs more than is installed.
    """
    if out.is_web or out.scheme == "file" or not out.key.strip("/"):
        raise OutputError(
            f"{out.shown} cannot be an output: pass a folder of this machine, or one in a bucket such as s3://bucket/event"
        )
    needs(f"writing to {out.scheme}://", "catalog")
    online = Online(budget=Budget(_NO_LIMIT))
    try:
        online.stat(out.join(MARKER))
    except AbsentError:
        is_there = False
    else:
        is_there = True
    try:
        has_parts = next(online.list(out.join("parts")), None) is not None
    except AbsentError as error:
        raise RemoteError(f"{error}: make the bucket first") from None
    if has_parts and not (resume or overwrite):
        raise OutputError(
            f"{out.shown} holds an interrupted run: pass --resume to continue it, or --overwrite to start again"
        )
    if is_there and not (overwrite or (resume and has_parts)):
        raise OutputError(
            f"{out.shown} exists: pass --overwrite to replace it, or choose another output folder"
        )
