"""Gives the system back what a stage of a map needed and the next one does not."""

import ctypes
import sys
from functools import cache
from typing import Any


def give_back() -> None:
    """Return free memory to the system, where its library can: glibc keeps what lies between pieces that are used."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    """`malloc_trim` of glibc; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
