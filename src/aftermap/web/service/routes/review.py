"""Buildings one by one, and what people say of them: the page of `aftermap review`, and answers from the live map."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path as File
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse

from aftermap.web.app import Key, review_router
from aftermap.web.service.access import Id, Reader, Reviewer, TheService, the_map
from aftermap.web.service.reviews import Reviews, the_review, version_of
from aftermap.web.service.routes.features import features_of
from aftermap.web.service.service import Service
from aftermap.web.service.streams import followed
from aftermap.workflows.review.answers import Answer, Journal, Name, Reason, Text, Verdict, settle
from aftermap.workflows.review.session import Review
from aftermap.workflows.service.tokens import Caller

router = APIRouter(prefix="/api/maps", tags=["review"])
router.include_router(review_router(the_review), prefix="/{number}/review")

LOOKED_SECONDS = 0.5

BuildingId = Annotated[str, Path(min_length=1, max_length=200)]


class BuildingShown(BaseModel):
    """A building with what the map and people say of it."""

    id: str
    row: int
    lon: float
    lat: float
    geometry: dict[str, Any]
    properties: dict[str, Any]
    answers: list[dict[str, Any]]
    version: str


class BuildingFound(BaseModel):
    """A building that a search found."""

    id: str
    row: int
    damage: str
    lon: float
    lat: float


class AnswerSaid(BaseModel):
    """What somebody says of a building from the live map."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    reason: Reason = ""
    note: Text = ""
    reviewer: Name = "local"
    key: Key | None = None
    seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None


@router.get("/{number}/buildings")
def search(
    service: TheService,
    caller: Reader,
    request: Request,
    number: Id,
    q: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> list[BuildingFound]:
    """Buildings whose id contains a text."""
    _, view = the_map(service, caller, number)
    features = features_of(request, service, number)
    rows = features.rows(None if view == "whole" else caller.area, q, limit)
    found = []
    for row in rows:
        (lon, lat), values = features.point(row), features.properties(row)
        found.append(
            BuildingFound(id=values["building_id"], row=row, damage=values["damage"], lon=lon, lat=lat)
        )
    return found


@router.get("/{number}/buildings/{building_id:path}")
def building(
    service: TheService,
    caller: Reader,
    request: Request,
    response: Response,
    number: Id,
    building_id: BuildingId,
) -> BuildingShown:
    """A building; its `ETag` is wanted to say something of it."""
    _, view = the_map(service, caller, number)
    features = features_of(request, service, number)
    row = features.row(building_id, None if view == "whole" else caller.area)
    if row is None:
        raise HTTPException(404, "there is no such building")
    answers = Journal(service.place.map(number)).answers()
    version = version_of(answers, building_id)
    response.headers["etag"] = f'"{version}"'
    lon, lat = features.point(row)
    return BuildingShown(
        id=building_id,
        row=row,
        lon=lon,
        lat=lat,
        geometry=features.shape(row),
        properties=features.properties(row),
        answers=[_told(answer) for answer in answers if answer.building_id == building_id],
        version=version,
    )


@router.get("/{number}/answers")
def answers(
    service: TheService,
    caller: Reader,
    request: Request,
    response: Response,
    number: Id,
    since: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> Any:
    """What people said of each building so far, one answer a building; 304 where `If-None-Match` is still so.

    With `since`, a `version` that was answered before, only what changed from there on; `withdrawn` names buildings of
    which nothing is said any more.
    """
    the_map(service, caller, number, whole=True)
    journal = Journal(service.place.map(number))
    tag = f'"{_size(journal.path)}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"etag": tag})
    given = journal.answers()
    settled = settle(given)
    named = journal.named_since(since) if since else set(settled)
    features = features_of(request, service, number)
    response.headers["etag"] = tag
    return {
        "version": tag.strip('"'),
        "answers": [
            {**_told(answer), "row": features.row(name, None), "version": version_of(given, name)}
            for name, answer in settled.items()
            if name in named
        ],
        "withdrawn": [
            {"building_id": name, "row": features.row(name, None)} for name in sorted(named - set(settled))
        ],
    }


@router.put(
    "/{number}/answers/{building_id:path}",
    responses={
        412: {"description": "Somebody said something else meanwhile: look again"},
        428: {"description": "The header If-Match is missing"},
    },
)
def say(
    service: TheService,
    caller: Reviewer,
    request: Request,
    response: Response,
    number: Id,
    building_id: BuildingId,
    said: AnswerSaid,
    if_match: Annotated[str | None, Header(max_length=100)] = None,
) -> BuildingShown:
    """Say what happened to a building, if nobody said anything since it was looked at: `If-Match` is its `ETag`."""
    review = _to_change(service, caller, request, number, building_id, if_match)
    reviewer = caller.name if service.rules.tokens else said.reviewer
    tree = said.model_dump(exclude={"reviewer", "key"})
    with review.turn:
        if said.key is None or not review.knows(said.key):
            _check_version(review, building_id, if_match)
        key = said.key or uuid.uuid4().hex
        review.answer(reviewer, {**tree, "building_id": building_id, "key": key, "origin": "chosen"})
    return building(service, caller, request, response, number, building_id)


@router.delete(
    "/{number}/answers/{building_id:path}",
    responses={
        412: {"description": "Somebody said something else meanwhile: look again"},
        428: {"description": "The header If-Match is missing"},
    },
)
def take_back(
    service: TheService,
    caller: Reviewer,
    request: Request,
    response: Response,
    number: Id,
    building_id: BuildingId,
    reviewer: Annotated[Name, Query()] = "local",
    key: Annotated[Key | None, Query()] = None,
    if_match: Annotated[str | None, Header(max_length=100)] = None,
) -> BuildingShown:
    """Take back what one said of a building; `If-Match` and `key` as where it is said."""
    review = _to_change(service, caller, request, number, building_id, if_match)
    with review.turn:
        if key is None or not review.knows(key):
            _check_version(review, building_id, if_match)
        name = caller.name if service.rules.tokens else reviewer
        if not review.withdraw(name, building_id, key or uuid.uuid4().hex):
            raise HTTPException(404, "you said nothing of this building that could be taken back")
    return building(service, caller, request, response, number, building_id)


def _to_change(
    service: Service, caller: Caller, request: Request, number: str, building_id: str, if_match: str | None
) -> Review:
    """The review of a map of which a building is to be answered."""
    the_map(service, caller, number, whole=True)
    if features_of(request, service, number).row(building_id, None) is None:
        raise HTTPException(404, "there is no such building")
    if if_match is None:
        raise HTTPException(428, "send the building's ETag as If-Match")
    reviews: Reviews = request.app.state.reviews
    return reviews.opened(number)


def _check_version(review: Review, building_id: str, if_match: str | None) -> None:
    if (if_match or "").strip('"') != version_of(review.answers, building_id):
        raise HTTPException(412, "somebody said something of this building meanwhile: look at it again")


@router.get(
    "/{number}/events",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "An event at each change of the answers"}
    },
)
def events(service: TheService, caller: Reader, request: Request, number: Id) -> EventSourceResponse:
    """Follow the answers to a map: an event `answers` with their version whenever somebody says something."""
    the_map(service, caller, number, whole=True)
    return followed(request, caller, _changes(Journal(service.place.map(number)).path))


async def _changes(path: File) -> AsyncIterator[dict[str, str]]:
    last: int | None = None
    while True:
        size = await asyncio.to_thread(_size, path)
        if size != last:
            yield {"event": "answers", "data": json.dumps({"version": str(size)})}
            last = size
        await asyncio.sleep(LOOKED_SECONDS)


def _size(path: File) -> int:
    """Of a journal, which only ever grows."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _told(answer: Answer) -> dict[str, Any]:
    kept = {"building_id", "verdict", "reason", "reviewer", "at", "origin", "note", "geometry"}
    return answer.model_dump(include=kept)
