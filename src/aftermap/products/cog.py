"""Writes rasters of any size, piece by piece, and turns them into cloud-optimised GeoTIFFs."""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.windows import Window as RasterioWindow

from aftermap.classes import BUILDING, DAMAGE, IGNORE, ClassScheme
from aftermap.errors import OutputError
from aftermap.geo.grid import Grid, Window, quiet_without_georeference
from aftermap.wording import counted

Colour = tuple[int, int, int, int]

TILE_PX = 512
_RAMP = ("#1b0c41", "#781c6d", "#cf4446", "#fb9a06", "#fcffa4")
_RAMP_AT = (0.0, 0.25, 0.5, 0.75, 1.0)
_DEFLATE_LEVEL = 1  # 3 takes 1.3 times the processor time for files a twentieth smaller, GDAL's 6 three times
_CACHE_BYTES = 24 * 2**20
_GDAL_LOGGERS = ("rasterio._env", "rasterio._err")
_WRITE_FAILED = re.compile(r"writ|seek|IO error|space left|too large|memory", re.IGNORECASE)


def damage_colormap() -> dict[int, Colour]:
    """Colours (red, green, blue, alpha) of `damage.tif`: classes 1 to 4, background and nodata transparent.

    TIFF stores no alpha in its colour table, so readers that do not treat 0 as background show it black.
    """
    table: dict[int, Colour] = {0: (0, 0, 0, 0), IGNORE: (0, 0, 0, 0)}
    for index, colour in enumerate(DAMAGE.colours[1:], start=1):
        table[index] = (*_rgb(colour), 255)
    return table


def building_colormap() -> dict[int, Colour]:
    """Colours of `classes.tif`: 1 is a building, background and nodata are transparent."""
    return {0: (0, 0, 0, 0), 1: (*_rgb(BUILDING.colours[1]), 255), IGNORE: (0, 0, 0, 0)}


def class_colormap(scheme: ClassScheme) -> dict[int, Colour]:
    """Colours of a raster of any classes; the background and nodata are transparent."""
    table: dict[int, Colour] = {index: (*_rgb(colour), 255) for index, colour in enumerate(scheme.colours)}
    if scheme.background is not None:
        table[scheme.background] = (*_rgb(scheme.colours[scheme.background]), 0)
    return table | {IGNORE: (0, 0, 0, 0)}


def probability_colormap(levels: int) -> dict[int, Colour]:
    """Colours of `building.tif`: `levels` and below is a ramp of p(building), above and nodata are transparent.

    From dark violet over orange to light yellow, as bright as the probability is high, and opaque from one half on.
    """
    share = np.arange(levels + 1) / levels
    ramp = np.stack([np.interp(share, _RAMP_AT, channel) for channel in zip(*map(_rgb, _RAMP), strict=True)])
    alpha = np.minimum(1, 2 * share) * 255
    colours = np.rint(np.vstack([ramp, alpha])).astype(int).T.tolist()
    table: dict[int, Colour] = {value: (r, g, b, a) for value, (r, g, b, a) in enumerate(colours)}
    return table | {IGNORE: (0, 0, 0, 0)}


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


class RasterWriter:
    """A raster that is written window by window and becomes a COG on `close`.

    The pieces go to `<path>.part.tif`, a tiled GeoTIFF; `close` adds overviews, copies it into a COG
    under a temporary name, renames that to `path` and removes the rest. Until then an older file at
    `path` stays as it is. Memory holds GDAL's block cache (24 MiB and one row of tiles), never the raster.
    As a context manager it closes on success and discards the temporary file on an error.

    Args:
        path: the COG to write.
        grid: geometry of the raster; without a reference system the file has no georeference.
        count: number of bands.
        dtype: numpy type of the pixels.
        nodata: value of pixels that are never written or not known.
        colormap: RGBA per value, for one band of uint8.
        descriptions: one name per band.
        scale: what a stored number is to be multiplied by, kept in the file for readers that look for it.
        tags: further metadata of the file, by name.
        draft: leave it a tiled GeoTIFF without overviews, for what is only read to make another one of it.

    Raises:
        OutputError: the file cannot be written, or the disk is full.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        *,
        count: int,
        dtype: str,
        nodata: float | None,
        colormap: dict[int, Colour] | None = None,
        descriptions: Sequence[str] | None = None,
        scale: float | None = None,
        tags: Mapping[str, str] | None = None,
        draft: bool = False,
    ) -> None:
        if colormap is not None and (count != 1 or dtype != "uint8"):
            raise ValueError(f"a colour table needs one band of uint8, not {count} of {dtype}")
        if descriptions is not None and len(descriptions) != count:
            raise ValueError(f"{len(descriptions)} band descriptions for {counted(count, 'band')}")
        self.path = path
        self.part = path.with_name(path.name + ".part.tif")
        self.grid = grid
        self.count, self.dtype, self.nodata = count, np.dtype(dtype), nodata
        self._overviews = Resampling.average if self.dtype.kind == "f" else Resampling.nearest
        self._draft = draft
        self._dataset: DatasetWriter | None = None
        row_of_tiles = grid.width * TILE_PX * count * self.dtype.itemsize
        self._cache_bytes = _CACHE_BYTES + row_of_tiles
        with self._gdal("create"):
            self._dataset = self._create(colormap, descriptions, scale)
            self._dataset.update_tags(**(tags or {}))

    def write(self, window: Window, array: np.ndarray) -> None:
        """Write (C, H, W), or (H, W) for one band, at a window inside the grid, in any order."""
        if array.ndim == 2:
            array = array[None]
        if array.shape != (self.count, window.height, window.width):
            raise ValueError(
                f"array of shape {array.shape} does not fit {counted(self.count, 'band')} of "
                f"{window.height} x {window.width}"
            )
        inside = 0 <= window.row <= window.row + window.height <= self.grid.height
        if not (inside and 0 <= window.col <= window.col + window.width <= self.grid.width):
            raise ValueError(f"{window} reaches beyond the raster of {self.grid.height} x {self.grid.width}")
        if self._dataset is None:
            raise ValueError(f"{self.path.name} is closed")
        if array.size == 0:
            return
        target = RasterioWindow(window.col, window.row, window.width, window.height)
        with self._gdal("write"):
            self._dataset.write(array.astype(self.dtype, copy=False), window=target)

    def close(self) -> Path:
        """Finish: write the COG with its overviews, put it in place and return `path`."""
        finished = self.path.with_name(self.path.name + ".cog.tif")
        try:
            with self._gdal("write"):
                if self._dataset is not None:
                    if not self._draft:
                        self._add_overviews(self._dataset)
                    self._dataset.close()
                    self._dataset = None
                if self._draft:
                    self.part.replace(finished)
                else:
                    self._copy_to_cog(finished)
            with self._gdal("check"):
                _check_complete(finished)
            finished.replace(self.path)
        except BaseException:
            for leftover in self.path.parent.glob(finished.name + "*"):
                leftover.unlink(missing_ok=True)
            raise
        self.part.unlink(missing_ok=True)
        return self.path

    def discard(self) -> None:
        """Close without caring whether that works, and remove the temporary file; an older file at `path` stays."""
        dataset, self._dataset = self._dataset, None
        if dataset is not None:
            try:
                with quiet_without_georeference(), rasterio.Env(GDAL_CACHEMAX=self._cache_bytes):
                    dataset.close()
            except (RasterioError, CPLE_BaseError, OSError) as error:
                logging.getLogger(__name__).debug("closing %s: %s", self.part, error)
        self.part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.discard()

    def _create(
        self, colormap: dict[int, Colour] | None, descriptions: Sequence[str] | None, scale: float | None
    ) -> DatasetWriter:
        self.part.unlink(missing_ok=True)
        dataset: DatasetWriter = rasterio.open(
            self.part,
            "w",
            driver="GTiff",
            width=self.grid.width,
            height=self.grid.height,
            count=self.count,
            dtype=self.dtype.name,
            nodata=self.nodata,
            crs=self.grid.crs,
            transform=self.grid.transform if self.grid.is_georeferenced else Affine.identity(),
            tiled=True,
            blockxsize=TILE_PX,
            blockysize=TILE_PX,
            bigtiff="IF_SAFER",
            interleave="band",
            # packed once, into the COG: packing by runs takes longer here than all overviews
            **({"compress": "deflate", "zlevel": 1} if self._draft else {}),
            sparse_ok=True,
        )
        if colormap is not None:
            dataset.write_colormap(1, colormap)
        for index, text in enumerate(descriptions or (), start=1):
            dataset.set_band_description(index, text)
        if scale is not None:
            dataset.scales = (scale,) * self.count
        return dataset

    def _add_overviews(self, dataset: DatasetWriter) -> None:
        """Halves until one tile holds all; the COG driver would pack its own into a file beside, in twice the time."""
        factors: list[int] = []
        while max(self.grid.width, self.grid.height) >> len(factors) > TILE_PX:
            factors.append(2 << len(factors))
        if factors:
            dataset.build_overviews(factors, self._overviews)

    def _copy_to_cog(self, target: Path) -> None:
        rasterio.shutil.copy(
            self.part,
            target,
            driver="COG",
            compress="DEFLATE",
            level=_DEFLATE_LEVEL,
            num_threads="ALL_CPUS",
            predictor="YES",
            blocksize=TILE_PX,
            bigtiff="IF_SAFER",
            overview_resampling=self._overviews.name.upper(),
            sparse_ok=True,
        )

    @contextmanager
    def _gdal(self, action: str) -> Iterator[None]:
        """Run GDAL with a bounded cache; errors it raises or only logs become an OutputError."""
        reported = _ErrorRecorder()
        try:
            with rasterio.Env(GDAL_CACHEMAX=self._cache_bytes), quiet_without_georeference(), reported:
                yield
        except (RasterioError, CPLE_BaseError, OSError) as error:
            raise OutputError(_explain(self.path, action, [*reported.messages, str(error)])) from error
        if reported.messages:
            raise OutputError(_explain(self.path, action, reported.messages))


class _ErrorRecorder(logging.Handler):
    """Collects failed writes that GDAL reports late, from its block cache, where no exception follows.

    Rasterio logs these at level INFO; nobody would see them, and the raster would have a hole.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages: list[str] = []
        self._levels: dict[str, tuple[int, bool]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "signalled an error" in text and _WRITE_FAILED.search(text):
            self.messages.append(text)

    def __enter__(self) -> Self:
        for name in _GDAL_LOGGERS:
            logger = logging.getLogger(name)
            self._levels[name] = (logger.level, logger.propagate)
            logger.setLevel(logging.INFO)
            logger.propagate = False
            logger.addHandler(self)
        return self

    def __exit__(self, *exception: object) -> None:
        for name, (level, propagate) in self._levels.items():
            logger = logging.getLogger(name)
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate


def _explain(path: Path, action: str, messages: list[str]) -> str:
    try:
        stats = os.statvfs(path.parent)
        free_bytes = stats.f_bavail * stats.f_frsize
    except OSError:
        free_bytes = None
    reason = messages[0].splitlines()[0].partition("msg=")[2].strip("'\"") or messages[0].splitlines()[0]
    if "space left" in reason or (free_bytes is not None and free_bytes < 2**20):
        return f"cannot {action} {path}: the disk is full: free some space or choose another output folder"
    if not path.parent.is_dir():
        return f"cannot {action} {path}: the folder {path.parent} does not exist"
    return f"cannot {action} {path}: {reason}"


def _check_complete(path: Path) -> None:
    """Read the last tile of the full resolution, which a COG stores at its end: a cut file fails here."""
    with rasterio.open(path, driver="GTiff") as dataset:
        width, height = min(TILE_PX, dataset.width), min(TILE_PX, dataset.height)
        dataset.read(window=RasterioWindow(dataset.width - width, dataset.height - height, width, height))
