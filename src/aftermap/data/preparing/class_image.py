"""An image of any bands with a mask of many classes: read whole, kept as it is or cut into tiles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from rasterio.crs import CRS

from aftermap.classes import IGNORE
from aftermap.data.band_files import IDENTITY, Pixels, measure_stretch, read_file
from aftermap.data.file_content import checksum, read_bytes
from aftermap.data.geotransform import scene_grid
from aftermap.data.preparing.cutter import CutTile, TileForm, cut
from aftermap.data.preparing.dataset import ExtraBand, Labels, Made, PreparedFolder, SourceScene
from aftermap.data.preparing.scene_files import write_scene
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.scene import Scene, Tile
from aftermap.data.stretch import PERCENTILES, Stretch
from aftermap.errors import DataError, RasterError, ReadingError
from aftermap.geo.grid import Grid, Window
from aftermap.wording import counted

SKIPPED_BAND = "-"
"""Stands for a band that is left out where bands are named."""

BOUNDARY_PX = 15
"""A class of which no square so wide is anywhere may be the boundary between others: those of ISPRS are 6 pixels wide."""

MOSTLY_UNKNOWN, OFF_PALETTE, FIRST_IS_WIDE = "mostly unknown", "off the palette", "first class is wide"
"""What is counted while an image is cut."""


@dataclass(frozen=True, slots=True)
class ClassMask:
    """Class indices of an image.

    Attributes:
        mask: uint8 (H, W), IGNORE where the class is unknown.
        off_palette: pixels whose colour is none of the legend's.
        first_is_wide: whether the first class fills a square wider than boundaries are; None where nothing hangs on it.
    """

    mask: np.ndarray
    off_palette: int = 0
    first_is_wide: bool | None = None


ReadMask = Callable[[SourceScene], ClassMask | None]
"""The mask of an image, or None where it has no labels; must be picklable."""


@dataclass(frozen=True, slots=True)
class ClassScenes:
    """Makes the scenes of an image, which stays as it is, or is cut into tiles.

    Attributes:
        read: reads masks.
        classes: how many a mask may hold.
        tiling: how images are cut.
        stretch: percentiles that become 0 and 255; None leaves 8-bit images as they are, others get `PERCENTILES`.
    """

    read: ReadMask
    classes: int
    tiling: Tiling
    stretch: tuple[float, float] | None = None

    def __call__(self, source: SourceScene, folder: PreparedFolder, /) -> Made:
        """The scenes of one image.

        Raises:
            DataError: an image or label that cannot be used.
            OutputError: a file cannot be written.
        """
        state = source_state(source)
        pixels = read_file(source.pre)
        bands = _named_bands(source, pixels)
        read = self.read(source)
        mask = None if read is None else _known_mask(read.mask, pixels, source)
        counts = _counts(read)
        grid = _grid(source, pixels)
        if self._stays(source, pixels):
            return Made((self._whole(source, mask, grid, state, folder),), counts)
        array = self._eight_bits(source, pixels)
        for extra in source.extra:
            array = np.concatenate([array, _read_extra(extra, *array.shape[1:])])
        if self._is_squashed(array):
            array, mask, grid = self._squash(array, mask)
        form = TileForm(self.classes, (*bands, *(extra.name for extra in source.extra)), True, state=state)
        image = _OpenedImage(source, array, mask, grid, self.tiling, form)
        scenes = cut(image, source, folder)
        dropped = image.planned - len(scenes)
        return Made(tuple(scenes), {**counts, MOSTLY_UNKNOWN: dropped} if dropped else counts)

    def _stays(self, source: SourceScene, pixels: Pixels) -> bool:
        """Whether the file itself can be the scene's image."""
        return (
            self.tiling.tile_px is None
            and self.stretch is None
            and pixels.array.dtype == np.uint8
            and pixels.indices is None
            and not source.extra
            and SKIPPED_BAND not in source.bands
        )

    def _whole(
        self, source: SourceScene, mask: np.ndarray | None, grid: Grid, state: str, folder: PreparedFolder
    ) -> Scene:
        files = {"pre": source.pre, **source.layers}
        place = scene_grid(grid)
        return write_scene(
            folder.path,
            source,
            Labels({} if mask is None else {"classes": mask}, grid=place),
            name=source.name,
            pre=source.pre,
            size=(grid.height, grid.width),
            resolution_m=None if place is None else grid.resolution_m,
            classes=self.classes,
            checksums={role: checksum(read_bytes(path)) for role, path in files.items()} | {"source": state},
            bands=source.bands,
            layers=dict(source.layers),
        )

    def _eight_bits(self, source: SourceScene, pixels: Pixels) -> np.ndarray:
        """uint8 (C, H, W) of the bands that are kept."""
        array = pixels.array[[n for n, name in enumerate(source.bands) if name != SKIPPED_BAND]]
        if array.dtype == np.uint8 and self.stretch is None:
            return array
        kept = [name for name in source.bands if name != SKIPPED_BAND]
        try:
            stretch = measure_stretch(
                array, kept, self.stretch or PERCENTILES, valid=pixels.valid, name=str(source.pre)
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


class _OpenedImage:
    """An image with its mask, in memory."""

    def __init__(
        self,
        source: SourceScene,
        pixels: np.ndarray,
        mask: np.ndarray | None,
        grid: Grid,
        tiling: Tiling,
        form: TileForm,
    ) -> None:
        self.source, self.pixels, self.mask, self.grid, self.tiling = source, pixels, mask, grid, tiling
        self.form = form
        try:
            self.windows = tiling.windows(grid.height, grid.width)
        except ValueError as error:
            raise DataError(f"{source.pre}: {error}") from None
        self.planned = len(self.windows)

    def tiles(self) -> "Iterator[_Part]":
        """The tiles that are not mostly unknown."""
        limit = self.tiling.mostly_unknown
        judged = self.source.split == "train" or self.tiling.compat_grid == "isprs"
        for window in self.windows:
            part = None if self.mask is None else _crop(self.mask, window)
            is_unknown = limit is not None and part is not None and float((part == IGNORE).mean()) >= limit
            if not (judged and is_unknown):
                yield _Part(self, window, part)


@dataclass(frozen=True, slots=True)
class _Part:
    """A window of an opened image."""

    image: _OpenedImage
    window: Window
    mask: np.ndarray | None

    @property
    def name(self) -> str:
        name, window = self.image.source.name, self.window
        return f"{name}_{window.row:05d}_{window.col:05d}" if self.image.tiling.tile_px else name

    @property
    def place(self) -> Tile | None:
        if self.image.tiling.tile_px is None:
            return None
        whole = {"height": self.image.grid.height, "width": self.image.grid.width}
        return Tile(source=self.image.source.name, row=self.window.row, col=self.window.col, **whole)

    def cut(self) -> CutTile:
        """Its pixels and mask."""
        grid = self.image.grid.crop(self.window)
        labels = Labels({} if self.mask is None else {"classes": self.mask}, grid=scene_grid(grid))
        return CutTile(_crop(self.image.pixels, self.window), labels, grid)

    def keep(self) -> None:
        """All tiles of an image are kept."""


def source_state(source: SourceScene) -> str:
    """Changes when a file of an image does; files are known by size and time, not by content.

    Raises:
        DataError: one of them is missing.
    """
    try:
        stats = [(path.resolve().as_posix(), path.stat()) for path in source.files.values()]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
    lines = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return checksum(repr((lines, source.bands, source.event, source.crs)).encode())[:16]


def _counts(read: ClassMask | None) -> dict[str, int]:
    counts = {} if read is None or not read.off_palette else {OFF_PALETTE: read.off_palette}
    if read is not None and read.first_is_wide is not None:
        counts[FIRST_IS_WIDE] = int(read.first_is_wide)
    return counts


def _named_bands(source: SourceScene, pixels: Pixels) -> tuple[str, ...]:
    """Names of the bands that are kept."""
    if len(pixels.array) != len(source.bands):
        raise ReadingError(
            f"{source.pre} has {len(pixels.array)} bands, expected {len(source.bands)} ({', '.join(source.bands)}): "
            f"name them in their order with --bands, such as red,green,blue,nir; '{SKIPPED_BAND}' leaves one out"
        )
    return tuple(name for name in source.bands if name != SKIPPED_BAND)


def _known_mask(mask: np.ndarray, pixels: Pixels, source: SourceScene) -> np.ndarray:
    """The mask, unknown where the image says that it has no data."""
    height, width = pixels.array.shape[1:]
    if mask.shape != (height, width):
        raise DataError(
            f"{source.label} has {mask.shape[1]} x {mask.shape[0]} pixels, its image {source.pre.name} "
            f"{width} x {height}"
        )
    return np.where(pixels.valid, mask, np.uint8(IGNORE))


def _read_extra(extra: ExtraBand, height: int, width: int) -> np.ndarray:
    """uint8 (1, H, W); what is missing at the lower or right border, a pixel or a hundredth, is 0."""
    values = read_file(extra.path).array
    if len(values) != 1:
        raise DataError(f"{extra.path} has {counted(len(values), 'band')}, expected one ({extra.name})")
    short = (height - values.shape[1], width - values.shape[2])
    if min(short) < 0 or short[0] > max(1, height // 100) or short[1] > max(1, width // 100):
        raise DataError(
            f"{extra.path} has {values.shape[2]} x {values.shape[1]} pixels, its image {width} x {height}"
        )
    eight = Stretch((extra.low,), (extra.high,)).apply(values)
    return np.pad(eight, ((0, 0), (0, short[0]), (0, short[1])))


def _grid(source: SourceScene, pixels: Pixels) -> Grid:
    """Grid of an image; a reference system that only the dataset states counts where the file says where it lies."""
    height, width = pixels.array.shape[1:]
    crs = pixels.crs
    if crs is None and source.crs is not None and pixels.transform != IDENTITY:
        crs = CRS.from_user_input(source.crs)
    return Grid(crs, pixels.transform, width, height)


def _crop(array: np.ndarray, window: Window) -> np.ndarray:
    rows = slice(window.row, window.row + window.height)
    return array[..., rows, window.col : window.col + window.width]
