"""How the service is, who asks, and sessions of browsers."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from aftermap import __version__
from aftermap.web.service.access import COOKIE, Admin, Reader, TheService
from aftermap.web.service.metrics import CONTENT_TYPE
from aftermap.workflows.service.running import known_models
from aftermap.workflows.service.tokens import SCOPES, end_session, find_caller, open_session

router = APIRouter()


class Health(BaseModel):
    """Whether the service works."""

    status: str
    version: str
    workers: int | None


class SessionAsked(BaseModel):
    """A token, for a cookie in its place."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(min_length=8, max_length=200)]


@router.get("/health", tags=["system"])
def health(service: TheService) -> Health:
    """Whether the service and its database answer; needs no token."""
    service.database.row("SELECT COUNT(*) AS n FROM tokens")
    workers = service.workers() if service.workers is not None else None
    return Health(status="ok" if workers != 0 else "no workers", version=__version__, workers=workers)


@router.get("/metrics", tags=["system"], response_class=Response)
def metrics(service: TheService, caller: Admin) -> Response:
    """Counters for Prometheus."""
    return Response(service.metrics.text(service.jobs), media_type=CONTENT_TYPE)


@router.get("/api/me", tags=["system"])
def me(service: TheService, caller: Reader) -> dict[str, Any]:
    """Who asks, what they may do, and what the service allows."""
    limits = service.place.limits
    return {
        "name": caller.name,
        "scopes": [scope for scope in SCOPES if caller.may(scope)],
        "area": caller.area is not None,
        "tokens": service.rules.tokens,
        "version": __version__,
        "models": list(known_models(service.place)),
        "addresses": list(limits.address_hosts),
        "limits": {"upload_bytes": limits.upload_bytes, "pixels": limits.pixels},
        "kept_bytes": service.uploads.kept_bytes(caller.id),
    }


@router.post("/api/session", tags=["system"], status_code=204, response_class=Response)
async def open_one(service: TheService, request: Request, asked: SessionAsked) -> Response:
    """Open a session for a browser: the token once, from then on a cookie that scripts cannot read."""
    client = request.client.host if request.client else ""
    caller = await request.app.state.doorman.caller(asked.token, client)
    request.state.caller = caller
    secret, seconds = open_session(service.database, caller)
    answer = Response(status_code=204)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=int(seconds),
        httponly=True,
        samesite="strict",
        secure=service.rules.secure or request.url.scheme == "https",
        path="/",
    )
    return answer


@router.delete("/api/session", tags=["system"], status_code=204, response_class=Response)
def end_one(service: TheService, request: Request) -> Response:
    """End the session of a browser."""
    secret = request.cookies.get(COOKIE)
    if secret is None or find_caller(service.database, secret) is None:
        raise HTTPException(404, "there is no session")
    end_session(service.database, secret)
    request.app.state.doorman.forget(secret)
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/")
    return answer
