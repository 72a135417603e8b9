"""Interruptions between two optimizer steps, never within one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def whole_step() -> Iterator[None]:
    """Let a step end before Ctrl-C (or what ends a process like it) takes effect; the second one does so at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    came: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            handlers[number](number, frame)

    caught = [number for number, handler in handlers.items() if callable(handler)]
    for number in caught:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, handlers[number])
    if came:
        handlers[came[0]](came[0], None)
