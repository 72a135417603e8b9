"""Web-mercator tiles: where an image lies whose file name ends in its tile numbers x-y-z."""

import re
from dataclasses import dataclass

from affine import Affine
from rasterio.crs import CRS

from aftermap.data.scene import SceneGrid
from aftermap.geo.grid import Grid

EDGE_M = 20037508.342789244
"""Half the side of the web-mercator square (EPSG:3857)."""

MOST_ZOOM = 26
_MERCATOR = CRS.from_epsg(3857)
_NAME = re.compile(r"(?:.*[^0-9])?(\d+)[-_](\d+)[-_](\d+)")


@dataclass(frozen=True, slots=True, order=True)
class WebTile:
    """A tile of the web-mercator pyramid: `x` counts east from 180 degrees west, `y` south from the northern edge."""

    x: int
    y: int
    zoom: int

    @classmethod
    def parse(cls, stem: str) -> "WebTile | None":
        """The tile that ends a file name without suffix, as in `OAM-1238424-1046544-21`; None where none does."""
        match = _NAME.fullmatch(stem)
        if match is None:
            return None
        x, y, zoom = map(int, match.groups())
        if zoom > MOST_ZOOM or max(x, y) >= 2**zoom:
            return None
        return cls(x, y, zoom)

    @property
    def name(self) -> str:
        """`x-y`, as groups of tiles of one zoom are called."""
        return f"{self.x}-{self.y}"

    def parent(self, zoom: int) -> "WebTile":
        """The tile of a coarser (or the same) zoom that holds this one.

        Raises:
            ValueError: the zoom is finer than the tile's, or below 0.
        """
        if not 0 <= zoom <= self.zoom:
            raise ValueError(f"tile {self.name} of zoom {self.zoom} has no parent of zoom {zoom}")
        step = self.zoom - zoom
        return WebTile(self.x >> step, self.y >> step, zoom)

    def grid(self, *, height: int, width: int) -> Grid:
        """Where the pixels of the tile's image lie, in EPSG:3857.

        A unit there is a metre on the equator only: `resolution_m` of the grid is the true one.
        """
        side = 2 * EDGE_M / 2**self.zoom
        transform = Affine(side / width, 0, self.x * side - EDGE_M, 0, -side / height, EDGE_M - self.y * side)
        return Grid(_MERCATOR, transform, width, height)

    def scene_grid(self, *, height: int, width: int) -> SceneGrid:
        """The same in the form that manifests keep."""
        t = self.grid(height=height, width=width).transform
        return SceneGrid(crs="EPSG:3857", transform=(t.a, t.b, t.c, t.d, t.e, t.f))


def tile_at(x_m: float, y_m: float, zoom: int) -> WebTile:
    """The tile that holds a point given in EPSG:3857; points outside of the square belong to its outer tiles."""
    side, last = 2 * EDGE_M / 2**zoom, 2**zoom - 1
    column, row = int((x_m + EDGE_M) // side), int((EDGE_M - y_m) // side)
    return WebTile(min(max(column, 0), last), min(max(row, 0), last), zoom)
