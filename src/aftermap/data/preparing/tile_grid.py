"""Where the tiles of an image start: a grid that covers every pixel, and the grids of the published systems.

Pure arithmetic along one axis; lengths, tiles and overlaps are in pixels.
"""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.geo.grid import Window


class Tiling(Config):
    """How images are cut.

    Attributes:
        tile_px: width and height of a tile; None keeps images whole.
        overlap_px: pixels that neighbours have in common.
        mostly_unknown: tiles of the training split with at least this share of unknown pixels are left out.
        compat_grid: tiles where the original of MiB-CD has them. `isprs`: rows are counted by the width, which may
            leave pixels in no tile, and mostly unknown tiles of every split are left out. `isaid`: the last two
            tiles of an axis may nearly agree.
        compat_squash: an image that is no larger than a tile in one direction is resized to one, whatever its shape.
    """

    tile_px: int | None = Field(default=None, ge=1)
    overlap_px: int = Field(default=0, ge=0)
    mostly_unknown: float | None = Field(default=None, gt=0, le=1)
    compat_grid: Literal["none", "isprs", "isaid"] = "none"
    compat_squash: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tile_px is None and (self.overlap_px or self.compat_grid != "none" or self.compat_squash):
            raise ValueError("images that stay whole have no overlap: pass --tile-px as well")
        if self.tile_px is not None and self.overlap_px >= self.tile_px:
            raise ValueError(
                f"the overlap of {self.overlap_px} px is not less than the tile of {self.tile_px}"
            )
        return self

    def windows(self, height: int, width: int) -> list[Window]:
        """The tiles of an image.

        Raises:
            ValueError: an image that the original cannot cut.
        """
        if self.tile_px is None:
            return [Window(0, 0, height, width)]
        way = {"none": windows, "isprs": compat_windows, "isaid": isaid_windows}[self.compat_grid]
        return way(height, width, self.tile_px, self.overlap_px)


def starts(length: int, tile: int, overlap: int = 0) -> list[int]:
    """First pixels of tiles side by side, `overlap` pixels in common; the last one ends at the border.

    Every pixel lies in a tile. An image no longer than a tile is one tile, from 0.

    Args:
        length: of the image, > 0.
        tile: length of a tile.
        overlap: from 0 to `tile` - 1.

    Raises:
        ValueError: sizes that make no grid.

    Source: the count is ceil((length - overlap) / (tile - overlap)).
    """
    _check(length, tile, overlap)
    if length <= tile:
        return [0]
    step = tile - overlap
    count = math.ceil((length - overlap) / step)
    return [min(number * step, length - tile) for number in range(count)]


def windows(height: int, width: int, tile: int, overlap: int = 0) -> list[Window]:
    """The tiles of an image, row by row; those of a smaller image end at its border."""
    return _product(starts(height, tile, overlap), starts(width, tile, overlap), height, width, tile)


def compat_starts(length: int, tile: int, overlap: int = 0, *, count: int | None = None) -> list[int]:
    """First pixels of the tiles as the original of MiB-CD spreads them over an axis of an ISPRS image.

    Args:
        length: of the image.
        tile: length of a tile.
        overlap: asked for; what comes out follows from the count.
        count: of tiles; by default ceil(length / tile) without overlap, else floor(length / (tile - overlap)), which
            may leave pixels in no tile.

    Source: `prepare-isprs` of MiB-CD.
    """
    _check(length, tile, overlap)
    if count is None:
        count = length // (tile - overlap) if overlap else math.ceil(length / tile)
    shared = (count * tile - length) // count if count > 1 else 0
    step = tile - shared
    firsts = [max(number * step - shared // 2, 0) for number in range(count)]
    return [max(length - tile, 0) if first + tile >= length else first for first in firsts]


def compat_windows(height: int, width: int, tile: int, overlap: int = 0) -> list[Window]:
    """The tiles of an ISPRS image as the original cuts them: with overlap, rows are counted by the width and back.

    Raises:
        ValueError: an image that is no larger than a tile, or gives none.

    Source: `prepare-isprs` of MiB-CD, whose tiler gets both counts in the wrong order.
    """
    if height <= tile and width <= tile:
        raise ValueError(f"the image has {width} x {height} pixels, expected more than one tile of {tile}")
    rows = cols = None
    if overlap:
        rows, cols = width // (tile - overlap), height // (tile - overlap)
    return _product(
        compat_starts(height, tile, overlap, count=rows),
        compat_starts(width, tile, overlap, count=cols),
        height,
        width,
        tile,
    )


def isaid_starts(length: int, tile: int, overlap: int = 0) -> list[int]:
    """First pixels of the tiles as the development kit of iSAID steps along an axis; the last two may nearly agree.

    Source: `prepare-isaid` of MiB-CD, after the iSAID development kit.
    """
    _check(length, tile, overlap)
    steps = range(0, length, tile - overlap)
    return list(dict.fromkeys(max(min(first, length - tile), 0) for first in steps))


def isaid_windows(height: int, width: int, tile: int, overlap: int = 0) -> list[Window]:
    """The tiles of an iSAID image as its development kit cuts them."""
    return _product(
        isaid_starts(height, tile, overlap), isaid_starts(width, tile, overlap), height, width, tile
    )


def _product(rows: list[int], cols: list[int], height: int, width: int, tile: int) -> list[Window]:
    return [Window(row, col, min(tile, height - row), min(tile, width - col)) for row in rows for col in cols]


def _check(length: int, tile: int, overlap: int) -> None:
    if length < 1 or tile < 1 or not 0 <= overlap < tile:
        raise ValueError(
            f"length {length}, tile {tile}, overlap {overlap}: expected an overlap from 0 to less than the tile"
        )
