"""What decoding an image tells the doctor, kept by content: what has been decoded once is not decoded again.

Facts lie in the cache (`AFTERMAP_CACHE`) under a digest of everything that they follow from: the bytes of the image, of
its masks and of the files beside it that change its pixels, its header as it is read today, and the versions of what
decodes. A changed file has another digest, whatever its name, size and date.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio

import aftermap
from aftermap.classes import IGNORE
from aftermap.data.band_files import read_file
from aftermap.data.checking.turned import lies_on_shown
from aftermap.data.file_content import checksum, read_bytes
from aftermap.errors import DataError
from aftermap.files.choices import digest, recall, remember
from aftermap.geo.grid import Grid
from aftermap.geo.opening.files import OpenFiles, RasterFile

HASH_SIDE = 16

_FORM = 1
"""Goes up whenever other facts are told of the same bytes, by this module or by `geo.rests`."""

_KEPT_IN = "images"
_BESIDE = (".msk", ".MSK", ".aux.xml")  # what GDAL reads beside an image and lays over its pixels


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of an image and the masks that lie on it.

    Attributes:
        orientation: by EXIF.
        hidden: share of it that is no ground, by its own word or as a rest that nothing declares.
        guessed: share of it in such rests, where a mask claims to know something of them; else 0.
        colours: of the rests, in words.
        place: of the first rest, in words.
        nodata: the value that says the same of the rests where it is declared, or None.
        turned: number of the first mask that lies on the view that EXIF wants to be shown, or None.
        hash: bits of a difference hash as hexadecimal digits; None where it is flat or was not asked for.
    """

    orientation: int
    hidden: float
    guessed: float
    colours: str = ""
    place: str = ""
    nodata: float | None = None
    turned: int | None = None
    hash: str | None = None


def image_facts(path: Path, masks: Sequence[Path], *, hashed: bool) -> tuple[str, ImageFacts]:
    """The SHA-256 of an image and its facts: recalled, or found and kept.

    Args:
        path: of the image.
        masks: that lie on it.
        hashed: whether the hash is wanted.

    Raises:
        DataError: its bytes cannot be read.
        RasterError: they are no image that can be decoded.
    """
    before = _stamp(path)
    content = checksum(read_bytes(path))
    file = RasterFile.inspect(path, placed=False)
    key = _key(file, content, masks, hashed=hashed)
    if key is not None and (known := _recalled(key)) is not None:
        return content, known
    found = _find(file, masks, hashed=hashed)
    if (
        key is not None and before is not None and _stamp(path) == before
    ):  # else other bytes were decoded than read
        remember(key, asdict(found), kind=_KEPT_IN)
    return content, found


def hash_bits(facts: ImageFacts) -> np.ndarray | None:
    """Bits of the signs of horizontal differences in a reduced grey image; None for flat images."""
    if facts.hash is None:
        return None
    bits: np.ndarray = np.unpackbits(np.frombuffer(bytes.fromhex(facts.hash), np.uint8)).astype(bool)
    return bits


def _key(file: RasterFile, content: str, masks: Sequence[Path], *, hashed: bool) -> str | None:
    """What the facts of a file go by; None where not all can be known that they depend on."""
    read = (file.path, *masks)
    if any(path.suffix.lower() == ".vrt" for path in read):  # whose pixels lie in other files
        return None
    # the grid counts pixels, and the path tells nothing but how a palette is read
    header = asdict(replace(file, path=Path(file.path.suffix.lower()), grid=Grid.pixels(1, 1)))
    beside = [
        (number, suffix, part)
        for number, path in enumerate(read)
        for suffix in _BESIDE
        if (part := path.with_name(path.name + suffix)).exists()
    ]
    try:
        sums = [checksum(part.read_bytes()) for part in (*masks, *(part for *_, part in beside))]
    except OSError:
        return None
    versions = (_FORM, aftermap.__version__, rasterio.__gdal_version__, cv2.__version__)
    return digest(versions, content, file.grid.shape, header, [part[:2] for part in beside], sums, hashed)


def _recalled(key: str) -> ImageFacts | None:
    told: dict[str, Any] | None = recall(key, kind=_KEPT_IN)
    try:
        return None if told is None else ImageFacts(**told)
    except TypeError:  # not written by us
        return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _find(file: RasterFile, masks: Sequence[Path], *, hashed: bool) -> ImageFacts:
    files = OpenFiles()
    try:
        pixels, seen, rests = files.whole(file)
    finally:
        files.close()
    hidden = 1 - np.count_nonzero(seen) / seen.size
    guessed = sum(rest.pixels for rest in rests) / seen.size
    if guessed and masks and all(_is_unknown(mask, ~seen) for mask in masks):
        guessed = 0.0
    turned = None
    if file.orientation != 1:
        grey = pixels[:3].mean(axis=0, dtype=np.float32)
        shown = (n for n, mask in enumerate(masks) if _lies_on_shown(mask, grey, file.orientation))
        turned = next(shown, None)
    return ImageFacts(
        file.orientation,
        hidden,
        guessed,
        " or ".join(rest.colour for rest in rests),
        rests[0].place if rests else "",
        next((rest.nodata for rest in rests if rest.nodata is not None), None),
        turned,
        _hash(_grey(file, pixels)) if hashed else None,
    )


def _lies_on_shown(mask: Path, grey: np.ndarray, orientation: int) -> bool:
    try:
        return lies_on_shown(grey, read_file(mask).array[0], orientation)
    except DataError:
        return False


def _is_unknown(mask: Path, hidden: np.ndarray) -> bool:
    """Whether a mask says nothing of the pixels that its image does not show."""
    try:
        labels = read_file(mask).array[0]
    except DataError:
        return False
    return labels.shape == hidden.shape and bool((labels[hidden] == IGNORE).all())


def _grey(file: RasterFile, pixels: np.ndarray) -> np.ndarray | None:
    """An image in grey (H, W), of its data bands where they are colours; None where it cannot be read."""
    if file.alpha is not None or file.has_palette or file.bits not in (None, 8):
        try:
            pixels = read_file(file.path).array
        except DataError:
            return None
    grey: np.ndarray = pixels[:3].mean(axis=0, dtype=np.float32)
    return grey


def _hash(image: np.ndarray | None) -> str | None:
    if image is None:
        return None
    small = cv2.resize(image, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(float)
    if small.std() < 4:
        return None
    return np.packbits(np.diff(small, axis=1) > 0).tobytes().hex()
