"""HTTP within a reach: every connection, also after a redirect, goes to a number that was looked at."""

import base64
import netrc
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import httpcore

from aftermap import __version__
from aftermap.errors import AbsentError, RemoteError
from aftermap.remote.addresses import Address
from aftermap.remote.reach import Reach, host_name, is_public

MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT_S = 20.0
_CHUNK = 1 << 16


@dataclass
class Answer:
    """What a server said.

    Attributes:
        status: of HTTP.
        headers: by name in lower case.
        address: which was asked last, after redirects.
        chunks: the body, as it comes.
    """

    status: int
    headers: dict[str, str]
    address: Address
    chunks: Iterator[bytes]


class Web:
    """Connections to web servers.

    Args:
        reach: which may be asked.
        named: hosts that the user wrote.
        timeout_s: of connecting, and of each wait for bytes.
        slowest: bytes per second; an answer that comes slower than this after `timeout_s` is given up.
        tries: how often a request is made that failed in a way which may pass.
    """

    def __init__(
        self, reach: Reach, named: Iterable[str], *, timeout_s: float, slowest: float, tries: int
    ) -> None:
        self._reach, self._timeout_s, self._slowest, self._tries = reach, timeout_s, slowest, tries
        self._named = set(named)
        self._backend = _LookedAt(self._check_numbers, timeout_s)
        self._pools: dict[str, httpcore.ConnectionPool] = {}
        self._lock = threading.Lock()

    def fetch(
        self,
        address: Address,
        take: Callable[[Answer], Any],
        *,
        headers: Iterable[tuple[str, str]] = (),
        method: str = "GET",
        body: bytes | None = None,
    ) -> Any:
        """Ask for an address, following redirects, and again where it failed in a way that may pass.

        Args:
            address: it.
            take: is given the answer and reads from it what it needs; called again after a failure.
            headers: to send beside the usual ones.
            method: of HTTP.
            body: to send.

        Raises:
            AbsentError: the server has no such file.
            RemoteError: it cannot be reached, may not be, refuses, or does not answer in time.
        """
        for attempt in range(1, self._tries + 1):
            try:
                with self._asked(address, tuple(headers), method, body) as answer:
                    if answer.status in _PASSING and attempt < self._tries:
                        time.sleep(_wait(attempt, answer.headers.get("retry-after")))
                        continue
                    _check_status(answer, address)
                    return take(answer)
            except _PassingError as failure:
                if attempt == self._tries:
                    raise RemoteError(f"cannot read {address.shown}: {failure}") from None
                time.sleep(_wait(attempt))
        raise AssertionError("every try ends in an answer or an error")

    def headers_of(self, address: Address) -> dict[str, str]:
        """What a server says of an address, whatever its answer is; no redirect is followed.

        Raises:
            RemoteError: it cannot be reached, or may not be.
        """
        try:
            with self._asked(address, (), "HEAD", None, most_redirects=0) as answer:
                return answer.headers
        except _PassingError as failure:
            raise RemoteError(f"cannot read {address.shown}: {failure}") from None

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()

    @contextmanager
    def _asked(
        self,
        address: Address,
        headers: tuple[tuple[str, str], ...],
        method: str,
        body: bytes | None,
        most_redirects: int = MOST_REDIRECTS,
    ) -> Iterator[Answer]:
        current = address
        for _ in range(most_redirects + 1):
            self._reach.check(current)
            deadline = time.monotonic() + self._timeout_s * 2
            sent = [
                ("Host", current.host.rpartition("@")[2]),
                ("User-Agent", f"aftermap/{__version__}"),
                ("Accept-Encoding", "identity"),
                *headers,
                *self._credentials(current, address),
            ]
            with (
                self._explained(current),
                self._pool_of(current).stream(
                    method,
                    _target(current),
                    headers=sent,
                    content=body,
                    extensions={
                        "timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
                    },
                ) as response,
            ):
                found = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                }
                if not most_redirects or response.status not in _REDIRECTS or "location" not in found:
                    yield Answer(response.status, found, current, self._body(response, deadline, current))
                    return
            current = _redirected(current, found["location"])
        raise RemoteError(f"cannot read {address.shown}: it redirects more than {MOST_REDIRECTS} times")

    def _body(self, response: httpcore.Response, deadline: float, address: Address) -> Iterator[bytes]:
        begun, count = time.monotonic(), 0
        with self._explained(address):
            for chunk in response.iter_stream():
                count += len(chunk)
                now = time.monotonic()
                if now > deadline and count < self._slowest * (now - begun):
                    raise _PassingError(
                        f"its server sends less than {self._slowest / 1000:.3g} kB a second, so it was given up"
                    )
                yield chunk

    @contextmanager
    def _explained(self, address: Address) -> Iterator[None]:
        try:
            yield
        except httpcore.ConnectTimeout:
            raise _PassingError(f"no connection within {self._timeout_s:g} seconds") from None
        except httpcore.TimeoutException:
            raise _PassingError(f"its server did not answer within {self._timeout_s:g} seconds") from None
        except httpcore.UnsupportedProtocol as error:
            raise RemoteError(f"cannot read {address.shown}: {_line(error)}") from None
        except httpcore.ProxyError as error:
            raise RemoteError(f"cannot read {address.shown}: the proxy refuses it ({_line(error)})") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            if "CERTIFICATE" in str(error).upper():
                raise RemoteError(
                    f"cannot read {address.shown}: its certificate is not trusted ({_line(error)})"
                ) from None
            raise _PassingError(_line(error)) from None

    def _check_numbers(self, host: str, numbers: Iterable[str]) -> None:
        if self._reach.private == "named" and host.lower().rstrip(".") in self._named:
            return
        for number in numbers:
            if not is_public(number):
                told = "it" if host.strip("[]") == number else f"it is {number}, which"
                raise RemoteError(
                    f"{host} may not be asked: {told} lies in a private network or on this machine"
                )

    def _pool_of(self, address: Address) -> httpcore.ConnectionPool:
        """The connections of a scheme, straight or through the user's proxy."""
        proxy, host = "", host_name(address)
        if self._reach.personal and host not in ("localhost", "127.0.0.1", "::1"):
            told = urllib.request.getproxies().get(address.scheme, "")
            proxy = "" if not told or urllib.request.proxy_bypass(host) else told
        with self._lock:
            if (key := proxy or address.scheme) not in self._pools:
                trusted = ssl.create_default_context() if proxy or address.scheme == "https" else None
                self._pools[key] = (
                    self._proxied(proxy, trusted)
                    if proxy
                    else httpcore.ConnectionPool(
                        ssl_context=trusted, network_backend=self._backend, max_connections=16, retries=0
                    )
                )
            return self._pools[key]

    def _proxied(self, proxy: str, trusted: ssl.SSLContext | None) -> httpcore.HTTPProxy:
        found = Address.parse(proxy if "://" in proxy else f"http://{proxy}")
        user, _, place = found.host.rpartition("@")
        self._named.add(host_name(found))
        name, _, password = unquote(user).partition(":")
        return httpcore.HTTPProxy(
            f"{found.scheme}://{place}",
            proxy_auth=(name, password) if user else None,
            ssl_context=trusted,
            network_backend=self._backend,
        )

    def _credentials(self, current: Address, first: Address) -> list[tuple[str, str]]:
        """Basic credentials of the address itself or of the user's netrc; never those of another host."""
        user = ""
        if (current.scheme, current.host) == (first.scheme, first.host):
            user = unquote(first.host.rpartition("@")[0])
        if not user and self._reach.personal and current.scheme == "https":
            user = _netrc_user(host_name(current))
        return [("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")] if user else []


class _PassingError(Exception):
    """A failure that may pass."""


@dataclass
class _LookedAt(httpcore.NetworkBackend):
    """Connects to a number of a host after `check` has seen all its numbers."""

    check: Callable[[str, Iterable[str]], None]
    timeout_s: float
    inner: httpcore.NetworkBackend = field(default_factory=httpcore.SyncBackend)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        numbers = _resolve(host, port, self.timeout_s)
        self.check(host, numbers)
        for index, number in enumerate(numbers):
            try:
                return self.inner.connect_tcp(number, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                if index == len(numbers) - 1:
                    if "refused" in str(error).lower():
                        raise RemoteError(f"cannot reach {host}: nothing answers on port {port}") from None
                    raise
        raise AssertionError("a name is resolved to at least one number")

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        raise RemoteError("sockets of this machine are not read")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def _resolve(host: str, port: int, timeout_s: float) -> list[str]:
    """The numbers of a host, each once, within a time."""
    found: list[str] = []
    failed: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            told = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(each[4][0]) for each in told))
        except (OSError, UnicodeError) as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if failed:
        raise RemoteError(f"cannot find the host {host}: no such name, or no network")
    if not found:
        raise RemoteError(
            f"cannot find the host {host}: its name was not resolved within {timeout_s:g} seconds"
        )
    return found


def _check_status(answer: Answer, address: Address) -> None:
    status = answer.status
    if status in (404, 410):
        raise AbsentError(f"cannot read {address.shown}: there is no such file ({status})")
    if status in (401, 403):
        raise RemoteError(
            f"cannot read {address.shown}: the server refuses it ({status}); it needs credentials, or its signed address "
            "has run out"
        )
    if status not in (200, 206, 416):
        raise RemoteError(f"cannot read {address.shown}: the server answers {status}")


def _redirected(current: Address, location: str) -> Address:
    try:
        target = Address.parse(urljoin(str(current), location))
    except (RemoteError, ValueError):
        raise RemoteError(
            f"cannot read {current.shown}: it redirects to something that is no address"
        ) from None
    if not target.is_web or (current.scheme == "https" and target.scheme != "https"):
        raise RemoteError(
            f"cannot read {current.shown}: it redirects to {target.scheme}://, which is not followed"
        )
    return target


def _target(address: Address) -> str:
    """The address as it is asked: without user."""
    return f"{address.scheme}://{address.host.rpartition('@')[2]}/{address.key}{address.query}"


def _wait(attempt: int, told: str | None = None) -> float:
    asked = float(told) if told is not None and told.isdecimal() else 0.0
    return min(_LONGEST_WAIT_S, max(asked, 0.25 * 2.0 ** (attempt - 1)))


def _netrc_user(host: str) -> str:
    try:
        found = netrc.netrc(str(Path.home() / ".netrc")).authenticators(host)
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return ""
    return f"{found[0]}:{found[2]}" if found is not None else ""


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__).lower()[:200]
