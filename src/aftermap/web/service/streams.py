"""Streams of events that somebody follows; so many at once and no more."""

from collections import Counter
from collections.abc import AsyncIterator

from fastapi import HTTPException, Request
from sse_starlette import EventSourceResponse

from aftermap.workflows.service.tokens import LOCAL, Caller

MOST = 20
"""Of one token, or of one address where none is needed: a browser opens six."""

_PING_SECONDS = 15


def followed(request: Request, caller: Caller, events: AsyncIterator[dict[str, str]]) -> EventSourceResponse:
    """Events as an answer that goes on.

    Raises:
        HTTPException: 429 where the caller follows too many already.
    """
    streams: Counter[str] = request.app.state.streams
    client = request.client.host if request.client else ""
    name = client if caller is LOCAL else caller.id
    if streams[name] >= MOST:
        raise HTTPException(429, f"{MOST} streams of yours are open already: close one")

    async def counted() -> AsyncIterator[dict[str, str]]:
        streams[name] += 1
        try:
            async for event in events:
                yield event
        finally:
            streams[name] -= 1

    return EventSourceResponse(counted(), ping=_PING_SECONDS)
