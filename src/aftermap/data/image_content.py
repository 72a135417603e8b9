"""Content of image files: read whole, checked by decoding all of it, known by its checksum."""

import hashlib
import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from aftermap.errors import DataError

IMAGE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def checksum(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def image_size(data: bytes, path: Path) -> tuple[int, int]:
    """(height, width) of an image file's content, after decoding all of it.

    Raises:
        DataError: truncated, or not an image.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        return _tiff_size(data, path)
    if data[:8] == _PNG and data[24:25] == b"\x10":
        raise DataError(
            f"{path} has 16 bits per band, expected 8: convert it with 'gdal_translate -ot Byte -scale'"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return image.height, image.width
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path} claims to be larger than {_MOST_PIXELS} pixels: cut it into tiles") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path} is truncated or damaged ({error})") from None


def _tiff_size(data: bytes, path: Path) -> tuple[int, int]:
    """The same for TIFFs, of which Pillow reads few kinds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with MemoryFile(data) as memory, memory.open() as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise DataError(
                        f"{path} claims to be larger than {_MOST_PIXELS} pixels: cut it into tiles"
                    )
                image.read()
                return image.height, image.width
    except (RasterioError, ValueError):
        raise DataError(f"{path} is truncated, damaged, or no TIFF") from None
