"""Image files of any number of bands, read whole, with the stretch that makes 8 bits of them."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rasterio
from affine import Affine
from PIL import Image, UnidentifiedImageError
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from aftermap.data.image_content import read_bytes
from aftermap.data.scene import RGB
from aftermap.data.stretch import Stretch
from aftermap.errors import DataError

IDENTITY = Affine.identity()
"""Transform of files that do not state where they lie."""

_TIFF = (".tif", ".tiff")
_MOST_PIXELS = 400_000_000
_SAMPLE_PX = 1 << 20
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Pixels:
    """What an image file holds.

    Attributes:
        array: (C, H, W), of any type of number.
        crs: reference system, where the file states one.
        transform: from pixels to that system; the identity where the file states none.
        nodata: value of pixels without data, where the file states one.
        indices: uint8 (H, W), where the file holds indices into a table of colours; `array` has the colours then.
    """

    array: np.ndarray
    crs: CRS | None = None
    transform: Affine = IDENTITY
    nodata: float | None = None
    indices: np.ndarray | None = None


def read_file(path: Path) -> Pixels:
    """Read all pixels of an image file, of any number of bands and type of number.

    Raises:
        DataError: missing, truncated, no image, or larger than 400 million pixels.
    """
    return _read_tiff(path) if path.suffix.lower() in _TIFF else _read_picture(path)


def size_of(path: Path) -> tuple[int, int, int, str]:
    """(bands, height, width, type of number) of an image file, from its header.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                return file.count, file.height, file.width, file.dtypes[0]
    except (RasterioIOError, OSError):
        raise DataError(f"{path} is not an image that can be read") from None


def measure_stretch(
    array: np.ndarray,
    bands: tuple[str, ...] | list[str],
    percentiles: tuple[float, float],
    *,
    valid: np.ndarray | None,
    name: str,
) -> Stretch:
    """Limits of the stretch of an image's bands: red, green and blue share theirs, every other band has its own.

    Args:
        array: (C, H, W); at most about a million of its pixels are looked at.
        bands: their names.
        percentiles: those that become 0 and 255.
        valid: bool (H, W), the pixels that hold data.
        name: of the image, for messages.

    Raises:
        RasterError: no data, or a band of one value.
    """
    step = max(1, int(np.sqrt(array[0].size / _SAMPLE_PX)))
    thin, sees = array[:, ::step, ::step], None if valid is None else valid[::step, ::step]
    low, high = np.zeros(len(bands)), np.zeros(len(bands))
    visible = [number for number, band in enumerate(bands) if band in RGB]
    others = [[number] for number in range(len(bands)) if number not in visible]
    for group in [visible, *others] if visible else others:
        limits = Stretch.measure(thin[group], percentiles, valid=sees, name=name)
        low[group], high[group] = limits.low[0], limits.high[0]
    return Stretch(tuple(low.tolist()), tuple(high.tolist()))


def _read_tiff(path: Path) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                _check_size(path, file.height, file.width)
                array = file.read()
                return Pixels(array, file.crs, file.transform, file.nodata)
    except (RasterioIOError, OSError):
        raise DataError(f"{path} is truncated, damaged, or no TIFF") from None


def _read_picture(path: Path) -> Pixels:
    data = read_bytes(path)
    if data[:8] == _PNG and data[24:25] == b"\x10":
        return Pixels(_read_16_bit(data, path))
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_size(path, image.height, image.width)
            image.load()
            indices = np.asarray(image) if image.mode == "P" else None
            plain = image.mode in ("L", "RGB", "RGBA")
            picture = image if plain else image.convert("L" if image.mode in ("1", "LA") else "RGB")
            array = np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image that can be read") from None
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path} is truncated or damaged ({error})") from None
    return Pixels(array, indices=indices)


def _read_16_bit(data: bytes, path: Path) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"{path} is truncated or damaged")
    bands = np.atleast_3d(image)
    if bands.shape[2] >= 3:
        bands = bands[..., [2, 1, 0, *range(3, bands.shape[2])]]
    array: np.ndarray = bands.transpose(2, 0, 1)
    return array


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > _MOST_PIXELS:
        raise DataError(
            f"{path} has {width} x {height} pixels, more than {_MOST_PIXELS:,}: cut it into parts"
        )
