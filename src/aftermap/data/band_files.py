"""Image files of any number of bands, read whole, with the stretch that makes 8 bits of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from aftermap.data.scene import RGB
from aftermap.data.stretch import Stretch
from aftermap.errors import DataError, RasterError
from aftermap.geo.opening.limits import opened
from aftermap.geo.opening.whole import WholeImage

IDENTITY = Affine.identity()
"""Transform of files that do not state where they lie."""

_TIFF = (".tif", ".tiff")
_SAMPLE_PX = 1 << 20


@dataclass(frozen=True, slots=True)
class Pixels:
    """What an image file holds.

    Attributes:
        array: (C, H, W), of any type of number; opacity comes last.
        crs: reference system, where the file states one.
        transform: from pixels to that system; the identity where the file states none.
        valid: bool (H, W) where the file says that ground was seen.
        indices: uint8 (H, W), where the file holds indices into a table of colours; `array` has the colours then.
    """

    array: np.ndarray
    crs: CRS | None
    transform: Affine
    valid: np.ndarray
    indices: np.ndarray | None = None


def read_file(path: Path) -> Pixels:
    """Read all pixels of an image file, of any number of bands and type of number.

    Raises:
        DataError: missing, truncated, no image, or larger than 400 million pixels.
    """
    try:
        image = WholeImage.read(path)
    except RasterError as error:
        raise DataError(str(error)) from None
    if image.colours is None or path.suffix.lower() in _TIFF:
        return Pixels(image.array, image.crs, image.transform, image.valid)
    return Pixels(image.colours, image.crs, image.transform, image.valid, image.array[0])


def size_of(path: Path) -> tuple[int, int, int, str]:
    """(bands, height, width, type of number) of an image file, from its header.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with opened(path) as file:
            return file.count, file.height, file.width, file.dtypes[0]
    except RasterError as error:
        raise DataError(str(error)) from None


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
