"""Jobs: asked for, followed, cancelled, tried again."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Annotated, Any

import shapely
from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from sse_starlette import EventSourceResponse

from aftermap.remote import Address, is_address
from aftermap.web.service.access import (
    Id,
    Mapper,
    Reader,
    TheService,
    is_theirs,
    sees_all,
    the_job,
    the_map,
    the_upload,
)
from aftermap.web.service.routes.shapes import JobShown, job_shown
from aftermap.web.service.service import Service
from aftermap.web.service.streams import followed
from aftermap.workflows.service.fetched import check_address
from aftermap.workflows.service.jobs import Job, Kind
from aftermap.workflows.service.running import known_models
from aftermap.workflows.service.tokens import Caller
from aftermap.workflows.service.wanted import LearnWanted, MapWanted

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

LOOKED_SECONDS = 0.3

Key = Annotated[str, Header(alias="idempotency-key", max_length=64, pattern="^[0-9A-Za-z-]*$")]


@router.post("", status_code=202)
def ask(
    service: TheService, caller: Mapper, response: Response, wanted: MapWanted, key: Key = ""
) -> JobShown:
    """Ask for a map of damage; with an `Idempotency-Key`, asking again gives the same job."""
    for name, source in wanted.sources().items():
        _check_source(service, caller, name, source)
    title = wanted.title or _title(service, wanted.pre)
    if wanted.model not in known_models(service.place):
        raise HTTPException(
            422, f"there is no model {wanted.model}: choose from {', '.join(known_models(service.place))}"
        )
    if wanted.stretch is not None and wanted.stretch[0] >= wanted.stretch[1]:
        raise HTTPException(422, "stretch: expected two rising percentiles")
    return _queued(
        service,
        caller,
        response,
        "map",
        {**wanted.model_dump(mode="json", exclude_none=True), "title": title},
        key,
    )


@router.post("/learn", status_code=202)
def learn(
    service: TheService, caller: Mapper, response: Response, wanted: LearnWanted, key: Key = ""
) -> JobShown:
    """Ask for the event's own model from the answers to a map (`aftermap learn`); it rewrites the map's classes."""
    record, _ = the_map(service, caller, wanted.map, whole=True)
    if not is_theirs(record.owner, caller):
        raise HTTPException(404, "there is no such map")
    return _queued(service, caller, response, "learn", wanted.model_dump(mode="json"), key)


@router.get("")
def listed(
    service: TheService,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> list[JobShown]:
    """One's jobs, the latest first."""
    owner = None if sees_all(caller) else caller.id
    return [job_shown(job) for job in service.jobs.all(owner, limit=limit, offset=offset)]


@router.get("/{number}")
def one(service: TheService, caller: Reader, number: Id) -> JobShown:
    """A job."""
    return job_shown(the_job(service, caller, number))


@router.get(
    "/{number}/events",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "A job at each change, until it has ended"}
    },
)
def events(service: TheService, caller: Reader, request: Request, number: Id) -> EventSourceResponse:
    """Follow a job: an event `job` whenever something changes; ends with the job."""
    the_job(service, caller, number)
    return followed(request, caller, _changes(service, number))


@router.post("/{number}/cancel", status_code=202)
def cancel(service: TheService, caller: Mapper, number: Id) -> JobShown:
    """Cancel a job: at once where it waits, else as soon as its worker hears of it."""
    job = the_job(service, caller, number)
    if job.has_ended:
        raise HTTPException(409, f"the job is {job.state} already")
    service.jobs.cancel(number)
    return job_shown(the_job(service, caller, number))


@router.post("/{number}/retry", status_code=202)
def retry(service: TheService, caller: Mapper, number: Id) -> JobShown:
    """Let a job that failed or was cancelled go on from where it was."""
    job = the_job(service, caller, number)
    if not service.jobs.retry(number):
        raise HTTPException(
            409, f"the job is {job.state}: only one that failed or was cancelled is tried again"
        )
    service.queue.put(number)
    return job_shown(the_job(service, caller, number))


@router.delete("/{number}", status_code=204, response_class=Response)
def remove(service: TheService, caller: Mapper, number: Id) -> Response:
    """Forget a job that has ended, and what it left half made; a map that it made stays."""
    job = the_job(service, caller, number)
    if not service.jobs.remove(number):
        raise HTTPException(409, f"the job is {job.state}: cancel it first")
    if job.kind == "map" and service.maps.find(number) is None:
        service.maps.remove(number)
    return Response(status_code=204)


def _queued(
    service: Service, caller: Caller, response: Response, kind: Kind, wanted: dict[str, Any], key: str
) -> JobShown:
    limit = service.place.limits.jobs_waiting
    if service.jobs.count("queued", owner=caller.id) >= limit:
        raise HTTPException(429, f"{limit} jobs of yours wait already: let them be done first")
    job = service.jobs.add(caller.id, kind, wanted, key=key, of=wanted.get("map"))
    if job.state == "queued":
        service.queue.put(job.id)
    response.headers["location"] = f"/api/jobs/{job.id}"
    return job_shown(job)


def _check_source(service: Service, caller: Caller, name: str, source: str) -> None:
    """Refuse what is not there, not theirs, of another kind, or beyond their area."""
    if is_address(source):
        check_address(service.place, source)
        return
    upload = the_upload(service, caller, source)
    wanted = "image" if name in ("pre", "post") else "vectors"
    if upload.kind != wanted:
        raise HTTPException(422, f"{name}: {upload.name} was sent as {upload.kind}, expected {wanted}")
    bounds = upload.described.get("bounds")
    if caller.area is not None and bounds is not None and not caller.area.touches(shapely.box(*bounds)):
        raise HTTPException(422, f"{name}: {upload.name} lies outside of your area")


def _title(service: Service, source: str) -> str:
    """What a map is called that was given no title: as the image from before is."""
    upload = None if is_address(source) else service.uploads.find(source)
    name = Address.parse(source).name if upload is None else upload.name
    return PurePosixPath(name).stem[:200]


async def _changes(service: Service, number: str) -> AsyncIterator[dict[str, str]]:
    last: Job | None = None
    while True:
        job = await asyncio.to_thread(service.jobs.find, number)
        if job is None:
            return
        if job != last:
            yield {"event": "job", "data": json.dumps(job_shown(job).model_dump())}
            last = job
        if job.has_ended:
            return
        await asyncio.sleep(LOOKED_SECONDS)
