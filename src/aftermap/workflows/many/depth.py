"""How deep within its scene a pixel lies: of two scenes that show the same ground, the one that shows it deeper counts.

A network sees less around what lies at the edge of an image, or of its ground. Depth is the distance to the next pixel
that is not assessed or not there, in pixels, on squares of `CELL_PX`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject

from aftermap.classes import IGNORE
from aftermap.geo.grid import Grid
from aftermap.workflows.many.layout import Part

CELL_PX = 8


@dataclass(frozen=True)
class Depth:
    """Depths of a scene.

    Attributes:
        cells: float32 (H / CELL_PX, W / CELL_PX).
        grid: of the cells.
    """

    cells: np.ndarray
    grid: Grid

    @classmethod
    def of(cls, part: Part) -> "Depth":
        """Of a mapped scene."""
        grid = part.grid
        height, width = -(-grid.height // CELL_PX), -(-grid.width // CELL_PX)
        with rasterio.open(part.raster("damage"), driver="GTiff") as file:
            seen = file.read(1, out_shape=(height, width), resampling=Resampling.nearest) != IGNORE
        padded = np.pad(seen.astype(np.uint8), 1)
        cells = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1] * CELL_PX
        scale = Affine.scale(grid.width / width, grid.height / height)
        return cls(cells.astype(np.float32), Grid(grid.crs, grid.transform @ scale, width, height))

    def on(self, grid: Grid) -> np.ndarray:
        """Depths at the pixels of another grid, float32 (H, W), whole pixels so that equals are equal; 0 outside."""
        if self.grid.crs == grid.crs:
            to_cells = ~self.grid.transform @ grid.transform
            # pixel centres to cell centres
            moved = Affine.translation(-0.5, -0.5) @ to_cells @ Affine.translation(0.5, 0.5)
            matrix = np.array([moved[:3], moved[3:6]], np.float64)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            # the outermost half cell is depth itself, and not a mean with what lies outside
            found = cv2.warpAffine(
                self.cells, matrix, (grid.width, grid.height), flags=flags, borderMode=cv2.BORDER_REPLICATE
            )
            return np.asarray(np.rint(found), np.float32)
        found = np.zeros(grid.shape, np.float32)
        reproject(
            self.cells,
            found,
            src_transform=self.grid.transform,
            src_crs=self.grid.crs,
            dst_transform=grid.transform,
            dst_crs=grid.crs,
            resampling=Resampling.bilinear,
        )
        return np.asarray(np.rint(found), np.float32)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Depths at points in the scene's reference system, float32 (n,); 0 outside."""
        t = ~self.grid.transform
        cols, rows = (np.floor(v).astype(int) for v in (t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f))
        inside = (cols >= 0) & (cols < self.grid.width) & (rows >= 0) & (rows < self.grid.height)
        found = np.zeros(len(x), np.float32)
        found[inside] = self.cells[rows[inside], cols[inside]]
        return found
