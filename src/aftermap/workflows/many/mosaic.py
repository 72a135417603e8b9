"""The rasters of many scenes as one: each pixel from the scene that assessed it and shows it deepest."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from aftermap.classes import DAMAGE, IGNORE
from aftermap.geo.grid import Grid, Window
from aftermap.inference.postprocess import SCALE
from aftermap.products.cog import RasterWriter, damage_colormap
from aftermap.products.styles import write_class_names, write_raster_style
from aftermap.workflows.many.depth import Depth
from aftermap.workflows.many.layout import Part, offset_in, outline

BLOCK_PX = 2048
"""Side of the squares that are put together at once; memory depends on it and not on the map."""

_OPEN_FILES = 32
_MOST_THREADS = 8  # each holds a square of 55 MB
_RASTERS = {"damage": 1, "probabilities": len(DAMAGE)}


@dataclass(frozen=True)
class Points:
    """Points of the map, to be told whose ground they lie on.

    Attributes:
        x: in the reference system of the map (n,).
        y: likewise.
    """

    x: np.ndarray
    y: np.ndarray


def write_mosaic(
    parts: Sequence[Part],
    depths: Mapping[int, Depth],
    grid: Grid,
    folder: Path,
    points: Points,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Write `damage.tif` and `probabilities.tif` of a map, and tell whose ground some points lie on.

    Args:
        parts: the scenes.
        depths: of those that overlap with another one.
        grid: of the map.
        folder: where to write.
        points: of the buildings.
        threads: that read and put together blocks; this one packs and writes them.
        progress: called with blocks done and all.

    Returns:
        int (n,): index into the parts; -1 where no scene assessed the ground.

    Raises:
        OutputError: a raster cannot be written.
    """
    assert grid.crs is not None
    tree = shapely.STRtree([outline(part.grid, grid.crs) for part in parts])
    owners = np.full(len(points.x), -1)
    t = ~grid.transform
    cols, rows = (np.floor(v).astype(int) for v in (t.a * points.x + t.c, t.e * points.y + t.f))
    across = -(-grid.width // BLOCK_PX)
    block_of = (rows // BLOCK_PX) * across + cols // BLOCK_PX
    order = np.argsort(block_of, kind="stable")
    blocks = list(_blocks(grid))
    with ExitStack() as stack:
        benches = [stack.enter_context(_Bench(parts, depths, grid)) for _ in range(_benches(threads))]
        damage = stack.enter_context(
            RasterWriter(
                folder / "damage.tif",
                grid,
                count=1,
                dtype="uint8",
                nodata=IGNORE,
                colormap=damage_colormap(),
                descriptions=("damage",),
            )
        )
        probabilities = stack.enter_context(
            RasterWriter(
                folder / "probabilities.tif",
                grid,
                count=len(DAMAGE),
                dtype="uint8",
                nodata=IGNORE,
                descriptions=DAMAGE.names,
                scale=1 / SCALE,
            )
        )
        asked = (np.sort(tree.query(shapely.box(*grid.crop(each).bounds), "intersects")) for each in blocks)
        full = [(window, here.tolist()) for window, here in zip(blocks, asked, strict=True) if len(here)]
        for number, (window, block) in enumerate(_filled(benches, full, threads)):
            damage.write(window, block.classes)
            probabilities.write(window, block.shares)
            key = window.row // BLOCK_PX * across + window.col // BLOCK_PX
            mine = order[slice(*np.searchsorted(block_of[order], [key, key + 1]))]
            owners[mine] = block.owner[rows[mine] - window.row, cols[mine] - window.col]
            progress(number + 1, len(full))
    write_class_names(folder / "damage.tif", DAMAGE)
    write_raster_style(folder / "damage.tif", DAMAGE)
    return owners


def _benches(threads: int) -> int:
    """How many blocks are there at once: one for each thread, and one that is written."""
    return 1 if threads < 2 else min(threads, _MOST_THREADS) + 1


def _filled(
    benches: Sequence["_Bench"], full: Sequence[tuple[Window, list[int]]], threads: int
) -> Iterator[tuple[Window, "_Bench"]]:
    """Blocks put together, in their order; each is to be used before the next one is asked for."""
    if len(benches) == 1:
        for window, here in full:
            yield window, benches[0].fill(here, window)
        return
    free, ahead = deque(benches), deque[tuple[Window, Future["_Bench"]]]()
    with ThreadPoolExecutor(min(threads, _MOST_THREADS), thread_name_prefix="mosaic") as pool:
        for window, here in full:
            if not free:
                first, future = ahead.popleft()
                yield first, future.result()
                free.append(future.result())
            ahead.append((window, pool.submit(free.popleft().fill, here, window)))
        for window, future in ahead:
            yield window, future.result()


class _Bench:
    """Where a square of the map is put together; its memory and files are used again for the next one.

    Attributes:
        classes: uint8 (H, W).
        shares: uint8 (K, H, W).
        owner: int32 (H, W), whose the pixels are, -1 for nobody's.
    """

    def __init__(self, parts: Sequence[Part], depths: Mapping[int, Depth], grid: Grid) -> None:
        self._depths, self._grid = depths, grid
        self._files = _Files(parts, grid)
        self._arrays: tuple[np.ndarray, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def fill(self, here: Sequence[int], window: Window) -> Self:
        """Take the pixels of some scenes."""
        shape = (window.height, window.width)
        if not self._arrays or self._arrays[0].shape != shape:
            self._arrays = (
                np.empty(shape, np.uint8),
                np.empty((len(DAMAGE), *shape), np.uint8),
                np.empty(shape, np.int32),
                np.empty(shape, np.float32),
            )
        self.classes, self.shares, self.owner, deepest = self._arrays
        for array, value in zip(self._arrays, (IGNORE, IGNORE, -1, -1), strict=True):
            array.fill(value)
        for index in here:
            found = self._files.read(index, "damage", window)
            if found is None:
                continue
            own, values = found
            taken = values[0] != IGNORE
            if index in self._depths:
                place = Window(window.row + own.row, window.col + own.col, own.height, own.width)
                depth = self._depths[index].on(self._grid.crop(place))
                taken &= depth > deepest[own.slices]
                np.copyto(deepest[own.slices], depth, where=taken)
            if not taken.any():
                continue
            more = self._files.read(index, "probabilities", window)
            assert more is not None
            np.copyto(self.classes[own.slices], values[0], where=taken)
            np.copyto(self.shares[:, *own.slices], more[1], where=taken)
            np.copyto(self.owner[own.slices], np.int32(index), where=taken)
        return self


class _Files:
    """The rasters of all scenes on the map's grid, a few of them open at a time."""

    def __init__(self, parts: Sequence[Part], grid: Grid) -> None:
        self._parts, self._grid = parts, grid
        self._offsets = [offset_in(part.grid, grid) for part in parts]
        self._open: OrderedDict[tuple[int, str], tuple[Any, ...]] = OrderedDict()

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            self._close()

    def read(self, index: int, name: str, window: Window) -> tuple[Window, np.ndarray] | None:
        """What a scene holds of a window of the map: where within it, and the values (bands, h, w); None for nothing."""
        offset, size = self._offsets[index], self._parts[index].grid
        if offset is None:  # warped to the grid of the map as it is read
            file = self._file(index, name)
            whole = RasterioWindow(window.col, window.row, window.width, window.height)
            return Window(0, 0, window.height, window.width), file.read(window=whole)
        top, left = max(window.row, offset[0]), max(window.col, offset[1])
        bottom = min(window.row + window.height, offset[0] + size.height)
        right = min(window.col + window.width, offset[1] + size.width)
        if top >= bottom or left >= right:
            return None
        own = Window(top - window.row, left - window.col, bottom - top, right - left)
        place = RasterioWindow(left - offset[1], top - offset[0], own.width, own.height)
        return own, self._file(index, name).read(window=place)

    def _file(self, index: int, name: str) -> Any:
        key = (index, name)
        if key not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self._close()
            dataset = rasterio.open(self._parts[index].raster(name), driver="GTiff")
            if self._offsets[index] is None:
                warped = WarpedVRT(
                    dataset,
                    crs=self._grid.crs,
                    transform=self._grid.transform,
                    width=self._grid.width,
                    height=self._grid.height,
                    resampling=Resampling.nearest,
                    nodata=IGNORE,
                )
                self._open[key] = (warped, dataset)
            else:
                self._open[key] = (dataset,)
        self._open.move_to_end(key)
        return self._open[key][0]

    def _close(self) -> None:
        for file in self._open.popitem(last=False)[1]:
            file.close()


def _blocks(grid: Grid) -> Iterator[Window]:
    for row in range(0, grid.height, BLOCK_PX):
        for col in range(0, grid.width, BLOCK_PX):
            yield Window(row, col, min(BLOCK_PX, grid.height - row), min(BLOCK_PX, grid.width - col))
