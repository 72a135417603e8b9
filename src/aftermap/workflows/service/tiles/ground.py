"""Where a map lies on the web's grid of tiles (EPSG:3857); a map in pixels is laid on a made-up place off Africa."""

import math
from dataclasses import dataclass

import geopandas
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_bounds
from shapely.geometry.base import BaseGeometry

from aftermap.geo.grid import Grid

WEB = CRS.from_epsg(3857)
HALF = math.pi * 6_378_137
"""Metres from the middle of the grid to its edges."""

TILE_PX = 256
_PLAIN_ZOOM = 18


def metres_per_px(zoom: int) -> float:
    """Of a tile of 256 pixels, at the equator."""
    return float(2 * HALF / TILE_PX / 2**zoom)


def laid(grid: Grid) -> Grid:
    """A map's grid with a place: its own, or for one in pixels a made-up one at longitude and latitude 0."""
    if grid.is_georeferenced:
        return grid
    size = metres_per_px(_PLAIN_ZOOM)
    return Grid(WEB, Affine(size, 0, 0, 0, -size, 0), grid.width, grid.height)


def laid_frame(frame: geopandas.GeoDataFrame, grid: Grid) -> geopandas.GeoDataFrame:
    """Buildings of a map on the web's grid, whatever reference system they have."""
    if not grid.is_georeferenced:
        t = laid(grid).transform
        return frame.set_geometry(
            frame.geometry.affine_transform([t.a, t.b, t.d, t.e, t.c, t.f]).set_crs(WEB.to_wkt())
        )
    return frame.to_crs(WEB.to_wkt())


def ground_of(grid: Grid) -> BaseGeometry:
    """The outline of a map in degrees."""
    placed = laid(grid)
    outline = shapely.segmentize(shapely.Polygon(placed.corners), max(placed.width, placed.height) / 8)
    assert placed.crs is not None
    shape: BaseGeometry = geopandas.GeoSeries([outline], crs=placed.crs.to_wkt()).to_crs(4326).iloc[0]
    return shape


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of the web's grid.

    Attributes:
        zoom: 0 for one tile of the world.
        x: counted from the west.
        y: counted from the north.
    """

    zoom: int
    x: int
    y: int

    @property
    def exists(self) -> bool:
        """Whether the grid has it."""
        return 0 <= self.zoom <= 30 and 0 <= self.x < 2**self.zoom and 0 <= self.y < 2**self.zoom

    @property
    def web_bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in metres of the web's grid."""
        side = 2 * HALF / 2**self.zoom
        west, north = self.x * side - HALF, HALF - self.y * side
        return west, north - side, west + side, north

    @property
    def ground(self) -> BaseGeometry:
        """Its outline in degrees."""
        return shapely.box(*transform_bounds(WEB, CRS.from_epsg(4326), *self.web_bounds))
