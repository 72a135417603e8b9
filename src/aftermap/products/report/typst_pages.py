"""Sets a report as PDF with typst: two pages, the same bytes for the same report, no fonts of the system, no network."""

import functools
import json
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aftermap.errors import InputError, OutputError
from aftermap.products.overview import fonts_folder
from aftermap.products.report.content import Content
from aftermap.products.report.map_picture import Pictures

if TYPE_CHECKING:
    from typst import Fonts

Paper = Literal["a4", "letter"]
PAGES = 2
_PAPERS = {"a4": "a4", "letter": "us-letter"}
_SCALES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.74, 0.68)
_PAIR_FROM = 0.88
"""At smaller letters there is no room for the two images."""

_LONGEST_RUN = 24
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def pdf(content: Content, pictures: Pictures, *, paper: Paper = "a4") -> bytes:
    """The report as PDF.

    Args:
        content: what it says.
        pictures: the map and the two images.
        paper: its size.

    Raises:
        OutputError: typst cannot set it.
    """
    return bytes(_compiled(content, pictures, paper, "pdf", _timestamp(content.created))[0])


def page_pictures(
    content: Content, pictures: Pictures, *, paper: Paper = "a4", ppi: float = 110
) -> list[bytes]:
    """The pages as PNG."""
    return _compiled(content, pictures, paper, "png", _EPOCH, ppi=ppi)


def _compiled(
    content: Content, pictures: Pictures, paper: Paper, form: str, timestamp: datetime, **options: Any
) -> list[bytes]:
    import typst

    source = (resources.files("aftermap.products.report") / "report.typ").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="aftermap-") as name:
        folder = Path(name)
        (folder / "report.typ").write_text(source, encoding="utf-8")
        for stem, picture in asdict(pictures).items():
            if picture is not None:
                (folder / f"{stem}.jpg").write_bytes(picture)
        settings: dict[str, Any] = {"root": name, "font_paths": _fonts()}
        try:
            for scale in _SCALES:
                data = json.dumps(_data(content, paper, scale), ensure_ascii=False)
                (folder / "data.json").write_text(data, encoding="utf-8")
                found = typst.query(str(folder / "report.typ"), "<pages>", field="value", **settings)
                if json.loads(found)[0] <= PAGES:
                    break
                if content.area_rows and scale < 0.9:
                    content = replace(content, area_rows=content.area_rows[: len(content.area_rows) * 2 // 3])
            settings |= {"format": form, "timestamp": timestamp, **options}
            made: Any = typst.compile(
                str(folder / "report.typ"), **settings
            )  # a list where there are several files
        except typst.TypstError as error:
            raise OutputError(f"the report cannot be set as PDF: {error}") from None
    return made if isinstance(made, list) else [made]


def _data(content: Content, paper: Paper, scale: float) -> dict[str, Any]:
    """What the template reads; long words are given places to break."""
    tree: dict[str, Any] = asdict(content)
    letters = "DejaVu Sans"
    return {
        **{name: _breakable(value) for name, value in tree.items()},
        "scale": scale,
        "pair": scale > _PAIR_FROM,
        "paper": _PAPERS[paper],
        "fonts": [letters],
        "latin": [letters],
    }


def _breakable(value: Any) -> Any:
    """Texts whose runs without a space may break every so many letters."""
    if isinstance(value, str):
        return " ".join(
            word
            if len(word) <= _LONGEST_RUN
            else "\u200b".join(word[n : n + _LONGEST_RUN] for n in range(0, len(word), _LONGEST_RUN))
            for word in value.split(" ")
        )
    if isinstance(value, dict):
        return {key: _breakable(each) for key, each in value.items()}
    return [_breakable(each) for each in value] if isinstance(value, (list, tuple)) else value


@functools.cache
def _fonts() -> "Fonts":
    import typst

    folder = fonts_folder()
    if folder is None or not folder.is_dir():
        raise InputError("the letters of the report come with matplotlib, which is not installed: install it")
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(folder)])


def _timestamp(created: str) -> datetime:
    try:
        found = datetime.fromisoformat(created)
    except ValueError:
        return _EPOCH
    return found if found.tzinfo else found.replace(tzinfo=UTC)
