"""What stands before every route: whose address this is, how much may be sent and how often; headers; the log."""

import json
import math
import time
import uuid
from dataclasses import dataclass
from typing import Any

from aftermap.web.guard import App, Message, Receive, Send, is_own_name
from aftermap.web.service.log import log
from aftermap.web.service.rates import Rates
from aftermap.web.service.service import Service

MOST_JSON_BYTES = 512 * 1024
"""Largest request that is no upload."""

POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "permissions-policy": "geolocation=(), camera=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_SECURE = {"strict-transport-security": "max-age=31536000"}
_CHANGES = ("POST", "PUT", "PATCH", "DELETE")
_UPLOADS = "/api/uploads"
_USERS = 10


@dataclass
class _Asked:
    """A request under way."""

    method: str
    path: str
    headers: dict[str, str]
    client: str
    id: str
    begun: float
    status: int = 0


class Shield:
    """Passes on what a service may be asked, and writes down what came of it.

    Args:
        app: what answers; routes leave who asked in `scope["state"]["caller"]`.
        service: the service.
    """

    def __init__(self, app: App, service: Service) -> None:
        self._app, self._service = app, service
        limits = service.place.limits
        self._rates = Rates(limits.requests_per_second, limits.burst)
        # of an address, behind which a team may sit: tokens that are made up get nobody further
        self._clients = Rates(limits.requests_per_second * _USERS, limits.burst * _USERS)
        self._headers = _HEADERS | (_SECURE if service.rules.secure else {})

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; see the ASGI specification."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in scope["headers"]}
        client = scope["client"][0] if scope.get("client") else ""
        asked = _Asked(
            scope["method"], scope["path"], headers, client, uuid.uuid4().hex[:16], time.monotonic()
        )
        scope.setdefault("state", {})["request_id"] = asked.id

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                asked.status = message["status"]
                message = {**message, "headers": self._answered(asked, message["headers"])}
            await send(message)

        refusal = self._refusal(asked)
        try:
            if refusal is not None:
                await _refuse(with_headers, *refusal)
            elif asked.method == "OPTIONS" and self._is_preflight(asked):
                await _refuse(with_headers, 204, "")
            else:
                await self._app(scope, _bounded(receive, asked), with_headers)
        finally:
            self._write_down(asked, scope)

    def _refusal(self, asked: _Asked) -> tuple[int, str] | None:
        """Status and reason where a request is not passed on."""
        rules, headers = self._service.rules, asked.headers
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        if not (is_own_name(host) or name.lower() in rules.hosts):
            return 421, "this service answers under its own names only: see --allow-host"
        token = headers.get("authorization")
        wait = self._rates.take(token or asked.client) or (self._clients.take(asked.client) if token else 0.0)
        if wait:
            self._service.metrics.refused.labels("rate").inc()
            return 429, f"too many requests: wait {math.ceil(wait)} s"
        origin = headers.get("origin")
        own = (f"http://{host}", f"https://{host}")
        if origin is not None and origin not in (*own, *rules.origins):
            return 403, "another site may not use this service"
        if asked.method not in _CHANGES:
            return None
        if (
            headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
            and origin not in rules.origins
        ):
            return 403, "another site may not use this service"
        length = headers.get("content-length")
        if length is not None and not length.isdecimal():
            return 400, "how long is it?"
        if asked.path == _UPLOADS:
            return None
        if "transfer-encoding" in headers:
            return 411, "how long is it? send a content-length"
        if length is not None and int(length) > MOST_JSON_BYTES:
            return 413, f"more than {MOST_JSON_BYTES} bytes"
        kind = headers.get("content-type", "").partition(";")[0].strip()
        # other types need no leave of the browser to be sent from another site
        if int(length or 0) and kind != "application/json":
            return 415, "expected JSON"
        return None

    def _is_preflight(self, asked: _Asked) -> bool:
        return asked.headers.get("origin") in self._service.rules.origins

    def _answered(self, asked: _Asked, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        known = {name.lower() for name, _ in headers}
        added = [(n.encode(), v.encode()) for n, v in self._headers.items() if n.encode() not in known]
        if b"cache-control" not in known:
            added.append((b"cache-control", b"no-store"))
        added.append((b"x-request-id", asked.id.encode()))
        origin = asked.headers.get("origin")
        if origin is not None and origin in self._service.rules.origins:
            added += [
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-allow-headers", b"authorization, content-type, if-match, idempotency-key"),
                (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
                (b"access-control-expose-headers", b"etag, location, retry-after"),
                (b"vary", b"origin"),
            ]
        if asked.status == 429:
            added.append((b"retry-after", b"1"))
        return [*headers, *added]

    def _write_down(self, asked: _Asked, scope: Message) -> None:
        caller = scope["state"].get("caller")
        route = getattr(scope.get("route"), "path", None) or "other"
        seconds = time.monotonic() - asked.begun
        status = asked.status or 499
        self._service.metrics.requests.labels(asked.method, route, status).inc()
        self._service.metrics.seconds.labels(route).observe(seconds)
        about: dict[str, Any] = {
            "id": asked.id,
            "method": asked.method,
            "path": asked.path,
            "status": status,
            "client": asked.client,
            "caller": caller.name if caller is not None else None,
        }
        quiet = asked.method not in _CHANGES and status < 400
        if not quiet or scope["state"].get("audited"):
            self._service.audit.add(**about)
        if not (quiet and ("/tiles/" in asked.path or asked.path in ("/health", "/metrics"))):
            log("request", about | {"seconds": round(seconds, 4)})


def _bounded(receive: Receive, asked: _Asked) -> Receive:
    """No more of a request than it said: a body without a length is none, but of an upload."""
    if asked.path == _UPLOADS or asked.method not in _CHANGES:
        return receive
    left = int(asked.headers.get("content-length") or 0)

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            body = message.get("body", b"")[:left]
            left -= len(body)
            return {**message, "body": body}
        return message

    return counted


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode() if text else b""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
