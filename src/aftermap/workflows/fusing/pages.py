"""The pages of a fused map: its classes, and where the sources differ."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np

from aftermap.classes import NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.products.overview import draw_overview
from aftermap.products.page.page import write_page
from aftermap.products.page.stored import page_or_ground
from aftermap.products.pictures import in_pixels
from aftermap.products.vectors import DAMAGE_LAYER, ONE_DATE_LAYER, normalise
from aftermap.products.view import Kind, Objects, View, damage_view, describe_size, one_date_view
from aftermap.wording import counted
from aftermap.workflows.mapping.finished import FinishedMap

_LEVELS = (
    ("agreed", "All say the same", "#3a9d5d"),
    ("minority", "A minority differs", "#e9b44c"),
    ("majority", "Half or more differ", "#d1495b"),
    ("alone", "One source alone", "#5b8fb9"),
    (NOT_ASSESSED, "No source", NOT_ASSESSED_COLOUR),
)


def write_pages(
    base: FinishedMap,
    folder: Path,
    frame: geopandas.GeoDataFrame,
    summary: dict[str, Any],
    notes: Sequence[str],
    title: str,
) -> None:
    """Write `map.html`, `disagreement.html` and `overview.png` over the pictures of the first map.

    Args:
        base: the first map.
        folder: where to write.
        frame: the fused table.
        summary: of it.
        notes: what is told of the sources.
        title: of the pages.

    Raises:
        OutputError: they cannot be written.
    """
    grid = base.grid
    stored = page_or_ground(base.folder / "map.html", width=grid.width, height=grid.height)
    first, second = stored.pictures
    is_pair = base.one_date is None
    viewed, layer = (damage_view, DAMAGE_LAYER) if is_pair else (one_date_view, ONE_DATE_LAYER)
    view = viewed(frame, first, second, grid, summary)
    about = (*(f"{note[:1].upper()}{note[1:]}." for note in notes), describe_size(grid))
    options: dict[str, Any] = {"model": "fused", "warnings": stored.warnings, "stored": stored}
    write_page(folder / "map.html", _with_about(view, about), grid, title=title, **options)
    if all(stored.tiles):
        shown = replace(view, pictures=stored.decoded())
        draw_overview(folder / "overview.png", shown, grid, title=title, warnings=stored.warnings)
    level = _level(frame, frame["sources"].to_numpy(int))
    counts = np.bincount(level, minlength=len(_LEVELS)).tolist()
    compared = sum(counts[:3])
    kinds = tuple(
        Kind(
            name,
            words,
            colour,
            f"{amount:,}",
            amount / compared if compared and number < 3 else None,
            assessed=name != NOT_ASSESSED,
        )
        for number, ((name, words, colour), amount) in enumerate(zip(_LEVELS, counts, strict=True))
    )
    differ = View(
        heading="Where the sources differ",
        headline=(
            f"{counts[1] + counts[2]:,}",
            f" of {counted(compared, 'building of several sources is', 'buildings of several sources are')} in dispute",
        ),
        pictures=(first, second),
        mode="swipe" if is_pair else "pre",
        kinds=kinds,
        about=about,
        objects=Objects(normalise(frame, layer), in_pixels(frame, grid), level, on=1 if is_pair else 0),
    )
    write_page(folder / "disagreement.html", differ, grid, title=f"{title}: where sources differ", **options)


def _with_about(view: View, about: tuple[str, ...]) -> View:
    return replace(view, about=(*view.about[:-1], *about))


def _level(frame: geopandas.GeoDataFrame, speaks: np.ndarray) -> np.ndarray:
    share = frame["disagreement"].to_numpy(float)
    level = np.where(share > 0, np.where(share >= 0.5, 2, 1), 0)
    level = np.where(speaks == 1, 3, level)
    return np.where(speaks == 0, 4, level)
