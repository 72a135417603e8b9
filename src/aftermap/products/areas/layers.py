"""Writes a map by areas: GeoPackage and GeoJSON in colours, CSV, a page and a picture."""

import tempfile
from pathlib import Path

import geopandas

from aftermap.files import write_json, writing
from aftermap.files.whole import PREFIX, sync_path
from aftermap.products.areas.page import write_area_page
from aftermap.products.areas.subject import BLUES, REDS, Subject, worst_of
from aftermap.products.styles import Entry, Style, style_layer
from aftermap.products.vectors import write_layer


def _by_share(worst: str) -> Style:
    """By the share of assessed buildings that are damaged (destroyed); areas without an assessed one have no colour."""
    return Style(
        f"{worst} share",
        f"{worst}_share",
        (
            Entry(f"up to 10 % {worst}", REDS[0], above=0.0, below=0.1),
            Entry(f"10 to 25 % {worst}", REDS[1], above=0.1, below=0.25),
            Entry(f"25 to 50 % {worst}", REDS[2], above=0.25, below=0.5),
            Entry(f"50 to 75 % {worst}", REDS[3], above=0.5, below=0.75),
            Entry(f"over 75 % {worst}", REDS[4], above=0.75, below=1.0),
        ),
    )


AREA_STYLE = _by_share("damaged")


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
    style_layer(folder, subject.name, _style(subject), list(frame.columns))
    page = write_area_page(folder / f"{subject.name}.html", subject)
    picture = draw_areas(folder / f"{subject.name}.png", subject)
    return [*files, folder / f"{subject.name}.qml", page, picture]


def _style(subject: Subject) -> Style:
    worst = worst_of(subject.frame)
    if worst is not None:
        return _by_share(worst)
    steps = subject.metrics[0].steps[1:]  # buildings; what is above nothing
    lows = [0.0, *(step.most for step in steps)]
    entries = [
        Entry(f"{step.label} buildings", step.colour, above=low, below=step.most)
        for low, step in zip(lows, steps, strict=False)
    ]
    return Style(
        "buildings", "buildings", tuple(entries) or (Entry("buildings", BLUES[0], above=0.0, below=1.0),)
    )


def _closed(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """With the geometry last, as our other layers have it."""
    others = [name for name in frame.columns if name != frame.geometry.name]
    return frame[[*others, frame.geometry.name]]
