"""XLSX: the buildings, the summary and the legend as three sheets of a workbook.

Needs `openpyxl` (extra `report`). Texts stay texts: no cell is ever a formula, and whole numbers beyond 2^53, which Excel
would round, are written as text.
"""

import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font, PatternFill
from openpyxl.utils import get_column_letter

from aftermap.errors import InputError
from aftermap.products.exchange.unwritable import xml_text
from aftermap.products.exchange.zip_files import write_zip
from aftermap.products.styles import ALIASES, DAMAGE_STYLE, Style

MOST_ROWS = 2**20
LONGEST_TEXT = 32_767
_EXACT = 2**53
_DATE = b"2000-01-01T00:00:00Z"
_STAMP = re.compile(rb"(<dcterms:(created|modified)[^>]*>)[^<]*")
_LOOKS_ODD = re.compile(r"\s*[=+\-@＝＋－＠#]|\s*\d+\s*$|[\t\r\n]")
_CUT = " [cut: Excel holds no longer text]"

Rows = Iterable[Sequence[Any]]


def write_workbook(frame: geopandas.GeoDataFrame, path: Path, *, summary: Rows, legend: Rows) -> int:
    """Write the workbook; the first row of each sheet stays in sight.

    Args:
        frame: buildings; outlines are left out, their places are in `lon` and `lat`.
        path: the file.
        summary: rows of the sheet of that name, headings first.
        legend: rows of the sheet of that name, headings first; a cell `#rrggbb` is filled with that colour.

    Returns:
        How many texts were cut because Excel holds no longer ones.

    Raises:
        InputError: more buildings than a sheet has rows.
        OSError: it cannot be written.
    """
    if len(frame) >= MOST_ROWS:
        raise InputError(
            f"a sheet has {MOST_ROWS - 1:,} rows at most, the map has {len(frame):,} buildings: choose another format"
        )
    columns = [name for name in frame.columns if name != frame.geometry.name]
    values = [_column(frame[name]) for name in columns]
    book = Workbook(write_only=True)
    cut = _sheet(book, "Buildings", columns, zip(*values, strict=True) if values else ())
    for title, rows in (("Summary", summary), ("Legend", legend)):
        heading, *rest = rows
        cut += _sheet(book, title, heading, rest)
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        members: dict[str, bytes | Path] = {name: archive.read(name) for name in archive.namelist()}
    core = "docProps/core.xml"
    members[core] = _STAMP.sub(rb"\g<1>" + _DATE, bytes(members[core]))
    write_zip(path, members)
    return cut


def legend_rows(scale: str, style: Style = DAMAGE_STYLE) -> list[tuple[Any, ...]]:
    """The classes with their colours, and what the columns mean.

    Args:
        scale: of damage.
        style: its classes.
    """
    rows: list[tuple[Any, ...]] = [("value or column", "meaning", "colour")]
    rows += [(entry.value, f"{entry.label} ({scale})", entry.colour) for entry in style.entries]
    return rows + [(column, name, None) for column, name in ALIASES.items()]


def summary_rows(summary: Mapping[str, Any], facts: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Counts, shares and areas by class, what was not assessed, and facts about the map."""
    rows: list[tuple[Any, ...]] = [("class", "buildings", "share of assessed", "area (m²)")]
    for name, found in summary["classes"].items():
        rows.append((name, found["buildings"], found["share"], found["area_m2"]))
    skipped = summary["not_assessed"]
    if damaged := summary.get("damaged"):
        rows.append(("damaged in all", damaged["buildings"], damaged["share"], damaged["area_m2"]))
    rows.append(("assessed", summary["assessed"], None, None))
    rows.append(("not assessed", skipped["buildings"], None, skipped["area_m2"]))
    rows += [(f"not assessed: {reason}", number, None, None) for reason, number in skipped["reasons"].items()]
    rows.append(("buildings", summary["buildings"], None, summary["area_m2"]))
    return [*rows, (), *((name, value) for name, value in facts.items() if value not in (None, ""))]


def _sheet(book: Workbook, title: str, heading: Sequence[Any], rows: Rows) -> int:
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    for number, name in enumerate(heading, start=1):
        sheet.column_dimensions[get_column_letter(number)].width = min(max(len(str(name)) + 3, 12), 60)
    cells = []
    for name in heading:
        cell = _text_cell(sheet, xml_text(str(name)))
        cell.font = Font(bold=True)
        cells.append(cell)
    sheet.append(cells)
    cut = 0
    for row in rows:
        line = []
        for value in row:
            if isinstance(value, str):
                text = xml_text(value)
                if len(text) > LONGEST_TEXT:
                    text, cut = text[: LONGEST_TEXT - len(_CUT)] + _CUT, cut + 1
                value = _text_cell(sheet, text) if _LOOKS_ODD.match(text) else text
            line.append(value)
        sheet.append(line)
    return cut


def _text_cell(sheet: Any, text: str) -> Any:
    """A cell that stays text, also once somebody edits it; one that names a colour is painted in it."""
    cell = WriteOnlyCell(sheet, value=text)
    cell.data_type, cell.number_format, cell.quotePrefix = "s", "@", True
    if re.fullmatch("#[0-9a-f]{6}", text):
        cell.fill = PatternFill("solid", fgColor=text[1:])
    return cell


def _column(column: "pd.Series[Any]") -> list[Any]:
    """Values that a cell can hold, None where missing."""
    return [_value(value) for value in column.astype(object)]


def _value(value: Any) -> Any:
    if value is None or value is pd.NA or value != value:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value
