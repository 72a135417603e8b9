"""Code of others that a model's card names: run only where the user trusts it.

A card may name any Python function (`kind: custom`), and opening such a model calls it. A folder from elsewhere must
not decide that. A target is called when the user asks for it: `--trust`, the variable AFTERMAP_TRUST (which processes
started by ours inherit), a recipe of the user's own that names the same target, or `trusting` in Python.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from aftermap.errors import ModelError

VARIABLE = "AFTERMAP_TRUST"
EVERYTHING = "all"

_trusted: set[str] = set()


def trust(target: str = EVERYTHING) -> None:
    """Trust a target (`package.module:function`), or every one, in this process and those it starts."""
    _trusted.add(target)
    os.environ[VARIABLE] = ",".join(sorted(_from_environment() | {target}))


@contextmanager
def trusting(target: str = EVERYTHING) -> Iterator[None]:
    """Trust a target, or every one, for as long as the context lasts, in this process."""
    new = target not in _trusted
    _trusted.add(target)
    try:
        yield
    finally:
        if new:
            _trusted.discard(target)


def check_trusted(target: str, source: object) -> None:
    """Refuse to call a target that nobody vouched for.

    Args:
        target: what a card names.
        source: where it stands, for the message.

    Raises:
        ModelError: the target is not trusted.
    """
    if not {target, EVERYTHING} & (_trusted | _from_environment()):
        raise ModelError(
            f"{source} wants to run {target!r}, code that does not come with aftermap: pass --trust if you know where "
            "the model comes from and what that code does"
        )


def _from_environment() -> set[str]:
    return {name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()}
