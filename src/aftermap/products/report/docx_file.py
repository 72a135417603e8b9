"""Sets a report as DOCX, to be edited before it is handed on: the same bytes for the same report."""

import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aftermap.products.report.content import Content
from aftermap.products.report.map_picture import Pictures

if TYPE_CHECKING:
    from docx.document import Document

_RUN_ORDER = ("rStyle", "rFonts", "b", "bCs", "i", "iCs", "color", "sz", "szCs", "rtl", "cs", "lang")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_SOFT, _ACCENT = "5A6875", "1F4E79"
_PAPERS = {"a4": (210.0, 297.0), "letter": (215.9, 279.4)}
_MARGIN_MM = 18.0
_MAP_HEIGHT_MM = 108.0


def docx(content: Content, pictures: Pictures, *, paper: str = "a4") -> bytes:
    """The report as DOCX.

    Args:
        content: what it says.
        pictures: the map and the two images.
        paper: a4 or letter.
    """
    import docx as library
    from docx.shared import Mm, Pt

    document = library.Document()
    width, height = _PAPERS[paper]
    section = document.sections[0]
    section.page_width, section.page_height = Mm(width), Mm(height)
    section.left_margin = section.right_margin = section.top_margin = section.bottom_margin = Mm(_MARGIN_MM)
    style = document.styles["Normal"]
    style.font.name, style.font.size = "Calibri", Pt(9.5)
    style.paragraph_format.space_after = Pt(3)
    writer = _Writer(document, content.rtl, content.code, width - 2 * _MARGIN_MM)
    writer.text(content.kicker, size=8.5, colour=_ACCENT, bold=True)
    if content.organisation:
        writer.text(content.organisation, size=8.5, colour=_SOFT)
    writer.text(content.title, size=20, bold=True, style="Title")
    writer.text(content.status, size=10, bold=True, colour="6B4A00")
    writer.text(content.made_on, size=8.5, colour=_SOFT)
    for name, words in content.facts:
        writer.pair(name, words)
    writer.numbers(content.numbers)
    if content.estimate:
        writer.text(content.estimate, bold=True)
    writer.classes(content)
    for note in content.class_notes:
        writer.text(note, size=8, colour=_SOFT)
    writer.heading(content.map_heading)
    writer.picture(pictures.map, writer.width_mm, _MAP_HEIGHT_MM)
    writer.legend(content.legend_heading, content.legend)
    writer.text(content.map_caption, size=8, colour=_SOFT)
    if content.area_rows:
        writer.heading(content.area_heading)
        writer.table(content.area_headings, content.area_rows, content.area_texts)
        if content.area_note:
            writer.text(content.area_note, size=8, colour=_SOFT)
    writer.heading(content.pair_heading)
    writer.side_by_side(pictures.dates, content.pair_captions)
    for part in content.sections:
        writer.heading(part.heading)
        for sentence in part.sentences:
            writer.text(sentence, style="List Bullet")
        for quote in part.foreign:
            writer.text(quote, colour=_SOFT, foreign=True)
    writer.heading(content.sources_heading)
    for name, words in content.sources:
        writer.pair(name, words)
    _describe(document, content)
    buffer = io.BytesIO()
    document.save(buffer)
    return _same_bytes(buffer.getvalue())


class _Writer:
    """Adds to a document, from right to left where the language is written so."""

    def __init__(self, document: "Document", rtl: bool, code: str, width_mm: float) -> None:
        self.document, self.rtl, self.code, self.width_mm = document, rtl, code, width_mm

    def text(
        self,
        words: str,
        *,
        size: float | None = None,
        colour: str | None = None,
        bold: bool = False,
        style: str | None = None,
        foreign: bool = False,
    ) -> Any:
        paragraph = self.document.add_paragraph(style=style)
        self._run(paragraph, words, size=size, colour=colour, bold=bold, foreign=foreign)
        if self.rtl and not foreign:
            self._turn(paragraph)
        return paragraph

    def heading(self, words: str) -> None:
        paragraph = self.document.add_heading(level=2)
        paragraph.paragraph_format.keep_with_next = True
        self._run(paragraph, words, size=13, colour=_ACCENT, bold=True)
        if self.rtl:
            self._turn(paragraph)

    def pair(self, name: str, words: str) -> None:
        paragraph = self.text(f"{name}  ", bold=True, colour=_SOFT)
        self._run(paragraph, words)

    def numbers(self, numbers: Sequence[tuple[str, str, str, str]]) -> None:
        """Large figures side by side, each with what it counts, of how many, and a colour."""
        for cell, (figures, words, whole, colour) in zip(self._cells(len(numbers)), numbers, strict=True):
            paragraph = cell.paragraphs[0]
            self._run(paragraph, f"{figures}  ", size=20, bold=True, colour=colour.removeprefix("#"))
            self._run(paragraph, f"{words} {whole}".strip(), size=9)
            if self.rtl:
                self._turn(paragraph)

    def side_by_side(self, pictures: Sequence[bytes], captions: Sequence[str]) -> None:
        """Pictures in a row, each over its caption."""
        for cell, picture, caption in zip(self._cells(len(pictures)), pictures, captions, strict=True):
            self._draw(cell.paragraphs[0], picture, self.width_mm / len(pictures) - 5, 48)
            cell.paragraphs[0].paragraph_format.keep_with_next = True
            below = cell.add_paragraph()
            self._run(below, caption, size=8, colour=_SOFT)
            if self.rtl:
                self._turn(cell.paragraphs[0])
                self._turn(below)

    def legend(self, heading: str, entries: Sequence[tuple[str, str]]) -> None:
        paragraph = self.text(f"{heading}    ", size=8.5, colour=_SOFT)
        for colour, name in entries:
            self._run(paragraph, "\u25a0 ", colour=colour.removeprefix("#").upper())
            self._run(paragraph, f"{name}    ", size=8.5)

    def picture(self, picture: bytes, width_mm: float, height_mm: float) -> None:
        paragraph = self.document.add_paragraph()
        paragraph.paragraph_format.keep_with_next = True
        self._draw(paragraph, picture, width_mm, height_mm)
        if self.rtl:
            self._turn(paragraph)

    def _draw(self, paragraph: Any, picture: bytes, width_mm: float, height_mm: float) -> None:
        from docx.shared import Mm
        from PIL import Image

        with Image.open(io.BytesIO(picture), formats=("JPEG",)) as file:
            across, down = file.size
        scale = min(width_mm / across, height_mm / down)
        paragraph.add_run().add_picture(io.BytesIO(picture), width=Mm(across * scale))

    def _cells(self, count: int) -> Sequence[Any]:
        """Cells side by side without lines around them."""
        table = self.document.add_table(rows=1, cols=count)
        if self.rtl:
            _child(table._tbl.tblPr, "w:bidiVisual", after="w:tblStyle")
        cells: Sequence[Any] = table.rows[0].cells
        return cells

    def classes(self, content: Content) -> None:
        rows = [(row.name, row.meaning, *row.cells) for row in content.class_rows]
        table = self.table(content.class_headings, rows, 2)
        for line, row in enumerate(content.class_rows, 1):
            if row.colour:
                _shade(table.cell(line, 0), row.colour)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> Any:
        """A table whose first columns are texts and whose others are numbers."""
        from docx.enum.text import WD_ALIGN_PARAGRAPH
        from docx.shared import Mm

        table = self.document.add_table(rows=0, cols=len(headings))
        table.style, table.autofit = "Table Grid", False
        widths = [Mm(width) for width in _widths([headings, *rows], texts, self.width_mm)]
        if self.rtl:
            _child(table._tbl.tblPr, "w:bidiVisual", after="w:tblStyle")
        for number, row in enumerate([headings, *rows]):
            for column, (cell, words) in enumerate(zip(table.add_row().cells, row, strict=True)):
                cell.width = widths[column]
                paragraph = cell.paragraphs[0]
                paragraph.paragraph_format.space_after = 0
                paragraph.paragraph_format.keep_with_next = (
                    number < 3 or None
                )  # no heading alone at a page's foot
                self._run(paragraph, words, size=8.5, bold=number == 0)
                if self.rtl:
                    self._turn(paragraph)
                if column >= texts:
                    # Word takes "right" for the end of the line in a paragraph that runs from right to left
                    side = WD_ALIGN_PARAGRAPH.LEFT if self.rtl else WD_ALIGN_PARAGRAPH.RIGHT
                    paragraph.alignment = side
        for column, width in zip(table.columns, widths, strict=True):
            column.width = width  # Word goes by the cells, LibreOffice by the columns
        return table

    def _run(
        self,
        paragraph: Any,
        words: str,
        *,
        size: float | None = None,
        colour: str | None = None,
        bold: bool = False,
        foreign: bool = False,
    ) -> None:
        from docx.oxml.ns import qn
        from docx.shared import Pt, RGBColor

        run = paragraph.add_run(words)
        run.bold = bold or None
        if size is not None:
            run.font.size = Pt(size)
        if colour is not None:
            run.font.color.rgb = RGBColor.from_string(colour)
        properties = run._r.get_or_add_rPr()
        if self.rtl and not foreign:
            run.font.rtl = True
            run.font.cs_bold = bold or None
            if size is not None:
                _child(properties, "w:szCs", val=str(round(2 * size)))
        language = _child(properties, "w:lang", val="en" if foreign else self.code)
        if self.rtl and not foreign:
            language.set(qn("w:bidi"), self.code)
        _in_order(properties)

    def _turn(self, paragraph: Any) -> None:
        _child(paragraph._p.get_or_add_pPr(), "w:bidi", after="w:pStyle")


def _widths(rows: Sequence[Sequence[str]], texts: int, width_mm: float) -> list[float]:
    """Millimetres of each column: numbers take what their words need, texts share the rest by their longest."""
    longest = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numbers = [min(max(2.2 * length + 4, 21.0), 36.0) for length in longest[texts:]]
    rest = width_mm - sum(numbers)
    words = [min(max(length, 18), 48) for length in longest[:texts]]
    return [*(rest * length / sum(words) for length in words), *numbers]


def _child(parent: Any, name: str, *, after: str = "", val: str | None = None) -> Any:
    """An element of WordprocessingML beneath another one: after a first one of some name, or at the end."""
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    child = OxmlElement(name)
    if val is not None:
        child.set(qn("w:val"), val)
    if after:
        parent.insert(int(len(parent) > 0 and parent[0].tag == qn(after)), child)
    else:
        parent.append(child)
    return child


def _in_order(properties: Any) -> None:
    """Bring a run's properties into the order that the standard asks for (ECMA-376, CT_RPr)."""
    from docx.oxml.ns import qn

    names = [qn(f"w:{name}") for name in _RUN_ORDER]
    children = sorted(
        properties, key=lambda child: names.index(child.tag) if child.tag in names else len(names)
    )
    for child in children:
        properties.append(child)  # moves it to the end


def _shade(cell: Any, colour: str) -> None:
    """Put a square in a class's colour before its name."""
    from docx.oxml.ns import qn
    from docx.shared import RGBColor

    paragraph = cell.paragraphs[0]
    run = paragraph.add_run("\u25a0 ")
    run.font.color.rgb = RGBColor.from_string(colour.removeprefix("#").upper())
    first = next(child for child in paragraph._p if child.tag == qn("w:r"))
    first.addprevious(run._r)


def _describe(document: "Document", content: Content) -> None:
    try:
        day = datetime.fromisoformat(content.created)
    except ValueError:
        day = datetime(2000, 1, 1, tzinfo=UTC)
    day = day.astimezone(UTC) if day.tzinfo else day.replace(tzinfo=UTC)
    about = document.core_properties
    about.title, about.author, about.language = content.title[:255], content.organisation[:255], content.code
    about.comments, about.subject = content.status[:255], content.kicker[:255]
    about.created = about.modified = day.replace(tzinfo=None)
    about.last_modified_by, about.revision = "", 1


def _same_bytes(data: bytes) -> bytes:
    """The archive with its members in order of their names and without the time of writing."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        names = sorted(old.namelist(), key=lambda name: (name != "[Content_Types].xml", name))
        for name in names:
            new.writestr(zipfile.ZipInfo(name, _ZIP_TIME), old.read(name), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
