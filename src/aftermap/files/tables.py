"""CSV that a spreadsheet shows and never runs, and tables in Markdown.

A cell of text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-` or `@`, also in full width or
after spaces, or with a tab or a line break) gets an apostrophe in front. Numbers stay numbers, written as text too. A
carriage return becomes a line feed, because the writer quotes no cell for it and the rest would begin a row.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

_RUNS = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_MAY_RUN = re.compile(r"\0(\s*[=+\-@＝＋－＠]|[\t\n])|\r")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


def safe_cell(value: Any) -> Any:
    """A value as a cell may hold it; see the module."""
    if not isinstance(value, str):
        return value
    if _RUNS.match(value) and not _NUMBER.fullmatch(value):
        value = "'" + value
    return value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else value


def are_safe(words: Sequence[str]) -> bool:
    """Whether `safe_cell` surely leaves all of these words as they are; looked for at once."""
    return _MAY_RUN.search("\0" + "\0".join(words)) is None


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows, the names of the columns first, as CSV; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([safe_cell(value) for value in row] for row in rows)
    return text.getvalue()


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a table in Markdown; None is an empty cell."""
    whole = [headings, ["---"] * len(headings), *rows]
    cells = [["" if cell is None else str(cell).replace("|", "\\|") for cell in row] for row in whole]
    return ["| " + " | ".join(row) + " |" for row in cells]
