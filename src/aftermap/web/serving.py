"""A page on a port of this machine, until it is interrupted."""

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Literal

import uvicorn

from aftermap.errors import InputError, OutputError
from aftermap.web.guard import App

PORT = 8765
_TRIES = 30


def bind(host: str, port: int | None) -> socket.socket:
    """A socket to listen on: the port asked for, or the first free one from 8765.

    Raises:
        InputError: the port is taken or not allowed, or the host is no address of this machine.
    """
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise InputError(f"--host {host} is no address: pass one such as 127.0.0.1 or 192.168.1.20") from None
    tried = [port] if port is not None else range(PORT, PORT + _TRIES)
    for number in tried:
        # named as TCP: asyncio sends the small parts of an answer without waiting (TCP_NODELAY) only where it knows
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen()
            return listener
        except (OSError, OverflowError) as error:
            listener.close()
            code = error.errno if isinstance(error, OSError) else None
            if code == errno.EADDRNOTAVAIL:
                raise InputError(
                    f"--host {host} is no address of this machine: leave it out for this machine alone"
                ) from None
            if port is not None:
                why = (
                    "is taken: leave --port out for a free one"
                    if code == errno.EADDRINUSE
                    else f"cannot be used: {error}"
                )
                raise InputError(f"--port {port} {why}") from None
    raise OutputError(f"none of the ports {PORT} to {PORT + _TRIES - 1} is free: pass --port")


def address(listener: socket.socket, token: str) -> str:
    """Where a browser on this machine finds the page."""
    host, port = listener.getsockname()[:2]
    named = f"[{host}]" if ":" in host else host
    if named in ("0.0.0.0", "[::]"):
        named = "127.0.0.1"
    return f"http://{named}:{port}/{token}/"


def serve(
    app: App,
    listener: socket.socket,
    *,
    begun: Callable[[], None],
    lifespan: Literal["on", "off"] = "off",
    proxied: bool = False,
) -> None:
    """Answer until Ctrl-C, which ends it cleanly and is not passed on.

    Args:
        app: what answers.
        listener: where.
        begun: called once the page can be opened.
        lifespan: whether the app wants to be told when it begins and ends.
        proxied: a proxy on this machine stands before it, and says who asks.
    """
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        lifespan=lifespan,
        proxy_headers=proxied,
        forwarded_allow_ips="127.0.0.1" if proxied else None,
    )
    server = uvicorn.Server(config)
    begun()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        listener.close()
