"""The files of a map that learning rewrites, and the originals, which it keeps.

    OUT/learnt/record.json    what was learnt from how many answers
    OUT/learnt/original/      the files as the map's model left them

The folder is exchanged as a whole, so a kill leaves the old files or the new ones.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas

from aftermap.errors import InputError
from aftermap.files import Claim, read_json, replacing_folder, work_path, write_json
from aftermap.products.overview import draw_overview
from aftermap.products.page.page import rewrite_page
from aftermap.products.page.stored import read_page
from aftermap.products.styles import DAMAGE_STYLE, style_layer
from aftermap.products.vectors import LAYER, write_buildings
from aftermap.products.view import damage_view
from aftermap.workflows.mapping.finished import FinishedMap, tell_stale
from aftermap.workflows.mapping.work import MARKER

FOLDER = "learnt"
RECORD = "record.json"
ORIGINAL = "original"
REWRITTEN = (
    *(f"{LAYER}.{ending}" for ending in ("gpkg", "geojson", "csv", "qml")),
    *("summary.json", "map.html", "overview.png", MARKER),
)


def original_folder(folder: Path) -> Path:
    """Where the files of a map lie as its model left them."""
    kept = folder / FOLDER / ORIGINAL
    return kept if (folder / FOLDER / RECORD).is_file() else folder


def rewrite(
    now: FinishedMap,
    frame: geopandas.GeoDataFrame,
    summary: dict[str, Any],
    told: str,
    record: dict[str, Any],
) -> None:
    """Give a map another table, with everything that shows it.

    Args:
        now: the map.
        frame: the table.
        summary: of it.
        told: of where the classes come from, a sentence for the page.
        record: of what was learnt.

    Raises:
        OutputError: nothing can be written there.
    """
    source = original_folder(now.folder)
    with _exchanged(now.folder) as part:
        originals = part / FOLDER / ORIGINAL
        originals.mkdir(parents=True)
        for name in _there(source):
            _copy(source / name, originals / name)
        write_buildings(frame, part)
        style_layer(part, LAYER, DAMAGE_STYLE, list(frame.columns))
        write_json(part / "summary.json", summary)
        if (source / "map.html").is_file():
            page = read_page(source / "map.html")
            view = damage_view(frame, *page.decoded(), now.grid, summary)
            view = replace(view, about=(told, *view.about))
            rewrite_page(part / "map.html", page, view)
            draw_overview(part / "overview.png", view, now.grid, title=page.title, warnings=page.warnings)
        report = read_json(source / MARKER)
        if isinstance(report.get("files"), list):  # so that `map --overwrite` takes what was learnt away
            report["files"] = sorted({*map(str, report["files"]), *_there(part), FOLDER})
        write_json(part / MARKER, report | {"learnt": record})
        write_json(part / FOLDER / RECORD, record)
    tell_stale(now.folder, frame)


def bring_back(folder: Path) -> None:
    """Put the originals back in place, byte for byte, and forget what was learnt.

    Raises:
        InputError: nothing was learnt there.
        OutputError: nothing can be written there.
    """
    if not (folder / FOLDER / RECORD).is_file():
        raise InputError(f"{folder}: nothing was learnt here, so there is nothing to undo")
    originals = original_folder(folder)
    with _exchanged(folder) as part:
        for name in _there(originals):
            _copy(originals / name, part / name)


@contextmanager
def _exchanged(folder: Path) -> Iterator[Path]:
    """A folder that takes the place of a map's rewritten files and of what was learnt; one process at a time."""
    claimed = work_path(folder).with_suffix(".learning")
    with Claim(claimed):
        try:
            with replacing_folder(folder, ours=(*REWRITTEN, FOLDER)) as part:
                yield part
        finally:
            shutil.rmtree(claimed, ignore_errors=True)


def _there(folder: Path) -> list[str]:
    return [name for name in REWRITTEN if (folder / name).is_file()]


def _copy(source: Path, target: Path) -> None:
    """The same file under another name, linked where the file system can: files of ours are never written into."""
    try:
        os.link(source, target)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target)
