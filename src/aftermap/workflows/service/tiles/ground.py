"""Where a map lies on the web's grid of tiles (EPSG:3857); a map in pixels is laid on a made-up place off Africa."""

import math
from dataclasses import dataclass

import geopandas
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_bounds
from shapely.geometry.base import BaseGeometry

from aftermap.geo.grid import Grid, Window

WEB = CRS.from_epsg(3857)
HALF = math.pi * 6_378_137
"""Metres from the middle of the grid to its edges."""

TILE_PX = 256
ALIGNED_LEVELS = 2
_PLAIN_ZOOM = 18
_ON_GRID = 1e-6


def metres_per_px(zoom: int) -> float:
    """Of a tile of 256 pixels, at the equator."""
    return float(2 * HALF / TILE_PX / 2**zoom)


def zoom_of(size: float) -> int:
    """The zoom whose pixels have a size in metres of the web's grid."""
    return round(math.log2(metres_per_px(0) / size))


def laid(grid: Grid) -> Grid:
    """A map's grid with a place: its own, or for one in pixels a made-up one at longitude and latitude 0."""
    if grid.is_georeferenced:
        return grid
    size = metres_per_px(_PLAIN_ZOOM)
    return Grid(WEB, Affine(size, 0, 0, 0, -size, 0), grid.width, grid.height)


def web_grid(grid: Grid) -> tuple[Grid, int]:
    """The part of the web's grid that a map lies in, at the zoom that is nearest to its pixels; and that zoom.

    It begins at a tile of two zooms below, so that the blocks of two overviews are the web's tiles too. More of them
    would pad a map with empty ground.
    """
    placed = laid(grid)
    assert placed.crs is not None
    left, bottom, right, top = transform_bounds(placed.crs, WEB, *placed.bounds)
    size = math.sqrt((right - left) * (top - bottom) / (placed.width * placed.height))
    zoom = max(0, min(24, zoom_of(size)))
    px, side = metres_per_px(zoom), metres_per_px(zoom) * TILE_PX * 2 ** min(zoom, ALIGNED_LEVELS)
    west, north = math.floor((left + HALF) / side + _ON_GRID), math.floor((HALF - top) / side + _ON_GRID)
    east, south = math.ceil((right + HALF) / side - _ON_GRID), math.ceil((HALF - bottom) / side - _ON_GRID)
    steps = round(side / px)
    transform = Affine(px, 0, west * side - HALF, 0, -px, HALF - north * side)
    return Grid(WEB, transform, max(1, east - west) * steps, max(1, south - north) * steps), zoom


def window_of(grid: Grid, web: Grid) -> Window:
    """The whole tiles of the web's grid that a map touches, as rows and columns of it."""
    placed = laid(grid)
    assert placed.crs is not None
    left, bottom, right, top = transform_bounds(placed.crs, WEB, *placed.bounds)
    side = web.transform.a * TILE_PX
    cols = math.floor((left - web.transform.c) / side), math.ceil((right - web.transform.c) / side)
    rows = math.floor((web.transform.f - top) / side), math.ceil((web.transform.f - bottom) / side)
    first_row, first_col = max(0, rows[0]) * TILE_PX, max(0, cols[0]) * TILE_PX
    last_row, last_col = min(web.height, rows[1] * TILE_PX), min(web.width, cols[1] * TILE_PX)
    return Window(first_row, first_col, last_row - first_row, last_col - first_col)


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
