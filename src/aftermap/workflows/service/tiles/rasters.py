"""Images as COGs whose blocks are the web's tiles: WebP, 256 px, transparent where nothing was seen."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.shutil import copy as translate
from rasterio.windows import Window as Place

from aftermap.files import replacing
from aftermap.geo.grid import Grid, Window
from aftermap.geo.opening.limits import GDAL_ERRORS
from aftermap.workflows.service.tiles.ground import TILE_PX, laid

ALIGNED_LEVELS = 3
"""Levels of overviews whose blocks are the web's tiles too; more of them would pad a large map with empty ground."""

_ROWS = 512
_QUALITY = 82

Strip = tuple[np.ndarray, np.ndarray]
"""Pixels uint8 (H, W, 3), and where there are any, bool (H, W)."""


def write_layers(
    grid: Grid,
    files: list[tuple[Path, bool]],
    read: Callable[[Window], Iterator[Strip]],
    *,
    progress: Callable[[int, int], None],
) -> None:
    """Write layers of one grid as COGs, read strip by strip.

    Args:
        grid: of the map.
        files: to write, and of each whether its colours are classes, which are never mixed.
        read: a strip of each of them.
        progress: told rows done and in all; it may raise to end the work.

    Raises:
        OutputError: a file cannot be written.
    """
    placed = laid(grid)
    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path, also=GDAL_ERRORS)) for path, _ in files]
        plain = [part.with_name(f"{part.stem}-plain.tif") for part in parts]
        for path in plain:
            stack.callback(path.unlink, missing_ok=True)
        _write_plain(placed, plain, read, progress)
        for source, part, (_, classes) in zip(plain, parts, files, strict=True):
            mixed = {"OVERVIEW_RESAMPLING": "AVERAGE", "WARP_RESAMPLING": "BILINEAR", "QUALITY": _QUALITY}
            kept = {"OVERVIEW_RESAMPLING": "NEAREST", "WARP_RESAMPLING": "NEAREST", "QUALITY": 100}
            with rasterio.Env(GDAL_CACHEMAX=128 * 2**20):
                translate(
                    source,
                    part,
                    driver="COG",
                    COMPRESS="WEBP",
                    TILING_SCHEME="GoogleMapsCompatible",
                    ALIGNED_LEVELS=ALIGNED_LEVELS,
                    BLOCKSIZE=TILE_PX,
                    ADD_ALPHA="NO",
                    SPARSE_OK="YES",
                    BIGTIFF="IF_SAFER",
                    **(kept if classes else mixed),
                )
            progress(grid.height, grid.height)


def _write_plain(
    grid: Grid,
    paths: list[Path],
    read: Callable[[Window], Iterator[Strip]],
    progress: Callable[[int, int], None],
) -> None:
    """The layers on the map's own grid, red, green, blue and alpha."""
    options = {
        **{"driver": "GTiff", "width": grid.width, "height": grid.height, "count": 4, "dtype": "uint8"},
        **{"crs": grid.crs, "transform": grid.transform, "tiled": True, "compress": "zstd", "zstd_level": 1},
        **{"photometric": "RGB", "interleave": "pixel", "bigtiff": "IF_SAFER", "blockxsize": 512},
        **{"blockysize": 512, "sparse_ok": True},
    }
    with ExitStack() as stack:
        files = [stack.enter_context(rasterio.open(path, "w", **options)) for path in paths]
        for file in files:
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        for row in range(0, grid.height, _ROWS):
            window = Window(row, 0, min(_ROWS, grid.height - row), grid.width)
            place = Place(0, row, grid.width, window.height)
            for file, (pixels, valid) in zip(files, read(window), strict=True):
                if not valid.any():
                    continue
                file.write(np.moveaxis(pixels, -1, 0), indexes=[1, 2, 3], window=place)
                file.write(np.where(valid, 255, 0).astype(np.uint8), indexes=4, window=place)
            progress(row + window.height, grid.height)
