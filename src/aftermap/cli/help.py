"""Docstrings as help: a paragraph is one line, however the source is broken, so that the terminal breaks it anew."""

import re
from collections.abc import Callable, Iterator
from inspect import Signature, cleandoc, signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts import App

_PARAMETER = re.compile(r"^ +\w+: ")


def flowing(text: str) -> str:
    """A cleaned docstring with every paragraph, and the text of every parameter, on one line.

    Indented examples, the heading of the parameters, and what follows a blank line stay where they are. A command that
    goes on in a line indented further is one line too.
    """
    return "\n".join(_flow(text.split("\n")))


def _flow(lines: list[str]) -> Iterator[str]:
    current = ""
    for line in lines:
        if current and _goes_on(current, line):
            current += f" {line.strip()}"
            continue
        if current:
            yield current
        current = line
        if not line:
            yield line
    if current:
        yield current


def _goes_on(before: str, line: str) -> bool:
    """Whether a line continues the one before it."""
    if not line.strip() or before == "Args:":
        return False
    depth, above = (len(text) - len(text.lstrip()) for text in (line, before))
    if depth == above:
        is_example = above > 0 and before.strip().startswith("aftermap ")
        return not is_example and not _PARAMETER.match(line) and not before.startswith("Example:")
    return depth > above and (above > 0 or before.startswith("Example:"))


def let_flow(app: "App") -> None:
    """Let the docstrings of all commands of an application flow, and what stands without a name have none."""
    for command in commands(app):
        command.__doc__ = flowing(cleandoc(command.__doc__ or ""))
        vars(command)["__signature__"] = by_place(signature(command))


def by_place(told: Signature) -> Signature:
    """A signature in which what has to be given is given by its place alone: else help shows `PAIRS --pairs`."""
    return told.replace(
        parameters=[
            each.replace(kind=each.POSITIONAL_ONLY)
            if each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty
            else each
            for each in told.parameters.values()
        ]
    )


def commands(app: "App") -> Iterator[Callable[..., Any]]:
    """The functions of an application and of those below it, each once."""
    if app.default_command is not None:
        yield app.default_command
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name])
