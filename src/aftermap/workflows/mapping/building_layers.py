"""The layers of a single date's map: the rasters `classes.tif` and `building.tif`, and what finished rows hold."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aftermap.classes import BUILDING, IGNORE
from aftermap.geo.grid import Grid, Window
from aftermap.inference.buildings import Painter
from aftermap.inference.postprocess import SCALE, Decision
from aftermap.inference.presence import PresenceEvidence
from aftermap.inference.tiling import Band
from aftermap.products.cog import RasterWriter, building_colormap, probability_colormap
from aftermap.workflows.mapping.inputs import thinned
from aftermap.workflows.mapping.layers import paint_known
from aftermap.workflows.mapping.work import Rows, WorkFolder


def store_presence(work: WorkFolder, band: Band, painter: Painter | None, decision: Decision) -> None:
    """Keep a band: its classes, p(building) in 8 bits, and what it says about the user's footprints."""
    seen = band.missing == 0
    classes = np.full(seen.shape, IGNORE, np.uint8)
    stored = np.full((1, *seen.shape), IGNORE, np.uint8)
    if len(band.probabilities):
        classes[seen] = decision.classify(band.probabilities)[0][seen]
        building = np.clip(band.probabilities[1], 0, 1)
        stored[0][seen] = np.rint(building * np.float32(SCALE)).astype(np.uint8)[seen]
    arrays = {"classes": classes, "probabilities": stored, "missing": band.missing}
    if painter is not None:
        arrays |= paint_known(painter, band, PresenceEvidence)
    work.add(band.row, band.stop, arrays)


def write_presence_rasters(rows: Sequence[Rows], grid: Grid, folder: Path) -> None:
    """Write `classes.tif` (0 background, 1 building, 255 not seen) and `building.tif`.

    The second holds p(building) as `round(254 p)` with the scale in the file, 255 where nothing was seen.
    """
    files = (
        ("classes.tif", "classes", building_colormap(), BUILDING.name, None),
        ("building.tif", "probabilities", probability_colormap(SCALE), "p(building)", 1 / SCALE),
    )
    for name, array, colours, description, scale in files:
        with RasterWriter(
            folder / name,
            grid,
            count=1,
            dtype="uint8",
            nodata=IGNORE,
            colormap=colours,
            descriptions=(description,),
            scale=scale,
        ) as raster:
            for each in rows:
                window = Window(each.start, 0, each.stop - each.start, grid.width)
                raster.write(window, each.load(array)[0])


def presence_strength(rows: Rows) -> np.ndarray:
    """What finished rows say to `trace_rows`: 0 off buildings, 1 + 254 p(building) on them."""
    classes, probabilities = rows.load("classes", "probabilities")
    strength: np.ndarray = np.where(classes == 1, probabilities[0] + np.uint8(1), np.uint8(0))
    return strength


def thinned_probability(rows: Sequence[Rows], grid: Grid, pixels: int) -> np.ndarray:
    """p(building) as stored, uint8 (H, W), of every so many pixels, on the grid that `thinned` makes of the map's."""
    return thinned_rows(rows, "probabilities", grid, pixels)


def thinned_rows(rows: Sequence[Rows], name: str, grid: Grid, pixels: int) -> np.ndarray:
    """A stored array uint8 (H, W) of every so many pixels, on the grid that `thinned` makes of the map's.

    Args:
        rows: finished rows; those that are not there give IGNORE.
        name: of the array, (h, W) or (1, h, W).
        grid: of the map.
        pixels: about how many there may be.
    """
    small = thinned(grid, pixels)
    wanted = ((np.arange(small.height) + 0.5) * grid.height / small.height).astype(np.int64)
    cols = ((np.arange(small.width) + 0.5) * grid.width / small.width).astype(np.int64)
    values = np.full((small.height, small.width), IGNORE, np.uint8)
    for each in rows:
        here = np.flatnonzero((wanted >= each.start) & (wanted < each.stop))
        stored = each.load(name)[0].reshape(-1, grid.width)
        values[here] = stored[np.ix_(wanted[here] - each.start, cols)]
    return values
