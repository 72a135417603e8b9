"""What commands print: words and tables, JSON, and the files that were written."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(*what: Any, error: bool = False, markup: bool = False) -> None:
    """Print texts or tables as they are, or their markup as colours; on standard error what is no result."""
    from rich.console import Console

    console = Console(stderr=error, highlight=False, emoji=False, markup=markup)
    for each in what:
        console.print(each, markup=markup, soft_wrap=isinstance(each, str))


def wide_console() -> "Console":
    """Standard output, for tables whose words are the user's; a file or a pipe is as wide as it needs to be."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200
    return console


def print_json(value: object) -> None:
    """Print a tree as JSON; paths become texts."""
    from aftermap.files import to_plain

    print(json.dumps(to_plain(value), indent=1))


def say_written(files: Iterable[Path]) -> None:
    """Name the files that were written."""
    say(*(f"wrote {path}" for path in files))


def facts_table() -> "Table":
    """A table of what is known, a line each."""
    from rich.table import Table

    return Table("", "", show_header=False)
