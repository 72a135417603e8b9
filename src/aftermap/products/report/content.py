"""What a report holds, in one language, before it is set: the same for PDF, HTML and DOCX. All of it is plain text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassRow:
    """A row of the table of classes: colour, name, what it looks like, and cells that are numbers."""

    colour: str
    name: str
    meaning: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A heading with sentences under it; `foreign` is quoted as it is, in English."""

    heading: str
    sentences: tuple[str, ...]
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """A report, ready to be set; see the fields of `compose`."""

    code: str
    rtl: bool
    title: str
    organisation: str
    kicker: str
    status: str
    created: str
    """When the map was made (ISO 8601): the date that files give as their own."""
    made_on: str
    facts: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, str, str, str], ...]
    """(number, what it counts, of how many, colour) of the figures at the top."""
    estimate: str
    bar: tuple[tuple[str, float], ...]
    """(colour, share) of each class among the assessed buildings."""
    class_headings: tuple[str, ...]
    class_rows: tuple[ClassRow, ...]
    class_notes: tuple[str, ...]
    map_heading: str
    map_caption: str
    legend: tuple[tuple[str, str], ...]
    legend_heading: str
    pair_heading: str
    pair_captions: tuple[str, ...]
    """Of the image before and the one after, or of the one after alone."""
    area_heading: str
    area_headings: tuple[str, ...]
    area_rows: tuple[tuple[str, ...], ...]
    area_note: str
    area_texts: int
    """How many of the first columns are texts; the others are numbers."""
    sections: tuple[Section, ...]
    sources_heading: str
    sources: tuple[tuple[str, str], ...]
    page: str
