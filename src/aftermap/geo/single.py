"""One date of a place on the grid of its map, read window by window."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from rasterio.crs import CRS

from aftermap.errors import GeoreferenceError, PixelCoordinatesWarning
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import Patch, RasterSource
from aftermap.geo.target_grid import target_grid


@dataclass(frozen=True)
class SingleDate:
    """An image, or tiles of one, ready to be read on a grid.

    Attributes:
        image: the date.
        grid: its own grid made upright, or that of the reference system and resolution asked for.
        name: what the image is called among the inputs of a map.
    """

    image: RasterSource
    grid: Grid
    name: str = "image"

    @classmethod
    def open(
        cls,
        image: RasterSource,
        *,
        crs: str | CRS | None = None,
        resolution: float | None = None,
        name: str = "image",
    ) -> "SingleDate":
        """Put an image on its grid.

        Args:
            image: the date.
            crs: reference system of the grid; the image's by default.
            resolution: pixel size in metres (in degrees where the reference system is geographic); the image's by
                default.
            name: what it is called among the inputs of a map.

        Raises:
            GeoreferenceError: the image cannot be put on such a grid.
        """
        if image.is_georeferenced:
            return cls(image, target_grid(image.grid, crs, resolution, name=image.name), name)
        if crs is not None or resolution is not None:
            raise GeoreferenceError(
                f"{image.name} has no georeference, so --crs and --resolution cannot be used"
            )
        warnings.warn(
            "the image has no georeference: all outputs are in pixel coordinates",
            PixelCoordinatesWarning,
            stacklevel=2,
        )
        return cls(image, image.grid, name)

    @property
    def sources(self) -> Mapping[str, RasterSource]:
        """The image by what it is."""
        return {self.name: self.image}

    def read(self, window: Window) -> tuple[Patch, ...]:
        """The image in a window of `grid`, which may reach beyond it (not valid there)."""
        return (self.image.read(self.grid.crop(window)),)

    def close(self) -> None:
        """Close the files."""
        self.image.close()
