"""Areas as a layer of the map's own page: the same colours and numbers, between its pictures and its buildings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS, Transformer

from aftermap.files import to_plain
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import to_pixels
from aftermap.products.areas.subject import UNKNOWN_COLOUR, Subject
from aftermap.products.page.page import with_areas
from aftermap.products.page.stored import StoredPage

_BEYOND = 0.02
"""How far outlines reach beyond the map, in sides of it, so that no border is drawn along its edge."""

_PARTS = 24
"""Of an edge that bends between reference systems."""


def put_on_page(page: StoredPage, subjects: Sequence[Subject], grid: Grid) -> Path:
    """Write the page with these areas among its layers, in one step; those of other names stay.

    Args:
        page: of the map, as it is.
        subjects: what is drawn.
        grid: of the map.

    Raises:
        OutputError: it cannot be written.
    """
    names = {subject.name for subject in subjects}
    kept = [each for each in page.data.get("areas") or () if each.get("name") not in names]
    across, down = page.data["grid"]["stretch"]
    added = [area_layer(subject, grid, (across, down)) for subject in subjects]
    return with_areas(page, [*kept, *added])


def area_layer(subject: Subject, grid: Grid, stretch: tuple[float, float] = (1.0, 1.0)) -> dict[str, Any]:
    """A map by areas as its page holds it: outlines, and the step of each area by each number.

    Args:
        subject: what is drawn.
        grid: of the map.
        stretch: of its pixels to the page's units, across and down.
    """
    frame = subject.frame
    shapes = _in_pixels(subject, grid)
    drawn = [row for row, shape in enumerate(shapes) if shape is not None and not shape.is_empty]
    names = [
        str(frame["area_id"].iloc[row])
        if "name" not in frame.columns or frame["name"].iloc[row] is None
        else f"{frame['name'].iloc[row]} ({frame['area_id'].iloc[row]})"
        for row in drawn
    ]
    metrics = []
    for metric in subject.metrics:
        values = frame[metric.column].to_numpy(float)[drawn]
        metrics.append(
            {
                "label": metric.label,
                "unit": metric.unit,
                "unknown": metric.unknown,
                "steps": [{"colour": step.colour, "label": step.label} for step in metric.steps],
                "step": metric.step_of(values).tolist(),
                "values": [None if not np.isfinite(value) else round(float(value), 4) for value in values],
            }
        )
    layer: dict[str, Any] = to_plain(
        {
            "name": subject.name,
            "title": subject.title,
            "unknown": UNKNOWN_COLOUR,
            "names": names,
            "paths": [_rings(shapes[row], stretch) for row in drawn],
            "metrics": metrics,
        }
    )
    return layer


def _in_pixels(subject: Subject, grid: Grid) -> list[Any]:
    """Outlines in pixels of the map, cut a little beyond its edge; None where there is nothing of an area."""
    assert grid.crs is not None
    with transforming():
        there = Transformer.from_crs(CRS(subject.frame.crs), CRS.from_wkt(grid.crs.to_wkt()), always_xy=True)
    margin = _BEYOND * max(grid.width, grid.height)
    cut = shapely.box(-margin, -margin, grid.width + margin, grid.height + margin)
    found: list[Any] = []
    for shape in subject.frame.geometry.to_numpy():
        if shape is None or shape.is_empty:
            found.append(None)
            continue
        west, south, east, north = shape.bounds
        fine = shapely.segmentize(shape, max(east - west, north - south, 1e-9) / _PARTS)
        flat = shapely.transform(fine, there.transform, interleaved=False)
        pixels = shapely.make_valid(shapely.simplify(to_pixels(flat, grid), 0.25))
        part = shapely.intersection(pixels, cut)
        found.append(part if shapely.intersects(part, shapely.box(0, 0, grid.width, grid.height)) else None)
    return found


def _rings(shape: Any, stretch: tuple[float, float]) -> list[list[float]]:
    """Rings as x, y, x, y, ... without their closing points, to a tenth."""
    rings = [
        ring
        for part in shapely.get_parts(shape)
        if part.geom_type == "Polygon"
        for ring in (part.exterior, *part.interiors)
    ]
    return [np.round(np.asarray(ring.coords)[:-1] * stretch, 1).ravel().tolist() for ring in rings]
