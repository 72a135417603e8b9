"""Who may talk to the page: this machine's browser, on the page's own address, and nobody on behalf of another site."""

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MOST_BYTES = 512 * 1024
"""Largest request."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def new_token() -> str:
    """A secret that stands in the address of a page."""
    return secrets.token_urlsafe(18)


class Guard:
    """Passes on what a browser asks of its own page, and adds what keeps the page to itself.

    - The first part of the path is the token.
    - The Host header names this machine by number or as `localhost`: a foreign name that leads here (DNS rebinding) is
      refused.
    - What changes something comes from the page's own origin, as JSON of a known and small size.

    Args:
        app: what answers.
        token: that the address begins with.
    """

    def __init__(self, app: App, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; see the ASGI specification."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        path = scope["path"][len(self._token) + 1 :]
        inner = {**scope, "path": path or "/", "raw_path": (path or "/").encode()}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                added = [(n.encode(), v.encode()) for n, v in _HEADERS.items()]
                if b"cache-control" not in known:
                    added.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(inner, receive, with_headers)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if not is_own_name(host):
            return 421, "this page answers on its own address only"
        first = str(scope["path"]).split("/")[1] if "/" in scope["path"] else ""
        if not secrets.compare_digest(first.encode(), self._token.encode()):
            return 404, "nothing here: open the whole address that aftermap printed"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, "another site may not use this page"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "another site may not use this page"
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return 405, "not understood"
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, "expected JSON"
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return 411, "how long is it?"
        if int(length) > MOST_BYTES:
            return 413, f"more than {MOST_BYTES} bytes"
        return None


def is_own_name(host: str) -> bool:
    """Whether a Host header names a machine by its number, or as localhost: no other name can lead here unnoticed."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


async def _refuse(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = {**_HEADERS, "content-type": "text/plain; charset=utf-8", "content-length": str(len(body))}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
