"""The folder of a service, and what it allows.

DATA/
  service.db      tokens, uploads, jobs and maps (SQLite; a team keeps them in PostgreSQL)
  queue.db        which jobs wait (SQLite)
  uploads/ID/     one uploaded file each
  maps/ID/        output folders of `aftermap map`, with review/ and the like in them
  display/ID/     tiles of a map, made again where they are missing
  models/NAME/    model folders that jobs may name, put there by whoever runs the service
  audit.jsonl     who did what
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from aftermap.errors import InputError
from aftermap.files import make_folder

_ID = re.compile(r"[0-9a-f]{32}")
_ROOMS = ("uploads", "maps", "display")
_OURS = {*_ROOMS, "models", "server", "queue.db", "audit.jsonl"}
_OF_A_DISK = "lost+found"


@dataclass(frozen=True)
class Limits:
    """What a stranger may take of the machine.

    Attributes:
        upload_bytes: of one uploaded file.
        kept_bytes: of all uploads of one user.
        pixels: of one image.
        free_bytes: of the disk that no upload may touch.
        jobs_waiting: of one user, at once.
        attempts: of a job that ended its worker.
        requests_per_second: of one user or address, over a longer time.
        burst: requests at once above that.
        address_hosts: hosts and buckets (`*.example.org`, `s3://maps`) of whose addresses images are taken; none by
            default.
        keep_days: after which uploads, jobs and maps are deleted that nobody reviewed; None for never.
    """

    upload_bytes: int = 4 << 30
    kept_bytes: int = 50 << 30
    pixels: int = 2_000_000_000
    free_bytes: int = 1 << 30
    jobs_waiting: int = 100
    attempts: int = 3
    requests_per_second: float = 100.0
    burst: int = 1000
    address_hosts: tuple[str, ...] = ()
    keep_days: float | None = None


@dataclass(frozen=True)
class Place:
    """A service's folder.

    Attributes:
        folder: where everything lies.
        limits: what is allowed.
    """

    folder: Path
    limits: Limits = field(default_factory=Limits)

    def made(self) -> "Place":
        """The same, with its sub-folders.

        Raises:
            InputError: the folder is somebody else's: it holds other things, and no service.
            OutputError: they cannot be made.
        """
        self._check_ours()
        for name in _ROOMS:
            make_folder(self.folder / name)
        return self

    @property
    def database(self) -> Path:
        """Tokens, uploads, jobs and maps."""
        return self.folder / "service.db"

    @property
    def queue(self) -> Path:
        """Which jobs wait."""
        return self.folder / "queue.db"

    @property
    def audit(self) -> Path:
        """Who did what, a line of JSON each."""
        return self.folder / "audit.jsonl"

    @property
    def models(self) -> Path:
        """Model folders that jobs may name."""
        return self.folder / "models"

    def upload(self, name: str) -> Path:
        """The folder of an upload."""
        return self._below("uploads", name)

    def map(self, name: str) -> Path:
        """The output folder of a map."""
        return self._below("maps", name)

    def display(self, name: str) -> Path:
        """The tiles of a map."""
        return self._below("display", name)

    def _check_ours(self) -> None:
        if not self.folder.is_dir() or self.database.is_file():
            return
        names = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")} - {_OF_A_DISK}
        other = sorted(names - _OURS)
        if other and not names >= set(_ROOMS):  # of a team, whose tables are elsewhere
            raise InputError(
                f"{self.folder} is no folder of a service and holds other things ({', '.join(other[:3])}"
                f"{', ...' if len(other) > 3 else ''}): choose another, or a new one"
            )

    def _below(self, room: str, name: str) -> Path:
        if not _ID.fullmatch(name):
            raise ValueError(f"{name!r} is no id")
        return self.folder / room / name
