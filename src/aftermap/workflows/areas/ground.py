"""The ground of a map as points with square metres, so that any area can be told how much of it was looked at."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
import shapely
from pyproj import CRS
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from aftermap.classes import IGNORE
from aftermap.errors import InputError
from aftermap.geo.grid import Grid
from aftermap.geo.ground_area import row_areas_m2
from aftermap.workflows.areas.basis import DEGREES, between

FEWEST, MOST = 100_000, 1_000_000
PER_EDGE = 12
"""Points along the side of an area, where the map has so many pixels there."""

_LEAST_PER_EDGE = 3


@dataclass(frozen=True)
class Ground:
    """Points that stand for blocks of pixels.

    Attributes:
        lons: degrees, (n,).
        lats: degrees, (n,).
        mapped_m2: of the block, (n,).
        surveyed_m2: of it where the map tells a class or background, (n,).
    """

    lons: np.ndarray
    lats: np.ndarray
    mapped_m2: np.ndarray
    surveyed_m2: np.ndarray

    def within(self, marked: BaseGeometry, grid: Grid) -> "Ground":
        """The same, of which only what lies in some ground (in the grid's system) was surveyed, by middles."""
        assert grid.crs is not None
        xs, ys = between(DEGREES, CRS.from_wkt(grid.crs.to_wkt())).transform(self.lons, self.lats)
        shapely.prepare(marked)
        inside = shapely.contains_xy(marked, xs, ys)
        return replace(self, surveyed_m2=np.where(inside, self.surveyed_m2, 0.0))


def sample_ground(raster: Path, grid: Grid, edge_m: float | None) -> Ground:
    """Blocks of pixels of `damage.tif`; what it has not assessed was not surveyed.

    Args:
        raster: the file.
        grid: of it, with a reference system.
        edge_m: side of the areas that the ground is shared out to; None where that is not known.

    Returns:
        Blocks of k by k pixels, with k = 1 where the map is small. Their square metres sum to the map's.

    Raises:
        InputError: the areas are too small for a map of this size.
    """
    step = _step(grid, edge_m)
    areas = row_areas_m2(grid)
    assert areas is not None
    cols = np.arange(0, grid.width, step)
    rows = np.arange(0, grid.height, step)
    surveyed = np.empty((len(rows), len(cols)))
    with rasterio.open(raster, driver="GTiff") as file:
        for number, row in enumerate(rows.tolist()):
            height = min(step, grid.height - row)
            seen = file.read(1, window=Window(0, row, grid.width, height)) != IGNORE
            counts = np.add.reduceat(seen, cols, axis=1, dtype=np.int64)
            surveyed[number] = areas[row : row + height] @ counts
    widths = np.minimum(step, grid.width - cols)
    heights = np.add.reduceat(areas, rows)
    x, y = np.meshgrid(cols + widths / 2, rows + np.minimum(step, grid.height - rows) / 2)
    lons, lats = grid.lonlat(x.ravel(), y.ravel())
    return Ground(lons, lats, np.outer(heights, widths).ravel(), surveyed.ravel())


def _step(grid: Grid, edge_m: float | None) -> int:
    pixels = grid.width * grid.height
    coarse = math.ceil(math.sqrt(pixels / FEWEST))
    if edge_m is None or grid.resolution_m is None:
        return max(1, math.ceil(math.sqrt(pixels / (2 * FEWEST))))
    wanted = max(1, math.floor(edge_m / grid.resolution_m / PER_EDGE))
    step = max(min(coarse, wanted), math.ceil(math.sqrt(pixels / MOST)), 1)
    if step > 1 and step * grid.resolution_m * _LEAST_PER_EDGE > edge_m:
        raise InputError(
            f"areas of {edge_m:.3g} m are too small for a map of {pixels / 1e6:.0f} megapixels at "
            f"{grid.resolution_m:.2g} m: choose larger ones"
        )
    return step
