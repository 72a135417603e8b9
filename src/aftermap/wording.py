"""What messages have in common: how they name what can be changed, and how they count.

Messages are written for the command line: `pass --bands 1,2,3`. Where a function of the package was called from Python,
they are turned as they come into being: `pass bands=(1, 2, 3)`.
"""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_PARAMETERS = {
    "backend": "backend",
    "compile": "compiled",
    "from": "start",
    "min-area": "min_area_m2",
    "o": "out",
    "size": "size_px",
    "window": "window_px",
}
"""Options whose parameters are not called as they are."""

_FLAGS = ("overwrite", "resume", "part-touching", "compile", "low-memory", "eroded", "dsm", "strict", "trust")
_WORDS = (
    r"auto|off|none|declared|buildings|classes|damage|localization|torch|openvino|onnxruntime|cpu|cuda|f16|f32|bf16|soft|"
    r"nearest|background|block|event|name"
)
_VALUE = rf"EPSG:\d+|[A-Z][A-Z_]*(?![A-Za-z:])|-?\d[\d.,]*(?<=\d)|(?:{_WORDS})(?![\w-])"
_OPTION = re.compile(rf"(?<![\w-])(?:--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)|-(o))(?![\w-])(?: ({_VALUE}))?")
_COMMAND = re.compile(r"'aftermap [^']*'|\baftermap [a-z-]+ --\S+( \S+)?")

_speaks_python = 0


@contextmanager
def naming_parameters() -> Iterator[None]:
    """Within it messages name parameters and not options."""
    global _speaks_python
    _speaks_python += 1
    try:
        yield
    finally:
        _speaks_python -= 1


def called_from_python(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose errors and warnings name its parameters."""

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        with naming_parameters():
            return function(*arguments, **keywords)

    return call


def worded(message: str) -> str:
    """A message as whoever called is told it."""
    return in_parameters(message) if _speaks_python else message


def in_parameters(message: str) -> str:
    """A message in which parameters stand for options: `overwrite=True` for `--overwrite`; commands stay as they are."""
    parts, end = [], 0
    for command in _COMMAND.finditer(message):
        parts += [_OPTION.sub(_parameter, message[end : command.start()]), command[0]]
        end = command.end()
    return "".join([*parts, _OPTION.sub(_parameter, message[end:])])


def counted(number: int, thing: str, things: str | None = None) -> str:
    """So many of a thing: `1 scene`, `1,204 scenes`.

    Args:
        number: how many.
        thing: one of them.
        things: several of them; by default with an s.
    """
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def _parameter(option: re.Match[str]) -> str:
    name, value = option[1] or option[2], option[3]
    parameter = _PARAMETERS.get(name, name.replace("-", "_"))
    if value is None:
        is_given = option.string[: option.start()].endswith(("pass ", "or "))
        return f"{parameter}=True" if name in _FLAGS and is_given else parameter
    if value[0].isdigit() or value[0] == "-":
        return f"{parameter}=({value.replace(',', ', ')})" if "," in value else f"{parameter}={value}"
    return f"{parameter}={value}" if re.fullmatch(r"[A-Z_]+", value) else f'{parameter}="{value}"'
