"""Writes the report of a finished map: `OUT/report/report-LANGUAGE.pdf`, `.html`, `.docx`, and `map-LANGUAGE.pdf`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from PIL import Image

from aftermap.classes import NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.errors import InputError, shown
from aftermap.extras import needs
from aftermap.files import make_folder, write_bytes
from aftermap.geo.grid import Grid
from aftermap.products.page.stored import read_page
from aftermap.products.pictures import in_pixels
from aftermap.products.report.compose import compose
from aftermap.products.report.content import Content
from aftermap.products.report.facts import Facts
from aftermap.products.report.html_page import html_page
from aftermap.products.report.map_picture import GROUND, Pictures, draw_map, small_picture
from aftermap.products.report.wording import Wording, wording
from aftermap.products.view import Kind, Objects
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.mapping.inputs.imagery import credit_of
from aftermap.workflows.report.gather import read_areas, read_totals

Format = Literal["pdf", "html", "docx", "geopdf"]
Paper = Literal["a4", "letter"]
FORMATS: tuple[Format, ...] = get_args(Format)
USUAL: tuple[Format, ...] = ("pdf", "html", "docx")
"""What is written where nothing is asked for."""

_NAMES: dict[Format, str] = {
    "pdf": "report-{}.pdf",
    "html": "report-{}.html",
    "docx": "report-{}.docx",
    "geopdf": "map-{}.pdf",
}
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
    formats: Sequence[str] = USUAL,
    to: Path | None = None,
) -> list[Path]:
    """Write the report of a finished map of damage.

    Args:
        folder: of the map.
        language: en, fr, es or ar.
        title: heading; by default that of the map's page.
        organisation: who hands it on.
        credit: credit and licence of the imagery; by default what a catalogue says of them.
        paper: a4 or letter.
        formats: some of pdf, html, docx and geopdf, the map alone on its ground.
        to: folder to write into; by default `report` in the map's.

    Returns:
        The files.

    Raises:
        InputError: there is no finished map of damage, no such language or format, or a file of the map cannot be used.
        GeoreferenceError: a GeoPDF is asked for of a map in pixels.
        MissingExtraError: the extra `report` is not installed.
        OutputError: the files cannot be written.
    """
    words = wording(language)
    wanted = _formats(formats)
    if paper not in get_args(Paper):
        raise InputError(f"no paper is called {shown(paper)}: expected one of {', '.join(get_args(Paper))}")
    if set(wanted) & {"pdf", "docx"}:
        needs("aftermap report as PDF or DOCX", "report")
    given = {"title": title, "organisation": organisation, "credit": credit}
    ready = composed(folder, words, **{name: value or "" for name, value in given.items()})
    made = [(_NAMES[each].format(words.code), _set(each, ready, paper)) for each in wanted]
    target = folder / FOLDER if to is None else to
    make_folder(target)
    return [write_bytes(target / name, data) for name, data in made]


@dataclass(frozen=True)
class Composed:
    """A report before it is set.

    Attributes:
        content: what it says.
        pictures: of it.
        after: the image after the event, of the whole grid.
        objects: the buildings, with outlines in pixels of the grid.
        kinds: the legend of the pictures.
        grid: the grid that was mapped.
    """

    content: Content
    pictures: Pictures
    after: Image.Image
    objects: Objects
    kinds: tuple[Kind, ...]
    grid: Grid


def composed(
    folder: Path, words: Wording, *, title: str = "", organisation: str = "", credit: str = ""
) -> Composed:
    """What the report of a map says in a language, and its pictures; see `write_report`."""
    map_ = open_map(folder, also=("post-only",))
    page = read_page(folder / "map.html")
    # the first picture of a map of one date is its image, the second the model's probability
    after = page.image(0 if map_.one_date else 1, GROUND)
    before = None if map_.one_date else page.image(0, GROUND)
    named = title or page.title or folder.resolve().name
    try:
        facts = facts_of(map_, named, organisation=organisation, credit=credit)
        content = compose(facts, words)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"summary.json or provenance.json of {folder} cannot be used: {error!r}") from None
    objects, kinds = _objects(map_)
    pictures = Pictures(
        map=draw_map(after, objects, kinds, map_.grid),
        before=None if before is None else small_picture(before),
        after=small_picture(after),
    )
    return Composed(content, pictures, after, objects, kinds, map_.grid)


def facts_of(map_: FinishedMap, title: str, *, organisation: str = "", credit: str = "") -> Facts:
    """What is known of a map, with what its folder holds of samples and areas."""
    return Facts(
        title=title,
        summary=map_.summary,
        provenance=map_.provenance,
        organisation=organisation,
        credit=credit or credit_of(_imagery(map_.provenance)),
        totals=read_totals(map_.folder, map_.summary, map_.identity),
        areas=read_areas(map_.folder, map_.summary, map_.identity),
    )


def _imagery(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What catalogues say of the images of a map."""
    described = [provenance["inputs"].get(name) or {} for name in ("pre", "post")]
    return [each["imagery"] for each in described if isinstance(each.get("imagery"), dict)]


def _set(form: Format, ready: Composed, paper: Paper) -> bytes:
    if form == "html":
        return html_page(ready.content, ready.pictures).encode()
    if form == "pdf":
        from aftermap.products.report.typst_pages import pdf

        return pdf(ready.content, ready.pictures, paper=paper)
    if form == "geopdf":
        from aftermap.products.report.geopdf import geopdf

        return geopdf(ready.content, ready.after, ready.objects, ready.kinds, ready.grid)
    from aftermap.products.report.docx_file import docx

    return docx(ready.content, ready.pictures, paper=paper)


def _formats(formats: Sequence[str]) -> list[Format]:
    found: list[Format] = [each for each in FORMATS if each in formats]
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not found:
        asked = shown(unknown[0]) if unknown else "nothing"
        raise InputError(f"no report is written as {asked}: expected some of {', '.join(FORMATS)}")
    return found


def _objects(map_: FinishedMap) -> tuple[Objects, tuple[Kind, ...]]:
    """The buildings as a picture draws them, those without damage first."""
    names = (*map_.scheme.names[1:], NOT_ASSESSED)
    colours = (*map_.scheme.colours[1:], NOT_ASSESSED_COLOUR)
    kinds = tuple(Kind(name, name, colour, "", None) for name, colour in zip(names, colours, strict=True))
    numbers = np.array([names.index(name) for name in map_.buildings["damage"]], np.int64)
    outlines = in_pixels(map_.buildings, map_.grid)
    return Objects(map_.buildings, outlines, numbers, on=1), kinds
