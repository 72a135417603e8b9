"""Where the map of many scenes goes: a folder of this machine, or a bucket.

OUT.work/               beside a folder; what an interrupted run has finished
journal.json          what the parts belong to
parts/                a part for each scene (`parts`)
under-way/            scenes that are being mapped, with their finished rows
result/               the map in the making
jobs.log
"""

import shutil
from pathlib import Path
from typing import Any, Protocol, Self

from aftermap.errors import OutputError
from aftermap.files import ResultFolder, check_output, work_path
from aftermap.files.folders import put_in_place, remove_folder
from aftermap.files.plain_json import read_json, write_json
from aftermap.files.writing import writing
from aftermap.remote import Address, is_address
from aftermap.workflows.many.parts import FolderParts, Parts
from aftermap.workflows.many.records import LOG
from aftermap.workflows.mapping.work import MARKER

_OURS = (
    MARKER,
    "*.json",
    "*.tif",
    "*.html",
    "*.png",
    "*.csv",
    "*.log",
    "buildings.*",
    "damage.*",
    "package",
    "areas",
)
_UNDER_WAY = "under-way"


class Destination(Protocol):
    """Where a map goes, opened for one run.

    Attributes:
        under_way: folder for scenes that are being mapped.
        result: folder of this machine where the map is made.
        log: the log file.
    """

    @property
    def kept(self) -> Parts:
        """The parts."""

    under_way: Path
    result: Path
    log: Path

    def finish(self, *, keep: bool) -> str:
        """Put the map in its place; the parts stay where that is asked for. Returns where it is."""

    def keep_table(self, table: Path) -> str:
        """Put the table of a run without a map where it stays. Returns where it is."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_destination(
    out: str | Path, decides: dict[str, Any], *, resume: bool, overwrite: bool, take_over: bool = False
) -> Destination:
    """A folder, or one in a bucket by its address; arguments as those of `FolderDestination` and `BucketDestination`."""
    if is_address(out):
        from aftermap.workflows.many.bucket import BucketDestination

        return BucketDestination(Address.parse(out), resume=resume, overwrite=overwrite, take_over=take_over)
    return FolderDestination(Path(out), decides, resume=resume, overwrite=overwrite)


def published(out: str | Path) -> dict[str, Any] | None:
    """The report of the finished map at a destination, where no interrupted run lies beside it."""
    if is_address(out):
        from aftermap.workflows.many.bucket import published_in_bucket

        return published_in_bucket(Address.parse(out))
    marker = Path(out) / MARKER
    if not marker.is_file() or (work_path(Path(out)) / "journal.json").is_file():
        return None
    told = read_json(marker)
    return told if isinstance(told, dict) and "failed_scenes" in told else None


def check_destination(out: str | Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a destination before any work.

    Raises:
        OutputError: it exists, or cannot be made.
        RemoteError: it cannot be reached.
    """
    if is_address(out):
        from aftermap.workflows.many.bucket import check_bucket

        check_bucket(Address.parse(out), resume=resume, overwrite=overwrite)
        return
    has_parts = (work_path(Path(out)) / "journal.json").is_file()
    if has_parts and Path(out).exists() and not (resume or overwrite):
        raise OutputError(
            f"{out} is a map whose scenes are kept in {work_path(Path(out))}: pass --resume to map what is missing, "
            "or --overwrite to start again"
        )
    again = resume and has_parts
    check_output(Path(out), marker=MARKER, overwrite=overwrite or again)


class FolderDestination(ResultFolder):
    """A folder of this machine, with its work folder beside it.

    Args:
        out: the output folder.
        decides: what decides every part of it; a run is resumed with the same alone.
        resume: go on with an interrupted run, or with one that had failures.
        overwrite: replace a result, and start again.

    Raises:
        OutputError: a result, an interrupted run or another process is in the way, or nothing can be written there.
    """

    also = (_UNDER_WAY, LOG)

    def __init__(self, out: Path, decides: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
        again = resume and (work_path(out) / "journal.json").is_file()
        super().__init__(
            out,
            decides,
            marker=MARKER,
            ours=_OURS,
            parts="parts",
            resume=again,
            overwrite=overwrite or again,
        )
        self.kept: Parts = FolderParts(self.parts)
        self.under_way = self.path / _UNDER_WAY
        self.log = self.path / LOG
        if not again:
            with writing(self.path):
                remove_folder(self.under_way)
                self.log.unlink(missing_ok=True)

    def finish(self, *, keep: bool) -> str:
        """Put the map in its place; the parts stay where some scenes are missing, or it is asked for.

        Raises:
            OutputError: it cannot be written.
        """
        if not keep:
            return str(self.publish())
        with writing(self.out, resumable=True):
            names = sorted(entry.name for entry in self.result.iterdir())
            write_json(self.result / MARKER, {**read_json(self.result / MARKER), "files": names})
            put_in_place(self.result, self.out, ours=self._names_in_old())
            remove_folder(self.result)
        self.release()
        return str(self.out)

    def keep_table(self, table: Path) -> str:
        """Put the table of a run without a map beside the parts, where it stays."""
        with writing(self.path):
            return str(shutil.copy(table, self.parts / table.name))
