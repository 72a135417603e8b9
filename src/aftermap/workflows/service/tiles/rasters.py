"""Images as COGs whose blocks are the web's tiles of 256 px: JPEG with a mask for photographs, WebP for classes.

They are read on the web's grid from the start, and JPEG is packed in a tenth of the time of WebP. Beside a JPEG lies
which of its tiles are whole:

    pre.tif
    pre.npy     uint8 (rows, columns) of tiles of the highest zoom: NONE, PART or WHOLE
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from aftermap.workflows.service.tiles.ground import TILE_PX

_QUALITY = 85
NONE, PART, WHOLE = 0, 1, 2
_AT_ONCE = 2
"""Layers that are packed at once: the rest of a job leaves one of two cores idle."""

Strip = tuple[np.ndarray, np.ndarray]
"""Pixels uint8 (H, W, 3), and where there are any, bool (H, W)."""


def write_layers(
    grid: Grid,
    inside: Window,
    files: list[tuple[Path, bool]],
    read: Callable[[Window], Iterator[Strip]],
    *,
    progress: Callable[[int, int], None],
) -> None:
    """Write layers as COGs, read strip by strip.

    Args:
        grid: the web's, whole tiles of one zoom; see `ground.web_grid`.
        inside: the tiles of it that are read; see `ground.window_of`.
        files: to write, and of each whether its colours are classes, which are never mixed.
        read: a strip of each of them, in a window of that grid.
        progress: told rows done and in all; it may raise to end the work.

    Raises:
        OutputError: a file cannot be written.
    """
    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path, also=GDAL_ERRORS)) for path, _ in files]
        plain = [part.with_name(f"{part.stem}-plain.tif") for part in parts]
        for path in plain:
            stack.callback(path.unlink, missing_ok=True)
        cover = _write_plain(grid, inside, plain, read, progress)
        for (path, classes), states in zip(files, cover, strict=True):
            if not classes:
                with replacing(path.with_suffix(".npy")) as beside:
                    np.save(beside, states)
        pool = stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
        for work in [
            pool.submit(_pack, source, part, classes)
            for source, part, (_, classes) in zip(plain, parts, files, strict=True)
        ]:
            work.result()
            progress(inside.height, inside.height)


def _pack(source: Path, part: Path, classes: bool) -> None:
    mixed = {"COMPRESS": "JPEG", "OVERVIEW_RESAMPLING": "AVERAGE", "QUALITY": _QUALITY}
    kept = {"COMPRESS": "WEBP", "OVERVIEW_RESAMPLING": "NEAREST", "QUALITY": 100}
    with rasterio.Env(GDAL_CACHEMAX=128 * 2**20):
        translate(
            source,
            part,
            driver="COG",
            BLOCKSIZE=TILE_PX,
            SPARSE_OK="YES",
            BIGTIFF="IF_SAFER",
            **(kept if classes else mixed),
        )


def _write_plain(
    grid: Grid,
    inside: Window,
    paths: list[Path],
    read: Callable[[Window], Iterator[Strip]],
    progress: Callable[[int, int], None],
) -> list[np.ndarray]:
    """The layers as they are read: red, green, blue and alpha; blocks without ground are left out. And their tiles."""
    options = {
        **{"driver": "GTiff", "width": grid.width, "height": grid.height, "count": 4, "dtype": "uint8"},
        **{"crs": grid.crs, "transform": grid.transform, "tiled": True, "compress": "zstd"},
        **{"photometric": "RGB", "interleave": "pixel", "bigtiff": "IF_SAFER", "blockxsize": TILE_PX},
        **{"blockysize": TILE_PX, "sparse_ok": True, "zstd_level": 1},
    }
    cover = [np.full((grid.height // TILE_PX, grid.width // TILE_PX), NONE, np.uint8) for _ in paths]
    with ExitStack() as stack:
        files = [stack.enter_context(rasterio.open(path, "w", **options)) for path in paths]
        for file in files:
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        for row in range(inside.row, inside.row + inside.height, TILE_PX):
            window = Window(row, inside.col, TILE_PX, inside.width)
            tiles = slice(inside.col // TILE_PX, (inside.col + inside.width) // TILE_PX)
            for file, states, (pixels, valid) in zip(files, cover, read(window), strict=True):
                seen = np.flatnonzero(valid.any(axis=0))
                if not len(seen):
                    continue
                first, last = seen[0] // TILE_PX * TILE_PX, (seen[-1] // TILE_PX + 1) * TILE_PX
                of_tiles = valid.reshape(TILE_PX, -1, TILE_PX)
                states[row // TILE_PX, tiles] = of_tiles.any(axis=(0, 2)).astype(np.uint8) + of_tiles.all(
                    axis=(0, 2)
                )
                four = np.empty((4, TILE_PX, last - first), np.uint8)
                four[:3] = np.moveaxis(pixels[:, first:last], -1, 0)
                four[3] = np.where(valid[:, first:last], 255, 0)
                four[:3, four[3] == 0] = 0
                file.write(four, window=Place(inside.col + first, row, last - first, TILE_PX))
            progress(row - inside.row + TILE_PX, inside.height)
    return cover
