"""Code of others that a model's card names: run only where the user trusts it.

A card may name any Python function (`kind: custom`), and opening such a model calls it. A folder from elsewhere must
not decide that. A target is called when the user asks for it: `--trust`, the variable AFTERMAP_TRUST (which processes
started by ours inherit), a recipe of the user's own that names the same target, or `trusting` in Python.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from aftermap.errors import ModelError, RecipeError

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


def function_named(target: str, what: str) -> Callable[..., Any]:
    """The function that a recipe names as `package.module:function`; its module is run.

    Args:
        target: the name.
        what: whose it is, for messages, such as `model target`.

    Raises:
        RecipeError: there is no such function, or its module does not run.
    """
    module_name, _, name = target.partition(":")
    wrong = f"{what} {target!r} cannot be imported"
    if not module_name or not name or module_name.startswith("."):
        raise RecipeError(f"{wrong}: write package.module:function")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise RecipeError(f"{wrong}: {error}") from None  # a module that it needs itself
        raise RecipeError(
            f"{wrong}: write package.module:function, and set PYTHONPATH to the folder of {error.name}"
        ) from None
    except Exception as error:  # whatever a user's own module raises
        raise RecipeError(f"{wrong}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    function = getattr(module, name, None)
    if function is None:
        raise RecipeError(f"{wrong}: {module_name} has no {name}")
    if not callable(function):
        raise RecipeError(f"{what} {target!r} is a {type(function).__name__}, expected a function")
    return function  # type: ignore[no-any-return]


def _from_environment() -> set[str]:
    return {name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()}
