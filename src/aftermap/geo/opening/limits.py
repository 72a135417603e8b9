"""What an image file may be: known formats by content, budgets checked from the header, nothing cut off.

Everything here happens before a pixel is decoded, so that a hostile or damaged file costs a message, not memory.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, RasterioError

from aftermap.errors import RasterError
from aftermap.geo.grid import quiet_without_georeference
from aftermap.geo.opening.plain_vrt import check_vrt
from aftermap.geo.opening.sidecars import check_sidecars

MAX_PIXELS_VARIABLE = "AFTERMAP_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 4_000_000_000
"""Above this many pixels, the file must be large enough to hold what its header claims."""

MAX_BLOCK_BYTES = 1 << 30
"""A compressed block is decoded whole, so it bounds the memory of the smallest read."""

MAX_COMPRESSION = 1032
"""Source: the largest ratio that DEFLATE can reach (zlib technical details)."""

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".jp2", ".j2k")
_DRIVERS = {
    "TIFF": "GTiff", "PNG": "PNG", "JPEG": "JPEG", "WebP": "WEBP", "JPEG 2000": "JP2OpenJPEG", "VRT": "VRT",
}  # fmt: skip
_TAIL = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
_PROBED_BLOCKS = 64

GDAL_ERRORS = (RasterioError, CPLE_BaseError, CRSError)
"""What rasterio raises where GDAL cannot go on."""

GDAL_OPTIONS: dict[str, Any] = {
    # bytes; the default of 5 % of the memory would let windows pile up; see `held_bytes`
    "GDAL_CACHEMAX": 96 * 2**20,
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,  # a truncated JPEG is otherwise filled with grey
    "GDAL_DISABLE_READDIR_ON_OPEN": True,  # a folder may hold a hundred thousand tiles
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",  # nothing is read from the network
    "GDAL_VRT_ENABLE_PYTHON": False,
    "GDAL_VRT_ENABLE_RAWRASTERBAND": False,
}
"""Options of the `rasterio.Env` in which every file is opened and read."""


def max_pixels() -> int:
    """The pixel budget of one image: `AFTERMAP_MAX_PIXELS`, or the default.

    Raises:
        RasterError: the variable is not a positive whole number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    try:
        value = int(float(text))
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise RasterError(f"{MAX_PIXELS_VARIABLE} is {text!r}, expected a number of pixels such as 4e9")
    return value


_ROW_CACHE = 64 * 2**20
_WINDOW_PX = _BLOCK_PX = 1024  # of a map's windows, and what two blocks of an image usually span


def held_bytes(height: int, width: int, pixel_bytes: int) -> int:
    """How many bytes of decoded blocks are worth holding while two dates are read in windows.

    All of them where that is little, so that nothing is decoded twice; else those under a row of windows, of which the
    next row wants the lower ones again; and where these are too many, those under a window and its neighbour. What lies
    in between only costs memory: the blocks longest unused go first, and these are the ones wanted next.

    Args:
        height: of an image.
        width: of it.
        pixel_bytes: of all its bands.
    """
    everything: int = GDAL_OPTIONS["GDAL_CACHEMAX"]
    date = height * width * pixel_bytes
    if 2 * date <= everything:
        return everything
    span = (_WINDOW_PX + _BLOCK_PX) * pixel_bytes
    row = 2 * span * width
    return row if row <= _ROW_CACHE else min(everything, 2 * span * (_WINDOW_PX + _BLOCK_PX))


@contextmanager
def reading(path: Path, *, held: int | None = None) -> Iterator[None]:
    """Where an image is read: every error of GDAL, which may come late, becomes one line.

    Args:
        path: the image.
        held: how many bytes of decoded blocks are held for the next one; see `held_bytes`.

    Raises:
        RasterError: GDAL raised one.
    """
    try:
        with rasterio.Env(**GDAL_OPTIONS | ({} if held is None else {"GDAL_CACHEMAX": held})):
            yield
    except GDAL_ERRORS as error:
        raise RasterError(
            f"cannot read {path}: its image data is truncated or damaged ({one_line(error)})"
        ) from None


@contextmanager
def opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    """An image that has been checked, open for as long as it is read; see `open_checked` and `reading`."""
    with reading(path), open_checked(path) as dataset:
        yield dataset


def open_checked(path: Path) -> rasterio.DatasetReader:
    """Open an image whose format, size and completeness have been checked; call inside of `reading`.

    Raises:
        RasterError: missing or unreadable file, unknown format, header beyond the budget, truncated data.
    """
    kind = _check_source(path)
    if kind == "VRT":
        check_vrt(path, _check_source)
    try:
        with quiet_without_georeference():
            dataset = rasterio.open(path, driver=_DRIVERS[kind])
    except GDAL_ERRORS as error:
        raise RasterError(
            f"{path} starts like a {kind} but is truncated or damaged: {one_line(error)}"
        ) from None
    try:
        check_header(dataset, path, path.stat().st_size)
        _check_end(path, kind)
    except RasterError:
        dataset.close()
        raise
    return dataset


def check_header(dataset: rasterio.DatasetReader, name: Path | str, size: int) -> None:
    """Check what an open image claims against the bytes that it has.

    Args:
        dataset: the image.
        name: of it, for messages.
        size: of its file, in bytes.

    Raises:
        RasterError: it names other files, is beyond the budget, or is not all there.
    """
    if dataset.tags(ns="OVERVIEWS"):
        raise RasterError(
            f"{name} names another file as its overviews: rewrite it with 'gdal_translate -of COG'"
        )
    _check_budget(dataset, name, size)
    if dataset.driver == "GTiff":
        _check_blocks(dataset, name, size)


def one_line(error: BaseException) -> str:
    """The innermost reason of an error, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def image_format(head: bytes, name: Path | str) -> str:
    """Name of an image format.

    Args:
        head: the first bytes of the file, 16 at least.
        name: of the file, for messages.

    Raises:
        RasterError: it is none that is read.
    """
    if not head:
        raise RasterError(f"{name} is empty (0 bytes), expected an image")
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or head[:4] == b"\xff\x4f\xff\x51":
        return "JPEG 2000"
    named_vrt = Path(name).suffix.lower() == ".vrt"  # alone makes one of what could be any XML
    if named_vrt and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:4] == b"<VRT":
        return "VRT"
    known = ", ".join(kind for kind in _DRIVERS if named_vrt or kind != "VRT")
    raise RasterError(f"{name} is not an image: its content is none of {known}, whatever its name says")


def _format(path: Path) -> str:
    """Name of the image format, from the first bytes of the file."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise RasterError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    return image_format(head, path)


def _check_source(path: Path) -> str:
    """Name of the format of a file beside which nothing lies that GDAL must not open."""
    kind = _format(path)
    check_sidecars(path)
    return kind


def _check_budget(dataset: rasterio.DatasetReader, name: Path | str, size: int) -> None:
    pixels = dataset.width * dataset.height
    if dataset.driver == "PNG" and pixels * dataset.count > size * MAX_COMPRESSION * 8:
        raise _truncated(name, size)
    itemsize = max(_itemsize(dtype) for dtype in dataset.dtypes)
    limit = max_pixels()
    plausible = size * MAX_COMPRESSION >= pixels * itemsize * dataset.count
    if pixels > limit and not plausible:
        raise RasterError(
            f"{name} claims {dataset.width} x {dataset.height} pixels in {size} bytes, more than the "
            f"limit of {limit:.3g} pixels for a file of that size: if that is right, set {MAX_PIXELS_VARIABLE}={pixels}"
        )
    if dataset.compression is None or dataset.driver != "GTiff":
        return
    rows, cols = dataset.block_shapes[0]
    bands = dataset.count if dataset.interleaving is not None and dataset.interleaving.value == "PIXEL" else 1
    if rows * cols * itemsize * bands > MAX_BLOCK_BYTES:
        raise RasterError(
            f"{name} is compressed in blocks of {rows} x {cols} pixels, more than the limit of "
            f"{MAX_BLOCK_BYTES >> 20} MB: rewrite it with 'gdal_translate -of COG'"
        )


def _check_end(path: Path, kind: str) -> None:
    """Refuse a file that does not end as its format does."""
    size = path.stat().st_size
    if tail := _TAIL.get(kind):
        with path.open("rb") as file:
            file.seek(max(0, size - 4096))
            if tail not in file.read():
                raise _truncated(path, size)


def _check_blocks(dataset: rasterio.DatasetReader, name: Path | str, size: int) -> None:
    """Refuse a TIFF whose last blocks lie beyond its end; blocks in between are found while reading."""
    rows, cols = dataset.block_shapes[0]
    across, down = math.ceil(dataset.width / cols), math.ceil(dataset.height / rows)
    number = across * down
    for index in {round(i * (number - 1) / (_PROBED_BLOCKS - 1)) for i in range(_PROBED_BLOCKS)}:
        block = f"{index % across}_{index // across}"
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{block}", "TIFF", bidx=dataset.count)
        length = dataset.get_tag_item(f"BLOCK_SIZE_{block}", "TIFF", bidx=dataset.count)
        if offset is not None and length is not None and int(offset) + int(length) > size:
            raise _truncated(name, size)


def _truncated(path: Path | str, size: int) -> RasterError:
    return RasterError(
        f"{path} is truncated: its image data goes on beyond its end at {size} bytes; copy it again"
    )


def _itemsize(dtype: str) -> int:
    digits = "".join(character for character in dtype if character.isdigit())
    return max(1, int(digits or 8) // 8)
