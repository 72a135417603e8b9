"""Tiles of a COG on the web's grid: its blocks as they lie in the file, decoded only where something is to be hidden."""

import io
import math
import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock

import geopandas
import numpy as np
import rasterio
import shapely
from PIL import Image
from rasterio.features import rasterize
from rasterio.transform import from_bounds

# at the top: threads that import it for the first time at once get in each other's way
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io import Reader

from aftermap.geo.opening.limits import reading
from aftermap.workflows.service.areas import Area
from aftermap.workflows.service.tiles.ground import TILE_PX, WEB, Tile, metres_per_px, zoom_of
from aftermap.workflows.service.tiles.rasters import NONE, PART

_MOST_OPEN = 64
_MOST_BYTES = 64 << 20
_ON_GRID = 1e-3


def encoded(pixels: np.ndarray, *, lossless: bool = False) -> bytes:
    """Pixels (H, W, 4) as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "WEBP", quality=80, method=2, lossless=lossless)
    return buffer.getvalue()


EMPTY = encoded(np.zeros((TILE_PX, TILE_PX, 4), np.uint8), lossless=True)
"""A tile of nothing."""


class WebRaster:
    """A COG that `rasters.write_layers` wrote; safe for several threads.

    Args:
        path: the file.

    Raises:
        RasterError: it is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = Lock()
        self._file = path.open("rb")
        with reading(path):
            self._dataset = rasterio.open(path, driver="GTiff")
        self.maxzoom = zoom_of(self._dataset.transform.a)
        self._levels = len(self._dataset.overviews(1))
        self._left, self._top = self._dataset.transform.c, self._dataset.transform.f
        self._bounds = self._dataset.bounds
        tables = self._dataset.get_tag_item("JPEGTABLES", "TIFF", bidx=1)
        self._tables = bytes.fromhex(tables)[2:-2] if tables else None
        self._cover = _pyramid(np.load(path.with_suffix(".npy")), self._levels) if tables else []

    def block(self, tile: Tile) -> tuple[bool, bytes | None]:
        """Whether a block of the file is this very tile, or beyond the file; and its bytes, where it holds any."""
        west, south, east, north = tile.web_bounds
        b = self._bounds
        if east <= b.left or west >= b.right or north <= b.bottom or south >= b.top:
            return True, None
        level = self.maxzoom - tile.zoom
        if not 0 <= level <= self._levels:
            return False, None
        side = metres_per_px(tile.zoom) * TILE_PX
        across = (west - self._left) / side
        down = (self._top - north) / side
        col, row = round(across), round(down)
        if abs(across - col) > _ON_GRID or abs(down - row) > _ON_GRID:
            return False, None
        if col < 0 or row < 0:
            return True, None
        if self._cover:
            states = self._cover[level]
            if row >= states.shape[0] or col >= states.shape[1] or states[row, col] == NONE:
                return True, None
            if states[row, col] == PART:
                return False, None
        place = self._place(col, row, level)
        if place is None:
            return True, None
        data = os.pread(self._file.fileno(), place[1], place[0])
        # a block of a TIFF leaves out the tables that all of them share
        return True, data if self._tables is None else data[:2] + self._tables + data[2:]

    def drawn(self, tile: Tile) -> bytes | None:
        """A tile of any zoom, read and encoded; None where there is nothing in it."""
        with reading(self.path), Reader(str(self.path)) as file:
            try:
                found = file.tile(tile.x, tile.y, tile.zoom, tilesize=TILE_PX, indexes=(1, 2, 3))
            except TileOutsideBounds:
                return None
            pixels = np.dstack([*np.asarray(found.data, np.uint8), np.asarray(found.mask, np.uint8)])
        return encoded(np.ascontiguousarray(pixels)) if pixels[..., 3].any() else None

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._dataset.close()
            self._file.close()

    def _place(self, col: int, row: int, level: int) -> tuple[int, int] | None:
        """Where a block lies in the file and its bytes; None for one that was left out."""
        more = {} if level == 0 else {"ovr": level - 1}
        name = f"{col}_{row}"
        with self._turn:
            offset = self._dataset.get_tag_item(f"BLOCK_OFFSET_{name}", "TIFF", bidx=1, **more)
            length = self._dataset.get_tag_item(f"BLOCK_SIZE_{name}", "TIFF", bidx=1, **more)
        if offset is None or length is None or not int(length):
            return None
        return int(offset), int(length)


def _pyramid(states: np.ndarray, levels: int) -> list[np.ndarray]:
    """Which tiles are whole, at the highest zoom and at those below it."""
    found = [states]
    for _ in range(levels):
        above = found[-1]
        even = np.full([2 * math.ceil(side / 2) for side in above.shape], NONE, np.uint8)
        even[: above.shape[0], : above.shape[1]] = above
        of_four = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
        least, most = of_four.min(axis=(1, 3)), of_four.max(axis=(1, 3))
        found.append(np.where(least == most, most, PART).astype(np.uint8))
    return found


def hidden(data: bytes, tile: Tile, area: Area) -> bytes | None:
    """A tile with nothing to be seen outside of an area; None where nothing is left."""
    ground = tile.ground
    if area.holds(ground):
        return data
    if not area.touches(ground):
        return None
    part = shapely.intersection(area.shape, ground.buffer(1e-4))
    shape = geopandas.GeoSeries([part], crs=4326).to_crs(WEB.to_wkt()).iloc[0]
    inside = rasterize(
        [(shape, 1)],
        out_shape=(TILE_PX, TILE_PX),
        transform=from_bounds(*tile.web_bounds, TILE_PX, TILE_PX),
        fill=0,
        dtype=np.uint8,
    )
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.array(picture.convert("RGBA"))
    pixels[inside == 0] = 0
    return encoded(pixels) if pixels[..., 3].any() else None


class RasterTiles:
    """Tiles of many COGs, of which the last few stay open, and the last tiles that had to be drawn."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Path, int], WebRaster] = OrderedDict()
        self._drawn: OrderedDict[tuple[Path, Tile], bytes | None] = OrderedDict()
        self._bytes = 0
        self._turn = Lock()

    def at_once(self, path: Path, tile: Tile) -> tuple[bool, bytes | None]:
        """Whether a tile needs no drawing, and its bytes; see `WebRaster.block`.

        Raises:
            FileNotFoundError: there is no such layer.
        """
        with self._turn:
            if (path, tile) in self._drawn:
                self._drawn.move_to_end((path, tile))
                return True, self._drawn[path, tile]
        return self._opened(path).block(tile)

    def drawn(self, path: Path, tile: Tile) -> bytes | None:
        """A tile that has to be drawn.

        Raises:
            FileNotFoundError: there is no such layer.
        """
        data = self._opened(path).drawn(tile)
        with self._turn:
            self._drawn[path, tile] = data
            self._bytes += len(data or b"")
            while self._bytes > _MOST_BYTES:
                self._bytes -= len(self._drawn.popitem(last=False)[1] or b"")
        return data

    def forget(self, folder: Path) -> None:
        """Close what lies in a folder that was written anew or deleted."""
        with self._turn:
            for key in [key for key in self._open if key[0].parent == folder]:
                self._open.pop(key).close()
            for drawn in [key for key in self._drawn if key[0].parent == folder]:
                self._bytes -= len(self._drawn.pop(drawn) or b"")

    def _opened(self, path: Path) -> WebRaster:
        key = (path, path.stat().st_mtime_ns)
        with self._turn:
            if key not in self._open:
                old = [known for known in self._open if known[0] == path]
                for known in old:
                    self._open.pop(known).close()
                while len(self._open) >= _MOST_OPEN:
                    self._open.popitem(last=False)[1].close()
                self._open[key] = WebRaster(path)
                for drawn in [known for known in self._drawn if known[0] == path and old]:
                    self._bytes -= len(self._drawn.pop(drawn) or b"")
            self._open.move_to_end(key)
            return self._open[key]
