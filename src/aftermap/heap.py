"""Memory that glibc holds for the process: given back after a stage, or kept between steps that want the same again.

Elsewhere (macOS, musl) both do nothing.
"""

import ctypes
import os
import sys
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SET_BY_USERS = ("MALLOC_", "GLIBC_TUNABLES")


def give_back() -> None:
    """Return free memory to the system: glibc keeps what lies between pieces that are used."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def keep() -> None:
    """From now on, keep what is freed for the next that asks, until `give_back`.

    By default glibc asks the system for every large piece and hands it back when it is freed, so that the arrays of a
    training step arrive as pages to be cleared one by one, in every step: nearly half of its time. Whoever has set
    `MALLOC_...` or `GLIBC_TUNABLES` is left alone.
    """
    if any(name.startswith(_SET_BY_USERS) for name in os.environ):
        return
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


@cache
def _function(name: str) -> Any:
    """A function of glibc; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
