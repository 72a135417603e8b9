"""What is in a sample of another library: which of its entries are images and masks, and what their numbers mean."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from affine import Affine

from aftermap.data.band_files import IDENTITY, Pixels, measure_stretch, read_file
from aftermap.data.preparing.class_image import SKIPPED_BAND
from aftermap.data.scene import RGB
from aftermap.data.stretch import Stretch
from aftermap.errors import DataError, InputError, RasterError
from aftermap.wording import counted

Sample = Mapping[str, Any]
"""Entries by name: arrays, tensors, PIL images, paths of image files, or `{"bytes": ..., "path": ...}`."""


class Samples(Protocol):
    """Samples that are asked for by their number; picklable where several processes are wanted."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, number: int, /) -> Sample:
        """One of them, from 0 on."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which entries of a sample are read, and how.

    Attributes:
        image: image of the first date, or of both, stacked (2, C, H, W).
        after: image of the second date, where that is an entry of its own.
        mask: classes; a sample without it is without labels.
        bands: names of the images' bands in their order; `-` leaves one out. None: red, green and blue.
        limits: values that become 0 and 255.
        percentiles: those of each image that become 0 and 255, instead of `limits`. With neither, images have to hold
            whole numbers from 0 to 255.
    """

    image: str = "image"
    after: str | None = None
    mask: str = "mask"
    bands: tuple[str, ...] | None = None
    limits: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            InputError: both ways to 8 bits, limits that do not rise, or bands of one name.
        """
        if self.limits is not None and self.percentiles is not None:
            raise InputError("--range and --stretch both say what becomes 0 and 255: leave one out")
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise InputError(
                f"--range {self.limits[0]:g},{self.limits[1]:g} does not rise: pass for example 0,1"
            )
        kept = self.kept
        if not kept or len(set(kept)) != len(kept):
            raise InputError(f"--bands {','.join(self.named)} has to keep bands of different names")

    @property
    def named(self) -> tuple[str, ...]:
        """Bands in their order, those left out among them."""
        return self.bands or RGB

    @property
    def kept(self) -> tuple[str, ...]:
        """Bands that are kept: red, green and blue first where all three are among them."""
        kept = tuple(name for name in self.named if name != SKIPPED_BAND)
        return (*RGB, *(name for name in kept if name not in RGB)) if set(RGB) <= set(kept) else kept

    def images(self, sample: Sample, where: str) -> list[Pixels]:
        """The dates of a sample, 8 bits each; the second may have one band alone.

        Raises:
            DataError: entries that are missing or are no images.
        """
        first = self._pixels(sample, self.image, where)
        if first.array.ndim == 4:
            if self.after is not None or len(first.array) != 2:
                raise DataError(
                    f"{where} has {self.image} of shape {first.array.shape}, expected (C, H, W), or both dates in one "
                    "(2, C, H, W) and no other column for the second"
                )
            dates = [_plain(part) for part in first.array]
        else:
            dates = [first] if self.after is None else [first, self._pixels(sample, self.after, where)]
        made = [self._eight_bits(date, where, number) for number, date in enumerate(dates)]
        sizes = [date.array.shape[1:] for date in made]
        if len(set(sizes)) > 1:
            shown = " and ".join(f"{width} x {height}" for height, width in sizes)
            raise DataError(f"{where} has dates of {shown} pixels: both must be on one grid")
        return made

    def label(self, sample: Sample, where: str) -> Pixels | None:
        """The mask of a sample, uint8 (1 or 3, H, W) as it is stored; None where the sample has none.

        Raises:
            DataError: it is no mask of 8 bits.
        """
        value = sample.get(self.mask)
        if value is None:
            return None
        found = _read(value, f"{where}, {self.mask}")
        array = found.array[None] if found.array.ndim == 2 else found.array
        if array.ndim == 3 and array.shape[0] > 4 and array.shape[2] in (1, 3):
            array = array.transpose(2, 0, 1)
        if array.ndim != 3 or len(array) not in (1, 3, 4):
            raise DataError(
                f"{where} has {self.mask} of shape {array.shape}, expected one class for each pixel"
            )
        if array.dtype != np.uint8:
            whole = array.astype(np.int64) if np.isfinite(array.astype(np.float64)).all() else None
            if whole is None or (whole != array).any() or whole.min() < 0 or whole.max() > 255:
                raise DataError(
                    f"{where} has {self.mask} with values from {array.min()} to {array.max()}, expected numbers of "
                    "classes from 0 to 255"
                )
            array = whole.astype(np.uint8)
        return Pixels(array, found.crs, found.transform, found.valid, found.indices)

    def _pixels(self, sample: Sample, name: str, where: str) -> Pixels:
        value = sample.get(name)
        if value is None:
            entries = ", ".join(sorted(map(str, sample))) or "nothing"
            raise DataError(f"{where} has no {name}: it has {entries}; name the image with --image")
        found = _read(value, f"{where}, {name}")
        if found.array.ndim == 2:
            return Pixels(found.array[None], found.crs, found.transform, found.valid)
        if found.array.ndim not in (3, 4):
            raise DataError(f"{where} has {name} of shape {found.array.shape}, expected an image (C, H, W)")
        return found

    def _eight_bits(self, date: Pixels, where: str, number: int) -> Pixels:
        """uint8 (C, H, W) of the bands that are kept."""
        named, array = self.named, _bands_first(date.array, len(self.named), where)
        alone = number == 1 and len(array) == 1
        if not alone and len(array) != len(named):
            raise DataError(
                f"{where} has {counted(len(array), 'band')}, expected {len(named)} ({', '.join(named)}): name them in "
                f"their order with --bands, such as red,green,blue,nir; '{SKIPPED_BAND}' leaves one out"
            )
        if not alone:
            array = array[[named.index(name) for name in self.kept]]
        valid = date.valid if date.valid.shape == array.shape[1:] else np.ones(array.shape[1:], bool)
        return Pixels(self._stretched(array, valid, where), date.crs, date.transform, valid)

    def _stretched(self, array: np.ndarray, valid: np.ndarray, where: str) -> np.ndarray:
        if self.limits is not None:
            low, high = self.limits
            return Stretch((low,), (high,)).apply(array)
        if self.percentiles is not None:
            names = self.kept if len(array) == len(self.kept) else ("grey",)
            try:
                return measure_stretch(array, names, self.percentiles, valid=valid, name=where).apply(array)
            except RasterError as error:
                raise DataError(str(error)) from None
        if array.max() == 1 and ((array == 0) | (array == 1)).all():
            raise DataError(
                f"{where} has no values but 0 and 1: pass --range 0,1, or --range 0,255 if that is right"
            )
        if array.dtype == np.uint8:
            return array
        values = np.nan_to_num(array.astype(np.float64), nan=-1)
        if (values != values.round()).any() or values.min() < 0 or values.max() > 255:
            raise DataError(
                f"{where} has values from {array.min():g} to {array.max():g}, expected whole numbers from 0 to 255: say "
                "what becomes 0 and 255 with --range 0,1, or take percentiles of each image with --stretch 2,98"
            )
        if values.max() == 1 and values.size > 1:
            raise DataError(
                f"{where} has no values but 0 and 1: pass --range 0,1, or --range 0,255 if that is right"
            )
        return values.astype(np.uint8)


def _bands_first(array: np.ndarray, bands: int, where: str) -> np.ndarray:
    """(C, H, W), of an array that may have its bands last."""
    first, last = array.shape[0] in (1, bands), array.shape[-1] in (1, bands)
    if first and last and array.shape[0] != array.shape[-1]:
        first, last = array.shape[0] == bands, array.shape[-1] == bands
    return np.moveaxis(array, -1, 0) if last and not first else array


def _read(value: Any, where: str) -> Pixels:
    """An entry as an array of any shape, with the georeference of its file where it is one."""
    if isinstance(value, (str, Path)):
        return read_file(Path(value))
    if isinstance(value, Mapping):
        return _decoded(value, where)
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "uifb" or array.ndim < 2 or not array.size:
        raise DataError(f"{where} is {type(value).__name__} of shape {array.shape}, expected an image")
    return _plain(array.astype(np.uint8) if array.dtype.kind == "b" else array)


def _decoded(value: Mapping[str, Any], where: str) -> Pixels:
    """The image file that an entry holds, or names."""
    content, name = value.get("bytes"), value.get("path")
    if not content:
        if not name:
            raise DataError(f"{where} holds no image file and names none")
        return read_file(Path(name))
    with tempfile.TemporaryDirectory(prefix="aftermap-") as folder:
        path = Path(folder) / f"image{Path(name or '').suffix or '.png'}"
        path.write_bytes(content)
        try:
            return read_file(path)
        except DataError as error:
            raise DataError(f"{where}: {str(error).replace(str(path), 'its image file')}") from None


def _plain(array: np.ndarray) -> Pixels:
    """An array without georeference, all of it seen."""
    return Pixels(array, None, IDENTITY, np.ones(array.shape[-2:], bool))


def placed(pixels: Pixels, sample: Sample) -> Pixels:
    """Pixels with the georeference that torchgeo gives its samples (`crs`, `bounds`), where the image has none."""
    crs, bounds = sample.get("crs"), sample.get("bounds")
    if pixels.crs is not None or crs is None or not isinstance(bounds, tuple) or len(bounds) < 2:
        return pixels
    from rasterio.crs import CRS

    across, along = bounds[:2]
    height, width = pixels.array.shape[1:]
    step = ((across.stop - across.start) / width, (along.stop - along.start) / height)
    transform = Affine(step[0], 0, across.start, 0, -step[1], along.stop)
    return Pixels(pixels.array, CRS.from_user_input(crs), transform, pixels.valid, pixels.indices)


Labels = Literal["building", "damage"]
"""What a mask without legend holds."""
