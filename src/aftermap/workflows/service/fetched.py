"""Images that a job names by address: fetched by its worker within the reach of strangers, and kept as uploads."""

import hashlib
import time
from contextlib import closing
from typing import TYPE_CHECKING

from aftermap.errors import InputError
from aftermap.files import make_folder
from aftermap.remote import Address, is_address
from aftermap.workflows.service.jobs import Job
from aftermap.workflows.service.place import Place
from aftermap.workflows.service.uploads import Purpose, Upload, Uploads, check_file, file_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aftermap.remote import Reach


def check_address(place: Place, named: str) -> None:
    """Refuse an address that this service does not read, by its text alone.

    Raises:
        InputError: it may not be read.
    """
    if not place.limits.address_hosts:
        raise InputError("this service takes uploads only, no addresses")
    _reach(place).check(Address.parse(named))


def fetched(
    place: Place, uploads: Uploads, job: Job, name: str, named: str, report: "Callable[[str, int, int], None]"
) -> "Path":
    """The file of an address, as an upload of whoever asked; fetched once for a job, however often it is begun.

    Args:
        place: the service's folder.
        uploads: where it is recorded.
        job: that names it.
        name: what it is for: `pre`, `post`, `footprints` or `aoi`.
        named: the address.
        report: told the bytes.

    Raises:
        InputError: it may not be read, or is no such file.
        OutputError: it cannot be kept.
    """
    number = upload_of(job, name, named)
    known = uploads.find(number)
    if known is not None:
        return uploads.path(known)
    check_address(place, named)
    from aftermap.remote import Budget, Online

    purpose: Purpose = "image" if name in ("pre", "post") else "vectors"
    kept = file_name(Address.parse(named).name, purpose)
    folder = make_folder(place.upload(number))
    budget = Budget(max(1, uploads.allowed(job.owner)))
    with closing(Online(_reach(place), budget=budget)) as online:
        found = online.download(
            named, folder / kept, progress=lambda done, total: report(f"fetching {name}", done, total)
        )
    try:
        described = check_file(folder / kept, purpose, place.limits.pixels)
    except InputError:
        (folder / kept).unlink(missing_ok=True)
        folder.rmdir()
        raise
    uploads.keep(Upload(number, job.owner, kept, found.size, purpose, described, time.time()))
    return folder / kept


def upload_of(job: Job, name: str, named: str) -> str:
    """The id of the upload that a job names, or that the file of an address becomes.

    Args:
        job: that names it.
        name: what it is for.
        named: the id, or an address.
    """
    if not is_address(named):
        return named
    return hashlib.sha256(f"{job.id} {name} {named}".encode()).hexdigest()[:32]


def _reach(place: Place) -> "Reach":
    from aftermap.remote import Reach

    return Reach.of_strangers(place.limits.address_hosts)
