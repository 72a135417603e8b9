"""What other libraries import and hardly anyone asks for, loaded when somebody does."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class _Later:
    """Stands for a module that is imported with the first attribute that is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


def import_without(module: str, other: str) -> None:
    """Import a module without another one that it would import, and give it a stand-in for that.

    Nothing is done where either is loaded already, or the other one is not installed.
    """
    if module in sys.modules or other in sys.modules or find_spec(other) is None:
        return
    sys.modules[other] = None  # type: ignore[assignment]
    try:
        loaded = import_module(module)
    finally:
        del sys.modules[other]
    setattr(loaded, other, _Later(other))
