"""Cuts one labelled image into tiles: pixels of all its bands, mask of classes, georeference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator
from rasterio.crs import CRS

from aftermap.classes import IGNORE
from aftermap.config import Config
from aftermap.data.band_files import IDENTITY, Pixels, measure_stretch, read_file, write_bands, write_mask
from aftermap.data.geotransform import scene_grid
from aftermap.data.preparing.journal import IMAGES, MASKS
from aftermap.data.preparing.prepare import checksum, class_pixels, read_bytes
from aftermap.data.preparing.tile_grid import compat_windows, isaid_windows, windows
from aftermap.data.readers.colours import Decoded
from aftermap.data.scene import RGB, Scene, Split, Tile
from aftermap.data.stretch import PERCENTILES, Stretch
from aftermap.errors import DataError, RasterError, ReadingError
from aftermap.geo.grid import Grid, Window

SKIPPED_BAND = "-"
"""Stands for a band that is left out where bands are named."""


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


@dataclass(frozen=True, slots=True)
class ExtraBand:
    """A raster of one band beside an image, such as a surface model; its values from `low` to `high` become 0 to 255."""

    name: str
    path: Path
    low: float = 0.0
    high: float = 255.0


@dataclass(frozen=True, slots=True)
class ClassImage:
    """One image of a dataset, before anything is read.

    Attributes:
        name: unique in the dataset; begins the names of its tiles.
        event: of its tiles.
        image: the file.
        label: what `ReadMask` makes the mask of; empty for an image without labels.
        bands: names of the file's bands in their order; `SKIPPED_BAND` for those to leave out.
        extra: rasters that become further bands.
        layers: 8-bit files of one band each that stay where they are, for images that are kept whole.
        crs: reference system, where the file states where it lies but not in which one.
        split: where its tiles belong.
        source_split: as the publisher splits the images.
    """

    name: str
    event: str
    image: Path
    label: tuple[Path, ...] = ()
    bands: tuple[str, ...] = RGB
    extra: tuple[ExtraBand, ...] = ()
    layers: Mapping[str, Path] = field(default_factory=dict)
    crs: str | None = None
    split: Split = "unassigned"
    source_split: str | None = None

    @property
    def files(self) -> list[Path]:
        """All files that the tiles depend on."""
        return [self.image, *self.label, *(extra.path for extra in self.extra), *self.layers.values()]


ReadMask = Callable[[ClassImage], Decoded | None]
"""The mask of an image, or None where it has no labels; must be picklable."""


@dataclass(frozen=True, slots=True)
class CutImage:
    """What became of one image.

    Attributes:
        scenes: its tiles.
        dropped: how many were left out.
        off_palette: see `Decoded`.
        first_is_wide: see `Decoded`.
    """

    scenes: tuple[Scene, ...]
    dropped: int = 0
    off_palette: int = 0
    first_is_wide: bool | None = None


@dataclass(frozen=True, slots=True)
class ImageCutter:
    """Cuts images; sent to worker processes.

    Attributes:
        out: folder of the prepared dataset.
        read: reads masks.
        classes: how many a mask may hold.
        tiling: how images are cut.
        stretch: percentiles that become 0 and 255; None leaves 8-bit images as they are, others get `PERCENTILES`.
    """

    out: Path
    read: ReadMask
    classes: int
    tiling: Tiling
    stretch: tuple[float, float] | None = None

    def __call__(self, image: ClassImage, known: Mapping[str, Scene]) -> CutImage:
        """Cut one image; tiles that are `known`, from the same files, and still there, are taken over.

        Raises:
            DataError: an image or label that cannot be used.
            OutputError: a tile cannot be written.
        """
        state = source_state(image)
        pixels = read_file(image.image)
        bands = _named_bands(image, pixels)
        decoded = self.read(image)
        mask = None if decoded is None else _known_mask(decoded.mask, pixels, image)
        told = (0, None) if decoded is None else (decoded.off_palette, decoded.first_is_wide)
        if self._stays(image, pixels):
            return CutImage((self._whole(image, pixels, mask, state),), 0, *told)
        array = self._eight_bits(image, pixels)
        for extra in image.extra:
            array = np.concatenate([array, _read_extra(extra, *array.shape[1:])])
        names = (*bands, *(extra.name for extra in image.extra))
        grid = _grid(image, pixels)
        if self._is_squashed(array):
            array, mask, grid = self._squash(array, mask)
        scenes, dropped = [], 0
        for window in self._windows(image, grid):
            name = tile_name(image.name, window, self.tiling)
            part = None if mask is None else _crop(mask, window)
            if self._is_dropped(image, part):
                dropped += 1
                continue
            scene = known.get(name)
            if scene is None or not _is_there(scene, state):
                scene = self._tile(name, image, _crop(array, window), part, grid.crop(window), names, state)
                if self.tiling.tile_px is not None:
                    whole = {"height": grid.height, "width": grid.width}
                    tile = Tile(source=image.name, row=window.row, col=window.col, **whole)
                    scene = scene.model_copy(update={"tile": tile})
            scenes.append(scene.model_copy(update={"split": image.split, "source_split": image.source_split}))
        return CutImage(tuple(scenes), dropped, *told)

    def _stays(self, image: ClassImage, pixels: Pixels) -> bool:
        """Whether the file itself can be the scene's image."""
        return (
            self.tiling.tile_px is None
            and self.stretch is None
            and pixels.array.dtype == np.uint8
            and pixels.indices is None
            and not image.extra
            and SKIPPED_BAND not in image.bands
        )

    def _whole(self, image: ClassImage, pixels: Pixels, mask: np.ndarray | None, state: str) -> Scene:
        sums = {"pre": checksum(read_bytes(image.image))}
        for band, path in image.layers.items():
            sums[band] = checksum(read_bytes(path))
        scene = self._scene(
            image.name, image, image.image, mask, _grid(image, pixels), {**sums, "source": state}
        )
        return scene.model_copy(
            update={
                "bands": image.bands,
                "layers": dict(image.layers),
                "split": image.split,
                "source_split": image.source_split,
            }
        )

    def _eight_bits(self, image: ClassImage, pixels: Pixels) -> np.ndarray:
        """uint8 (C, H, W) of the bands that are kept."""
        array = pixels.array[[n for n, name in enumerate(image.bands) if name != SKIPPED_BAND]]
        if array.dtype == np.uint8 and self.stretch is None:
            return array
        kept = [name for name in image.bands if name != SKIPPED_BAND]
        valid = None if pixels.nodata is None else (pixels.array != pixels.nodata).any(axis=0)
        try:
            stretch = measure_stretch(
                array, kept, self.stretch or PERCENTILES, valid=valid, name=str(image.image)
            )
        except RasterError as error:
            raise DataError(str(error)) from None
        return stretch.apply(array)

    def _is_squashed(self, array: np.ndarray) -> bool:
        tile = self.tiling.tile_px
        return self.tiling.compat_squash and tile is not None and min(array.shape[1:]) <= tile

    def _squash(
        self, array: np.ndarray, mask: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None, Grid]:
        side = self.tiling.tile_px or 0
        bands = [cv2.resize(band, (side, side), interpolation=cv2.INTER_LINEAR) for band in array]
        if mask is not None:
            mask = np.asarray(cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST))
        return np.stack(bands), mask, Grid(None, IDENTITY, side, side)

    def _windows(self, image: ClassImage, grid: Grid) -> list[Window]:
        try:
            return self.tiling.windows(grid.height, grid.width)
        except ValueError as error:
            raise DataError(f"{image.image}: {error}") from None

    def _is_dropped(self, image: ClassImage, mask: np.ndarray | None) -> bool:
        limit = self.tiling.mostly_unknown
        judged = image.split == "train" or self.tiling.compat_grid == "isprs"
        return limit is not None and judged and mask is not None and float((mask == IGNORE).mean()) >= limit

    def _tile(
        self,
        name: str,
        image: ClassImage,
        pixels: np.ndarray,
        mask: np.ndarray | None,
        grid: Grid,
        bands: tuple[str, ...],
        state: str,
    ) -> Scene:
        path = self.out / IMAGES / f"{name}.tif"
        write_bands(path, pixels, grid, bands, description=name)
        sums = {"pre": checksum(read_bytes(path)), "source": state}
        return self._scene(name, image, path, mask, grid, sums).model_copy(update={"bands": bands})

    def _scene(
        self,
        name: str,
        image: ClassImage,
        path: Path,
        mask: np.ndarray | None,
        grid: Grid,
        sums: dict[str, str],
    ) -> Scene:
        place = scene_grid(grid)
        return Scene(
            name=name,
            event=image.event,
            pre=path,
            class_mask=None if mask is None else write_mask(self.out / MASKS / f"{name}_classes.png", mask),
            width=grid.width,
            height=grid.height,
            grid=place,
            resolution_m=None if place is None else grid.resolution_m,
            class_pixels=[] if mask is None else class_pixels(mask, self.classes),
            checksums=sums,
        )


def tile_name(image: str, window: Window, tiling: Tiling) -> str:
    """Name of the scene of a window: that of the image, and where the tile begins."""
    return image if tiling.tile_px is None else f"{image}_{window.row:05d}_{window.col:05d}"


def source_state(image: ClassImage) -> str:
    """Changes when a file of an image does; files are known by size and time, not by content.

    Raises:
        DataError: one of them is missing.
    """
    try:
        stats = [(path.resolve().as_posix(), path.stat()) for path in image.files]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
    lines = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return checksum(repr((lines, image.bands, image.event, image.crs)).encode())[:16]


def _is_there(scene: Scene, state: str) -> bool:
    files = [path for path in (scene.pre, scene.class_mask) if path is not None]
    return scene.checksums.get("source") == state and all(path.is_file() for path in files)


def _named_bands(image: ClassImage, pixels: Pixels) -> tuple[str, ...]:
    """Names of the bands that are kept."""
    if len(pixels.array) != len(image.bands):
        raise ReadingError(
            f"{image.image} has {len(pixels.array)} bands, expected {len(image.bands)} ({', '.join(image.bands)}): name "
            f"them in their order with --bands, such as red,green,blue,nir; '{SKIPPED_BAND}' leaves one out"
        )
    return tuple(name for name in image.bands if name != SKIPPED_BAND)


def _known_mask(mask: np.ndarray, pixels: Pixels, image: ClassImage) -> np.ndarray:
    """The mask, unknown where the image says that it has no data."""
    height, width = pixels.array.shape[1:]
    if mask.shape != (height, width):
        raise DataError(
            f"{image.label[0]} has {mask.shape[1]} x {mask.shape[0]} pixels, its image {image.image.name} "
            f"{width} x {height}"
        )
    if pixels.nodata is None:
        return mask
    return np.where((pixels.array == pixels.nodata).all(axis=0), np.uint8(IGNORE), mask)


def _read_extra(extra: ExtraBand, height: int, width: int) -> np.ndarray:
    """uint8 (1, H, W); what is missing at the lower or right border, a pixel or a hundredth, is 0."""
    values = read_file(extra.path).array
    if len(values) != 1:
        raise DataError(f"{extra.path} has {len(values)} bands, expected one ({extra.name})")
    short = (height - values.shape[1], width - values.shape[2])
    if min(short) < 0 or short[0] > max(1, height // 100) or short[1] > max(1, width // 100):
        raise DataError(
            f"{extra.path} has {values.shape[2]} x {values.shape[1]} pixels, its image {width} x {height}"
        )
    eight = Stretch((extra.low,), (extra.high,)).apply(values)
    return np.pad(eight, ((0, 0), (0, short[0]), (0, short[1])))


def _grid(image: ClassImage, pixels: Pixels) -> Grid:
    """Grid of an image; a reference system that only the dataset states counts where the file says where it lies."""
    height, width = pixels.array.shape[1:]
    crs = pixels.crs
    if crs is None and image.crs is not None and pixels.transform != IDENTITY:
        crs = CRS.from_user_input(image.crs)
    return Grid(crs, pixels.transform, width, height)


def _crop(array: np.ndarray, window: Window) -> np.ndarray:
    rows = slice(window.row, window.row + window.height)
    return array[..., rows, window.col : window.col + window.width]
