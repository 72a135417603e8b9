"""Who asks, and whether they may: a token in the header, or the cookie of a session that a browser opened with one."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated

import anyio
from fastapi import Depends, HTTPException, Path, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from aftermap.web.service.rates import Rates
from aftermap.web.service.service import Service, service_of
from aftermap.workflows.service.jobs import Job
from aftermap.workflows.service.maps import MapRecord, View
from aftermap.workflows.service.tokens import LOCAL, Caller, Scope, find_caller
from aftermap.workflows.service.uploads import Upload
from aftermap.workflows.service.wanted import ID_PATTERN

COOKIE = "aftermap_session"
_KNOWN_SECONDS = 5.0
"""How long a token is believed without looking: one that is revoked ends so much later."""

_MOST_KNOWN = 1000
_WRONG_PER_SECOND, _WRONG = 0.2, 10.0

_bearer = HTTPBearer(auto_error=False, description="A token of `aftermap serve token create`.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="A session that POST /api/session opened.")


class Doorman:
    """Knows who holds a token.

    Args:
        service: whose tokens.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: OrderedDict[str, tuple[Caller, float]] = OrderedDict()
        self._wrong = Rates(_WRONG_PER_SECOND, _WRONG)

    async def caller(self, secret: str | None, client: str) -> Caller:
        """Who asks.

        Raises:
            HTTPException: 401 where nobody, 429 after too many wrong tokens.
        """
        if secret is None:
            if not self._service.rules.tokens:
                return LOCAL
            raise _unknown("a token is needed: aftermap serve token create")
        now = time.monotonic()
        known = self._known.get(secret)
        if known is not None and now - known[1] < _KNOWN_SECONDS:
            return known[0]
        if self._wrong.is_empty(client):
            self._service.metrics.refused.labels("guessing").inc()
            raise HTTPException(429, "too many wrong tokens: wait a minute")
        caller: Caller | None = await anyio.to_thread.run_sync(find_caller, self._service.database, secret)
        if caller is None:
            self._known.pop(secret, None)
            self._wrong.take(client)
            self._service.metrics.refused.labels("token").inc()
            raise _unknown("this token is not valid, or not any more")
        self._known[secret] = caller, now
        self._known.move_to_end(secret)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return caller

    def forget(self, secret: str) -> None:
        """Look again when a token comes next."""
        self._known.pop(secret, None)


def needs(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency of FastAPI that finds who asks, who has to hold a scope."""

    async def find(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        cookie: Annotated[str | None, Depends(_cookie)],
    ) -> Caller:
        secret = bearer.credentials if bearer is not None else cookie
        client = request.client.host if request.client else ""
        doorman: Doorman = request.app.state.doorman
        caller = await doorman.caller(secret, client)
        request.state.caller = caller
        if not caller.may(scope):
            raise HTTPException(403, f"this token may not do that: it needs the scope {scope}")
        return caller

    return find


Reader = Annotated[Caller, Depends(needs("read"))]
Mapper = Annotated[Caller, Depends(needs("map"))]
Reviewer = Annotated[Caller, Depends(needs("review"))]
Admin = Annotated[Caller, Depends(needs("admin"))]


async def the_service(request: Request) -> Service:
    """The service that a request goes to."""
    return service_of(request)


TheService = Annotated[Service, Depends(the_service)]
Id = Annotated[str, Path(pattern=ID_PATTERN)]


def the_map(service: Service, caller: Caller, number: str, *, whole: bool = False) -> tuple[MapRecord, View]:
    """A map that a caller may see, and how much of it.

    Args:
        service: whose.
        caller: who asks.
        number: its id.
        whole: what is asked for shows all of it.

    Raises:
        HTTPException: 404 where there is none, or none of theirs.
    """
    record = service.maps.find(number)
    view = "none" if record is None else record.seen_by(caller)
    if record is None or view == "none" or (whole and view != "whole"):
        raise HTTPException(404, "there is no such map")
    return record, view


def the_job(service: Service, caller: Caller, number: str) -> Job:
    """A job of a caller, or any where they administer.

    Raises:
        HTTPException: 404 where there is none, or none of theirs.
    """
    job = service.jobs.find(number)
    if job is None or not is_theirs(job.owner, caller):
        raise HTTPException(404, "there is no such job")
    return job


def the_upload(service: Service, caller: Caller, number: str) -> Upload:
    """An upload of a caller, or any where they administer.

    Raises:
        HTTPException: 404 where there is none, or none of theirs.
    """
    upload = service.uploads.find(number)
    if upload is None or not is_theirs(upload.owner, caller):
        raise HTTPException(404, "there is no such upload")
    return upload


def is_theirs(owner: str, caller: Caller) -> bool:
    """Whether something is a caller's, or they administer a service that shows them everything."""
    return owner == caller.id or sees_all(caller)


def sees_all(caller: Caller) -> bool:
    """Whether a caller sees what others sent and asked for."""
    return "admin" in caller.scopes and caller.area is None


def _unknown(text: str) -> HTTPException:
    return HTTPException(401, text, headers={"www-authenticate": "Bearer"})
