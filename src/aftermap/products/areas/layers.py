"""Writes a map by areas: GeoPackage and GeoJSON in colours, CSV, a page and a picture."""

import tempfile
from pathlib import Path

import geopandas

from aftermap.files import write_json, writing
from aftermap.files.whole import PREFIX, sync_path
from aftermap.products.areas.page import write_area_page
from aftermap.products.areas.subject import REDS, Subject
from aftermap.products.styles import Entry, Style, style_layer
from aftermap.products.vectors import write_layer

AREA_STYLE = Style(
    "damaged share",
    "damaged_share",
    (
        Entry("up to 10 % damaged", REDS[0], above=0.0, below=0.1),
        Entry("10 to 25 % damaged", REDS[1], above=0.1, below=0.25),
        Entry("25 to 50 % damaged", REDS[2], above=0.25, below=0.5),
        Entry("50 to 75 % damaged", REDS[3], above=0.5, below=0.75),
        Entry("over 75 % damaged", REDS[4], above=0.75, below=1.0),
    ),
)
"""By the share of assessed buildings that are damaged; areas without an assessed building have no colour."""


def write_area_layers(subject: Subject, folder: Path, *, identity: str) -> list[Path]:
    """Write `NAME.gpkg`, `.geojson`, `.qml`, `.csv`, `.html`, `.png` and `.json` into a folder, once all are finished.

    Args:
        subject: what is drawn.
        folder: where to write.
        identity: of the map that was counted; `NAME.json` holds it.

    Raises:
        OutputError: they cannot be written; older ones stay.
    """
    with writing(folder), tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder) as beside:
        parts = _write(subject, Path(beside))
        about = {"format": 1, "name": subject.name, "title": subject.title, "map": identity}
        parts.append(write_json(Path(beside) / f"{subject.name}.json", about))
        for part in parts:
            sync_path(part)
        return [part.replace(folder / part.name) for part in parts]


def _write(subject: Subject, folder: Path) -> list[Path]:
    from aftermap.products.figures.areas_figure import draw_areas

    frame = subject.frame
    files = write_layer(_closed(frame), folder, subject.name)
    style_layer(folder, subject.name, AREA_STYLE, list(frame.columns))
    page = write_area_page(folder / f"{subject.name}.html", subject)
    picture = draw_areas(folder / f"{subject.name}.png", subject)
    return [*files, folder / f"{subject.name}.qml", page, picture]


def _closed(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """With the geometry last, as our other layers have it."""
    others = [name for name in frame.columns if name != frame.geometry.name]
    return frame[[*others, frame.geometry.name]]
