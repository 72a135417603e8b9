"""Writes the report of a finished map: `OUT/report/report-LANGUAGE.pdf`, `.html` and `.docx`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, get_args

import numpy as np

from aftermap.classes import DAMAGE, NOT_ASSESSED_COLOUR
from aftermap.errors import InputError, shown
from aftermap.extras import needs
from aftermap.files import make_folder, write_bytes
from aftermap.products.pictures import in_pixels
from aftermap.products.report.compose import compose
from aftermap.products.report.content import Content
from aftermap.products.report.facts import Facts
from aftermap.products.report.html_page import html_page
from aftermap.products.report.map_picture import Pictures, draw_map, read_page, small_picture
from aftermap.products.report.wording import Wording, wording
from aftermap.products.vectors import DAMAGE_VALUES
from aftermap.products.view import Kind, Objects
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.report.gather import read_areas, read_totals

Format = Literal["pdf", "html", "docx"]
Paper = Literal["a4", "letter"]
FORMATS: tuple[Format, ...] = get_args(Format)
FOLDER = "report"


class ReportOptions(TypedDict, total=False):
    """Keywords of `write_report`."""

    language: str
    title: str | None
    organisation: str
    credit: str
    paper: Paper
    formats: Sequence[str]


def write_report(
    folder: Path,
    *,
    language: str = "en",
    title: str | None = None,
    organisation: str = "",
    credit: str = "",
    paper: Paper = "a4",
    formats: Sequence[str] = FORMATS,
    to: Path | None = None,
) -> list[Path]:
    """Write the report of a finished map of damage.

    Args:
        folder: of the map.
        language: en, fr, es or ar.
        title: heading; by default that of the map's page.
        organisation: who hands it on.
        credit: credit and licence of the imagery.
        paper: a4 or letter.
        formats: some of pdf, html and docx.
        to: folder to write into; by default `report` in the map's.

    Returns:
        The files.

    Raises:
        InputError: there is no finished map of damage, no such language or format, or a file of the map cannot be used.
        MissingExtraError: the extra `report` is not installed.
        OutputError: the files cannot be written.
    """
    words = wording(language)
    wanted = _formats(formats)
    if paper not in get_args(Paper):
        raise InputError(f"no paper is called {shown(paper)}: expected one of {', '.join(get_args(Paper))}")
    if set(wanted) - {"html"}:
        needs("aftermap report as PDF or DOCX", "report")
    given = {"title": title, "organisation": organisation, "credit": credit}
    content, pictures = composed(folder, words, **{name: value or "" for name, value in given.items()})
    made = [(each, _set(each, content, pictures, paper)) for each in wanted]
    target = folder / FOLDER if to is None else to
    make_folder(target)
    return [write_bytes(target / f"report-{words.code}.{ending}", data) for ending, data in made]


def composed(
    folder: Path, words: Wording, *, title: str = "", organisation: str = "", credit: str = ""
) -> tuple[Content, Pictures]:
    """What the report of a map says in a language, and its pictures; see `write_report`."""
    map_ = open_map(folder)
    page = read_page(folder / "map.html")
    facts = facts_of(
        map_, title or page.title or folder.resolve().name, organisation=organisation, credit=credit
    )
    try:
        content = compose(facts, words)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"summary.json or provenance.json of {folder} cannot be used: {error!r}") from None
    pictures = Pictures(
        map=draw_map(page.after, *_objects(map_), map_.grid),
        before=small_picture(page.before),
        after=small_picture(page.after),
    )
    return content, pictures


def facts_of(map_: FinishedMap, title: str, *, organisation: str = "", credit: str = "") -> Facts:
    """What is known of a map, with what its folder holds of samples and areas."""
    return Facts(
        title=title,
        summary=map_.summary,
        provenance=map_.provenance,
        organisation=organisation,
        credit=credit,
        totals=read_totals(map_.folder),
        areas=read_areas(map_.folder),
    )


def _set(form: Format, content: Content, pictures: Pictures, paper: Paper) -> bytes:
    if form == "html":
        return html_page(content, pictures).encode()
    if form == "pdf":
        from aftermap.products.report.typst_pages import pdf

        return pdf(content, pictures, paper=paper)
    from aftermap.products.report.docx_file import docx

    return docx(content, pictures, paper=paper)


def _formats(formats: Sequence[str]) -> list[Format]:
    found: list[Format] = [each for each in FORMATS if each in formats]
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not found:
        asked = shown(unknown[0]) if unknown else "nothing"
        raise InputError(f"no report is written as {asked}: expected some of {', '.join(FORMATS)}")
    return found


def _objects(map_: FinishedMap) -> tuple[Objects, tuple[Kind, ...]]:
    """The buildings as a picture draws them, those without damage first."""
    colours = (*DAMAGE.colours[1:], NOT_ASSESSED_COLOUR)
    kinds = tuple(
        Kind(name, name, colour, "", None) for name, colour in zip(DAMAGE_VALUES, colours, strict=True)
    )
    numbers = np.array([DAMAGE_VALUES.index(name) for name in map_.buildings["damage"]], np.int64)
    outlines = in_pixels(map_.buildings, map_.grid)
    return Objects(map_.buildings, outlines, numbers, on=1), kinds
