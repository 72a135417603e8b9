"""What nobody reviewed in so many days is deleted, where whoever runs the service wants that."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from aftermap.errors import AftermapError
from aftermap.web.service.log import log
from aftermap.web.service.service import Service
from aftermap.workflows.review import answers, areas, images
from aftermap.workflows.service.fetched import upload_of
from aftermap.workflows.service.jobs import Job
from aftermap.workflows.service.wanted import MapWanted

LOOKED_SECONDS = 3600.0

_DAY = 86_400.0
_ALL = 10**9


class Expiry:
    """Deletes what is old: maps without an answer, jobs that ended, and uploads that neither needs.

    Args:
        service: whose; its place says after how many days.
        forget: deletes a map by its id.
        is_open: whether somebody is at the review of a map.
    """

    def __init__(
        self, service: Service, forget: Callable[[str], None], is_open: Callable[[str], bool]
    ) -> None:
        self._service, self._forget, self._is_open = service, forget, is_open

    async def watch(self) -> None:
        """Look at the start and every hour."""
        days = self._service.place.limits.keep_days
        while days is not None:
            try:
                await anyio.to_thread.run_sync(self.sweep, time.time() - days * _DAY)
            except (AftermapError, OSError) as error:  # a disk that fails now may work in an hour
                log("expiry failed", {"error": str(error)})
            await anyio.sleep(LOOKED_SECONDS)

    def sweep(self, before: float) -> dict[str, list[str]]:
        """Delete what is older; ids of the maps, jobs and uploads that went.

        Args:
            before: seconds since 1970.
        """
        service = self._service
        gone: dict[str, list[str]] = {"maps": [], "jobs": [], "uploads": []}
        going = {each for job in self._jobs() if not job.has_ended for each in (job.id, job.map)}
        for record in service.maps.all():
            if record.created >= before or record.id in going or self._is_at_work(record.id):
                continue
            self._forget(record.id)
            gone["maps"].append(record.id)
        needed: set[str] = set()
        for job in self._jobs():
            is_old = job.has_ended and (job.finished or job.created) < before
            if is_old and self._end(job):
                gone["jobs"].append(job.id)
            else:
                needed |= _uploads_of(job)
        for record in service.maps.all():
            needed |= _uploads_in(service.place.map(record.id))
        for upload in service.uploads.all(limit=_ALL):
            if upload.created < before and upload.id not in needed:
                service.uploads.remove(upload.id)
                gone["uploads"].append(upload.id)
        if any(gone.values()):
            service.audit.add(caller=None, expired=gone)
        return gone

    def _is_at_work(self, number: str) -> bool:
        """Whether anybody said anything of a map, or is about to."""
        review = self._service.place.map(number) / answers.FOLDER
        said = (review / name for name in (answers.JOURNAL, areas.JOURNAL))
        return self._is_open(number) or any(path.is_file() and path.stat().st_size for path in said)

    def _end(self, job: Job) -> bool:
        """Forget a job whose map is not there, with what it left half made."""
        made = job.id if job.kind == "map" else job.map
        if made is not None and self._service.maps.find(made) is not None:
            return False
        if not self._service.jobs.remove(job.id):
            return False
        if job.kind == "map":
            self._service.maps.remove(job.id)
        return True

    def _jobs(self) -> list[Job]:
        return self._service.jobs.all(limit=_ALL)


def _uploads_of(job: Job) -> set[str]:
    """Ids of the uploads that a job works with."""
    if job.kind != "map":
        return set()
    named = MapWanted.model_validate(job.wanted).sources()
    return {upload_of(job, name, source) for name, source in named.items()}


def _uploads_in(folder: Path) -> set[str]:
    """Ids of the uploads whose images the review of a map shows; its job may be forgotten."""
    try:
        told = (folder / answers.FOLDER / images.SIDE_FILE).read_text()
    except OSError:
        return set()
    return set(re.findall(r"/uploads/([0-9a-f]{32})/", told))
