"""One image file: its header, checked, and exact reads of its pixels."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from aftermap.errors import GeoreferenceError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.ground import (
    Nodata,
    band_nodata,
    check_nodata,
    holds_nodata,
    is_opaque,
    opaque_value,
)
from aftermap.geo.opening.georeference import native_grid
from aftermap.geo.opening.limits import held_bytes, open_checked, opened, reading
from aftermap.geo.rests import ReadPixels, Rest, find_rests, strips

MAX_OPEN = 16
_ALPHA_PROBES = 4
_ALPHA_PROBE_PX = 256
_DATE_TAGS = ("EXIF_DateTimeOriginal", "TIFFTAG_DATETIME")
_DATE_FORMS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%Y:%m:%d")


@dataclass(frozen=True)
class RasterFile:
    """Header of one image.

    Attributes:
        path: the file.
        grid: where its pixels lie.
        count: bands that hold data (an alpha band is not counted).
        dtype: numpy name of the bands' common type.
        alpha: 1-based index of the alpha band, or None.
        opaque: the alpha band's full value, or None where it hides nothing.
        nodata: value per data band that means "nothing here" (see `ground.band_nodata`), or None.
        has_mask: a mask lies beside the bands.
        is_sparse: a TIFF that leaves out blocks.
        guesses: whether black and white rests are looked for.
        has_palette: the single band holds indices into a colour table.
        acquired: when it was taken, by its metadata, or None.
        colours: 1-based bands called red, green and blue, where the file names each once; else None.
        bits: of a value, where these are fewer than its type has.
        orientation: by EXIF, 1 where the pixels are stored as they are to be seen. They are read as stored.
    """

    path: Path
    grid: Grid
    count: int
    dtype: str
    alpha: int | None
    opaque: float | None
    nodata: tuple[float | None, ...] | None
    has_mask: bool
    is_sparse: bool
    guesses: bool
    has_palette: bool
    acquired: datetime | None = None
    orientation: int = 1
    bits: int | None = None
    colours: tuple[int, int, int] | None = None

    @classmethod
    def inspect(
        cls, path: Path, *, grid: Grid | None = None, nodata: Nodata | None = None, placed: bool = True
    ) -> "RasterFile":
        """Read and check a header.

        Args:
            path: a GeoTIFF, PNG, JPEG or WebP.
            grid: georeference that replaces the file's own.
            placed: whether it matters where it lies; otherwise its grid counts pixels.
            nodata: value of pixels without ground, in place of what the file declares and without guesses;
                `declared` only keeps from guessing, `none` says that every pixel is ground.

        Raises:
            RasterError: the file cannot be used as an image.
            GeoreferenceError: its georeference is incomplete, or `grid` has another size.
        """
        with opened(path) as dataset:
            if grid is not None and grid.shape != dataset.shape:
                raise GeoreferenceError(
                    f"{path} has {dataset.width} x {dataset.height} pixels, its georeference is for "
                    f"{grid.width} x {grid.height}"
                )
            if grid is None:
                plain = Grid.pixels(dataset.width, dataset.height)
                grid = native_grid(dataset, path) if placed else plain
            return cls.of(dataset, path, grid, nodata)

    @classmethod
    def of(
        cls, dataset: rasterio.DatasetReader, path: Path, grid: Grid, nodata: Nodata | None
    ) -> "RasterFile":
        """The same of an open image that lies on `grid`."""
        dtypes = set(dataset.dtypes)
        if len(dtypes) > 1 or "complex" in dataset.dtypes[0]:
            raise RasterError(
                f"{path} holds {', '.join(sorted(dtypes))} bands, expected one integer or float type for all"
            )
        alpha, opaque = _opacity(dataset)
        bands = tuple(band for band in range(1, dataset.count + 1) if band != alpha)
        given = nodata if isinstance(nodata, (int, float)) else None
        check_nodata(given, dataset.dtypes[0], path)
        declared = [dataset.nodatavals[band - 1] if given is None else given for band in bands]
        everything = nodata == "none"
        return cls(
            path=path,
            grid=grid,
            count=len(bands),
            dtype=dataset.dtypes[0],
            alpha=alpha,
            opaque=None if everything else opaque,
            nodata=None if everything else band_nodata(declared, dataset.dtypes[0]),
            has_mask=not everything and _has_mask(dataset),
            is_sparse=not everything and _is_sparse(dataset, bands),
            guesses=nodata is None,
            has_palette=dataset.colorinterp[0] == ColorInterp.palette,
            acquired=_acquired(dataset),
            orientation=_orientation(dataset),
            bits=_bits(dataset),
            colours=_colours(dataset),
        )

    @property
    def bands(self) -> tuple[int, ...]:
        """1-based indices of all data bands."""
        total = self.count + (self.alpha is not None)
        return tuple(band for band in range(1, total + 1) if band != self.alpha)

    @property
    def hides(self) -> bool:
        """Whether the file may say of a pixel that no ground was seen there."""
        floats = np.dtype(self.dtype).kind == "f"
        return floats or self.is_sparse or self.has_mask or self.nodata is not None or self.opaque is not None

    @property
    def held_bytes(self) -> int:
        """Of decoded blocks that are worth holding while it is read; see `limits.held_bytes`."""
        bands = self.count + (self.alpha is not None)
        return held_bytes(*self.grid.shape, bands * np.dtype(self.dtype).itemsize)


class OpenFiles:
    """Reads windows of many files while only the last few are held open; safe to share between threads."""

    def __init__(self) -> None:
        self._datasets: OrderedDict[Path, rasterio.DatasetReader] = OrderedDict()
        self._rests: dict[Path, tuple[Rest, ...]] = {}
        self._lock = threading.RLock()

    def read(self, file: RasterFile, window: Window, bands: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Exact pixels of a window inside the file.

        Returns:
            Array (C, H, W) in the file's type and validity (H, W): where ground was seen, see `ground`.

        Raises:
            RasterError: the pixels cannot be decoded.
        """
        with self._lock:
            rests = self.rests(file)
            array, everything, valid = self._declared(file, window, bands, whole=bool(rests))
            for rest in rests:
                valid &= ~rest.covers(everything, window)
        return array, valid

    def rests(self, file: RasterFile) -> tuple[Rest, ...]:
        """The black and white rests of a file, looked for once.

        Raises:
            RasterError: the pixels cannot be decoded.
        """
        if not file.guesses or file.has_palette:
            return ()
        with self._lock:
            if file.path not in self._rests:
                height, width = file.grid.shape

                def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
                    return read_declared(self._dataset(file.path), file, window, file.bands, whole=True)[1:]

                with reading(file.path, held=file.held_bytes):
                    self._rests[file.path] = find_rests(read, height, width, file.dtype)
            return self._rests[file.path]

    def whole(self, file: RasterFile) -> tuple[np.ndarray, np.ndarray, tuple[Rest, ...]]:
        """All pixels of a file, where ground was seen, and its rests: decoded once; see `read`.

        Raises:
            RasterError: the pixels cannot be decoded.
        """
        with self._lock:
            array, everything, valid = self._declared(file, file.grid.window, file.bands, whole=True)
            if file.path not in self._rests and file.guesses and not file.has_palette:
                self._rests[file.path] = find_rests(_held(everything, valid), *file.grid.shape, file.dtype)
            rests = self.rests(file)
            for rest in rests:
                valid = valid & ~rest.covers(everything, file.grid.window)
        return array, valid, rests

    def has_ground(self, file: RasterFile) -> bool:
        """Whether any pixel is ground; the reading ends with the first one.

        Raises:
            RasterError: the pixels cannot be decoded.
        """
        return any(self.read(file, window, file.bands[:1])[1].any() for window in strips(*file.grid.shape, 1))

    def close(self) -> None:
        """Close every file; reading opens them again."""
        with self._lock:
            while self._datasets:
                self._datasets.popitem()[1].close()

    def _declared(
        self, file: RasterFile, window: Window, bands: tuple[int, ...], *, whole: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with reading(file.path, held=file.held_bytes):
            return read_declared(self._dataset(file.path), file, window, bands, whole=whole)

    def _dataset(self, path: Path) -> rasterio.DatasetReader:
        if path in self._datasets:
            self._datasets.move_to_end(path)
        else:
            while len(self._datasets) >= MAX_OPEN:
                self._datasets.popitem(last=False)[1].close()
            self._datasets[path] = open_checked(path)
        return self._datasets[path]


def read_declared(
    dataset: rasterio.DatasetReader,
    file: RasterFile,
    window: Window,
    bands: tuple[int, ...],
    *,
    whole: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of a window, and where the file itself says that ground was seen; call inside of `limits.reading`.

    Returns:
        the bands asked for (C, H, W), all data bands where `whole` or nodata needs them, validity (H, W).
    """
    region = ((window.row, window.row + window.height), (window.col, window.col + window.width))
    whole = whole or file.nodata is not None
    wanted = (*bands, *(band for band in file.bands if whole and band not in bands))
    stack = dataset.read(list(wanted), window=region)
    valid = np.ones(stack.shape[1:], bool)
    if file.has_mask:
        valid &= dataset.read_masks(1, window=region) > 0
    if file.opaque is not None and file.alpha not in bands:  # asked for, it is data
        valid &= is_opaque(dataset.read(file.alpha, window=region), file.opaque)
    if file.is_sparse:
        for hole in _left_out(dataset, window, file.bands):
            valid[hole.slices] = False
    array = stack[: len(bands)]
    everything = stack if whole else array
    if whole and (wanted != file.bands or array.dtype.kind == "f"):
        everything = stack[[wanted.index(band) for band in file.bands]]
    if file.nodata is not None:
        valid &= ~holds_nodata(everything, file.nodata)
    if array.dtype.kind == "f":
        finite = np.isfinite(array).all(axis=0)
        if not finite.all():
            valid &= finite
            array[:, ~finite] = 0
    return array, everything, valid


def _held(array: np.ndarray, valid: np.ndarray) -> ReadPixels:
    """Reads windows of pixels (C, H, W) and their validity (H, W) that are in memory."""

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        return array[(slice(None), *window.slices)], valid[window.slices]

    return read


def _has_mask(dataset: rasterio.DatasetReader) -> bool:
    """Whether a mask lies beside the bands; a band called alpha is none."""
    flags = {flag.name for flag in dataset.mask_flag_enums[0]}
    return "per_dataset" in flags and "alpha" not in flags


def _opacity(dataset: rasterio.DatasetReader) -> tuple[int, float] | tuple[None, None]:
    """The last band called alpha and its full value, from samples all over it; None where it is data."""
    called = [band for band, name in enumerate(dataset.colorinterp, 1) if name == ColorInterp.alpha]
    if dataset.count == 1 or not called:
        return None, None
    height, width = dataset.shape
    side = _ALPHA_PROBE_PX
    rows, cols = (
        np.unique(np.linspace(0, max(0, length - side), _ALPHA_PROBES).astype(int)).tolist()
        for length in (height, width)
    )
    samples = [
        dataset.read(called[-1], window=((row, min(height, row + side)), (col, min(width, col + side))))
        for row in rows
        for col in cols
    ]
    full = opaque_value(np.concatenate([sample.ravel() for sample in samples]))
    return (None, None) if full is None else (called[-1], full)


def _left_out(dataset: rasterio.DatasetReader, window: Window, bands: tuple[int, ...]) -> Iterator[Window]:
    """Parts of a window whose blocks a sparse TIFF leaves out in all data bands."""
    high, wide = dataset.block_shapes[0]
    apart = dataset.interleaving is not None and dataset.interleaving.value == "BAND"
    stored = bands if apart else bands[:1]
    bottom, right = window.row + window.height, window.col + window.width
    for y in range(window.row // high, -(-bottom // high)):
        for x in range(window.col // wide, -(-right // wide)):
            if all(
                dataset.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band) is None for band in stored
            ):
                top, left = max(0, y * high - window.row), max(0, x * wide - window.col)
                yield Window(
                    top,
                    left,
                    min(window.height, (y + 1) * high - window.row) - top,
                    min(window.width, (x + 1) * wide - window.col) - left,
                )


def _is_sparse(dataset: rasterio.DatasetReader, bands: tuple[int, ...]) -> bool:
    whole = Window(0, 0, dataset.height, dataset.width)
    return dataset.driver == "GTiff" and any(True for _ in _left_out(dataset, whole, bands))


def _acquired(dataset: rasterio.DatasetReader) -> datetime | None:
    """When an image was taken: by its sensor, its camera, or the date in its TIFF header."""
    tags = dataset.tags()
    told = (dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME"), *(tags.get(name) for name in _DATE_TAGS))
    for text in told:
        for form in _DATE_FORMS if text is not None else ():
            with suppress(ValueError):
                return datetime.strptime(str(text).strip()[:19], form)
    return None


def _colours(dataset: rasterio.DatasetReader) -> tuple[int, int, int] | None:
    named = {
        name: band for band, name in enumerate(dataset.colorinterp, 1) if dataset.colorinterp.count(name) == 1
    }
    red, green, blue = (named.get(name) for name in (ColorInterp.red, ColorInterp.green, ColorInterp.blue))
    return None if red is None or green is None or blue is None else (red, green, blue)


def _bits(dataset: rasterio.DatasetReader) -> int | None:
    text = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "")
    return int(text) if text.isdecimal() else None


def _orientation(dataset: rasterio.DatasetReader) -> int:
    text = dataset.tags().get("EXIF_Orientation", "1").strip()
    return int(text) if text in "12345678" and len(text) == 1 else 1
