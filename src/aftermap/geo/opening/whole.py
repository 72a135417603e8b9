"""Whole image files: every image of a data set is read here, by the same decoder and rule of ground as a map's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS

from aftermap.errors import RasterError
from aftermap.geo.grid import Grid
from aftermap.geo.opening.files import RasterFile, read_declared
from aftermap.geo.opening.limits import opened
from aftermap.wording import counted

MOST_PIXELS = 400_000_000


@dataclass(frozen=True)
class WholeImage:
    """All pixels of a file, in the order in which they are stored, whatever EXIF says of turning them.

    Attributes:
        file: its header; its grid counts pixels.
        array: (C, H, W), all bands as stored, opacity among them.
        valid: (H, W) where the file says that ground was seen; nothing is guessed.
        colours: uint8 (3, H, W) where the band holds indices into a colour table, or None.
        crs: reference system, where the file states one.
        transform: from pixels to that system; the identity where the file states none.
    """

    file: RasterFile
    array: np.ndarray
    valid: np.ndarray
    colours: np.ndarray | None
    crs: CRS | None
    transform: rasterio.Affine

    @classmethod
    def read(cls, path: Path) -> "WholeImage":
        """Read a file.

        Raises:
            RasterError: it is missing, damaged, no image, or larger than 400 million pixels.
        """
        with opened(path) as dataset:
            if dataset.width * dataset.height > MOST_PIXELS:
                raise RasterError(
                    f"{path} has {dataset.width} x {dataset.height} pixels, more than {MOST_PIXELS:,}: cut it into parts"
                )
            file = RasterFile.of(dataset, path, Grid.pixels(dataset.width, dataset.height), "declared")
            array, _, valid = read_declared(dataset, file, file.grid.window, file.bands)
            if file.alpha is not None:
                array = np.insert(array, file.alpha - 1, dataset.read(file.alpha), axis=0)
            colours = _colours(dataset, array[0]) if file.has_palette else None
            if file.bits is not None and dataset.driver == "PNG" and colours is None and file.bits < 8:
                array = array * np.uint8(255 // (2**file.bits - 1))
            return cls(file, array, valid, colours, dataset.crs, dataset.transform)

    def rgb(self) -> np.ndarray:
        """uint8 (3, H, W): red, green and blue by name, else the first three bands, grey three times, or the colours of
        the table; 0 where not valid.

        Raises:
            RasterError: other than 8 bits, or two bands.
        """
        order = self.file.colours or self.file.bands
        bands = self.array[[band - 1 for band in order]] if self.colours is None else self.colours
        if bands.dtype != np.uint8 or len(bands) == 2:
            raise RasterError(
                f"{self.file.path} has {counted(len(bands), 'band')} of {bands.dtype}, expected 8 bits, grey or red, "
                "green and blue"
            )
        pixels: np.ndarray = (
            np.repeat(bands, 3, axis=0) if len(bands) == 1 else np.ascontiguousarray(bands[:3])
        )
        return self.hide(pixels)

    def hide(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (C, H, W) with 0 where not valid."""
        return pixels if self.valid.all() else np.where(self.valid, pixels, pixels.dtype.type(0))


def find_unseen(path: Path) -> np.ndarray | None:
    """Where a file says that no ground was seen, bool (H, W), or None where it says so of no pixel.

    Raises:
        RasterError: it cannot be read.
    """
    with opened(path) as dataset:
        file = RasterFile.of(dataset, path, Grid.pixels(dataset.width, dataset.height), "declared")
        if not file.hides:
            return None
        valid = read_declared(dataset, file, file.grid.window, file.bands)[2]
    return None if valid.all() else ~valid


def _colours(dataset: rasterio.DatasetReader, indices: np.ndarray) -> np.ndarray:
    table = np.zeros((3, 256), np.uint8)
    for index, colour in dataset.colormap(1).items():
        if index < 256:
            table[:, index] = colour[:3]
    colours: np.ndarray = table[:, indices]
    return colours
