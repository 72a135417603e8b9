"""Memory that the process holds: given back after a stage, kept between steps that want it again, or not searched.

What concerns glibc does nothing elsewhere (macOS, musl).
"""

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SET_BY_USERS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
_COUNTING = threading.Lock()
_uncollected, _collects = 0, False  # how many are within, and whether to go on when the last one has left
_MOST_MAPPED = 32 << 20  # where glibc ends by itself once pieces as large have been freed
_keepers: set[object] = set()


def give_back() -> None:
    """Return free memory to the system: glibc keeps what lies between pieces that are used."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def keeping() -> Iterator[None]:
    """Within it, what is freed is kept for the next that asks; afterwards it is given back.

    By default glibc asks the system for every large piece and hands it back when it is freed, so that the arrays of a
    training step arrive as pages to be cleared one by one, in every step: nearly half of its time. Whoever has set
    these limits by `MALLOC_MMAP_THRESHOLD_`, `MALLOC_TRIM_THRESHOLD_` or `GLIBC_TUNABLES` is left alone. The outermost
    of several gives back.
    """
    mallopt = None if any(name in os.environ for name in _SET_BY_USERS) else _function("mallopt")
    if mallopt is None:
        yield
        return
    keeper = object()
    _keepers.add(keeper)
    mallopt(_MMAP_THRESHOLD, 1 << 30)
    mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        _keepers.discard(keeper)
        if not _keepers:
            mallopt(_MMAP_THRESHOLD, _MOST_MAPPED)
            mallopt(_TRIM_THRESHOLD, 2 * _MOST_MAPPED)
            give_back()


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it, Python does not search for objects that only refer to each other.

    It would look at all objects again and again while tables and outlines of many are made: a tenth of the time of a map
    with 50,000 footprints, for nothing. What nobody refers to is freed as ever.
    """
    global _uncollected, _collects
    with _COUNTING:
        if _uncollected == 0:
            _collects = gc.isenabled()
            gc.disable()
        _uncollected += 1
    try:
        yield
    finally:
        with _COUNTING:
            _uncollected -= 1
            if _uncollected == 0 and _collects:
                gc.enable()


@cache
def _function(name: str) -> Any:
    """A function of glibc; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
