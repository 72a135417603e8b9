"""From finished rows on disk to the layers of a map: rasters, and buildings with what their pixels say."""

from collections.abc import Callable, Sequence
from pathlib import Path

import geopandas
import numpy as np
from shapely.geometry.base import BaseGeometry

from aftermap.classes import DAMAGE, IGNORE
from aftermap.geo.grid import Grid, Window
from aftermap.geo.polygons import from_pixels
from aftermap.inference.buildings import Evidence, Painter, trace_rows
from aftermap.inference.postprocess import (
    SCALE,
    Decision,
    damage_classes,
    spread_minor_rows,
    to_bytes,
)
from aftermap.inference.tiling import Band
from aftermap.products.cog import RasterWriter, damage_colormap
from aftermap.workflows.mapping.work import Rows, WorkFolder

MIN_BUILDING_PX = 20.0
"""The smallest shape where the imagery has no georeference."""

SIMPLIFY_PX = 1.0
SIMPLIFY_M = 0.3
"""How far an outline may move to become regular: the larger of the two."""

PARTING_DEPTH_PX = 3.0
PARTING_DEPTH_M = 0.5
"""How deep the saddle between two touching houses must be: the larger of the two (see `inference.parting`)."""


_ROWS_AT_ONCE = 64  # of a band, so that copies of it stay small


def store(work: WorkFolder, band: Band, painter: Painter | None, decision: Decision) -> None:
    """Keep a band: its classes and probabilities, and what it says about the user's footprints."""
    height, width = band.missing.shape
    arrays = {
        "damage": np.empty((height, width), np.uint8),
        "probabilities": np.empty((len(DAMAGE), height, width), np.uint8),
        "missing": band.missing,
    }
    for start in range(0, height, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        probabilities, missing = band.probabilities[:, part], band.missing[part]
        arrays["damage"][part] = damage_classes(probabilities, missing, decision)
        arrays["probabilities"][:, part] = to_bytes(probabilities, missing)
    if painter is not None:
        arrays |= paint_known(painter, band, Evidence)
    work.add(band.row, band.stop, arrays)


def write_rasters(rows: Sequence[Rows], grid: Grid, folder: Path, decision: Decision) -> None:
    """Write `damage.tif` and `probabilities.tif`.

    Minor damage spreads in the first, as `decision` says; the buildings' classes, which come from the probabilities
    of all their pixels, do not change by it. Probabilities are stored as `round(254 p)` with the scale in the file,
    255 where nothing was assessed.
    """
    with RasterWriter(
        folder / "damage.tif",
        grid,
        count=1,
        dtype="uint8",
        nodata=IGNORE,
        colormap=damage_colormap(),
        descriptions=("damage",),
    ) as damage:
        row = rows[0].start if rows else 0
        for band in spread_minor_rows((part.load("damage")[0] for part in rows), decision.minor_dilation):
            damage.write(Window(row, 0, len(band), grid.width), band)
            row += len(band)
    with RasterWriter(
        folder / "probabilities.tif",
        grid,
        count=len(DAMAGE),
        dtype="uint8",
        nodata=IGNORE,
        descriptions=DAMAGE.names,
        scale=1 / SCALE,
    ) as probabilities:
        for part in rows:
            window = Window(part.start, 0, part.stop - part.start, grid.width)
            probabilities.write(window, part.load("probabilities")[0])


def damage_strength(rows: Rows) -> np.ndarray:
    """What the damage of finished rows says to `trace_rows`: 0 off buildings, 1 + 254 p(building) on them."""
    damage, probabilities = rows.load("damage", "probabilities")
    strength: np.ndarray = np.where(
        (damage != 0) & (damage != IGNORE), np.uint8(IGNORE) - probabilities[0], 0
    )
    return strength


def trace_buildings(
    rows: Sequence[Rows],
    grid: Grid,
    strength: Callable[[Rows], np.ndarray],
    evidence_of: Callable[[int], Evidence],
    *,
    min_area_m2: float,
    part: bool,
) -> tuple[geopandas.GeoDataFrame, list[BaseGeometry], Evidence]:
    """Outline the buildings that the model found, and gather what their pixels say.

    Args:
        rows: finished rows with `probabilities` and `missing`.
        grid: the scene.
        strength: of rows, as `inference.buildings.trace_rows` takes it.
        evidence_of: makes evidence of a number of buildings.
        min_area_m2: smaller shapes are dropped.
        part: tell touching houses apart.

    Returns:
        `building_id` and geometry in the grid's reference system, the same in pixel coordinates, and the
        evidence.
    """
    resolution = grid.resolution_m
    least, tolerance, depth = MIN_BUILDING_PX, SIMPLIFY_PX, PARTING_DEPTH_PX
    if resolution is not None:
        least = max(min_area_m2 / resolution**2, 4.0)
        tolerance, depth = max(tolerance, SIMPLIFY_M / resolution), max(depth, PARTING_DEPTH_M / resolution)
    bands = ((each.start, strength(each)) for each in rows)
    polygons: list[BaseGeometry] = list(
        trace_rows(
            bands, grid, min_area_px=least, simplify_px=tolerance, part_depth_px=depth if part else None
        )
    )
    # rounded, so that buildings in one row are not numbered by the last digit of their place
    polygons.sort(key=lambda polygon: (round(polygon.bounds[1], 6), round(polygon.bounds[0], 6)))
    painter, evidence = Painter(polygons, grid.width), evidence_of(len(polygons))
    for each in rows:
        stored, missing = each.load("probabilities", "missing")
        painted = paint(painter, each.start, stored, missing, evidence_of)
        evidence.merge(*painted.sparse())
    frame = geopandas.GeoDataFrame(
        {"building_id": [str(number) for number in range(1, len(polygons) + 1)]},
        geometry=[from_pixels(polygon, grid) for polygon in polygons],
        crs=grid.crs.to_wkt() if grid.crs is not None else None,
    )
    return frame, polygons, evidence


def gather(rows: Sequence[Rows], evidence: Evidence) -> Evidence:
    """Add up what was stored about the user's footprints."""
    for part in rows:
        evidence.merge(*part.load("buildings", "levels", "pixels"))
    return evidence


def paint(
    painter: Painter,
    row: int,
    probabilities: np.ndarray,
    missing: np.ndarray,
    evidence_of: Callable[[int], Evidence],
) -> Evidence:
    """What some rows say of all buildings."""
    evidence = evidence_of(painter.count)
    for labels in painter.paint(row, missing.shape[0]):
        evidence.add(labels, probabilities, missing)
    return evidence


def paint_known(
    painter: Painter, band: Band, evidence_of: Callable[[int], Evidence]
) -> dict[str, np.ndarray]:
    """What a band says of the user's footprints, to be stored with it.

    From the exact probabilities: where the model sees no building, 8 bits leave nothing to compare.
    """
    evidence = paint(painter, band.row, band.probabilities, band.missing, evidence_of)
    return dict(zip(("buildings", "levels", "pixels"), evidence.sparse(), strict=True))
