"""What comes from memory instead of files: arrays with a grid, tables of polygons."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias, Union

import geopandas
import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.dtypes import check_dtype
from rasterio.errors import CRSError

from aftermap.errors import FootprintError, GeoreferenceError, RasterError, shown
from aftermap.geo.grid import Grid, quiet_without_georeference

if TYPE_CHECKING:
    from aftermap.workflows.catalogues.pairing import Acquisition
    from aftermap.workflows.catalogues.picture import CatalogueImage

Place: TypeAlias = Grid | tuple[Affine, CRS | str | None]
"""Where an array lies: a grid, or its transform and its reference system."""

Held: TypeAlias = str | Path | np.ndarray | tuple[np.ndarray, Place]
"""An image or a folder of tiles; or an array (bands, H, W), alone or with its place."""

Imagery: TypeAlias = Union[Held, "Acquisition", "tuple[CatalogueImage, ...]"]  # names, not classes
"""The same, the address of an image or of a STAC item, or images of a catalogue as `aftermap.find` gives them."""

Vectors: TypeAlias = str | Path | geopandas.GeoDataFrame | geopandas.GeoSeries
"""A file of polygons, or a table of them."""

_MOST_BANDS = 16


class OnDisk:
    """Turns what is in memory into files of a temporary folder, which is gone when it is closed."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None

    def image(self, given: Held, name: str, place: Place | None) -> Path:
        """An image as a file.

        Args:
            given: a path comes back as it is. Arrays are (bands, H, W) or (H, W), masked where there is no data.
            name: of the file, without its ending.
            place: where arrays lie that come without one; None counts pixels.

        Raises:
            RasterError: the array is none of an image.
            GeoreferenceError: it is of another size than its grid.
        """
        if isinstance(given, (str, Path)):
            return Path(given)
        array, at = given if isinstance(given, tuple) and len(given) == 2 else (given, place)
        if not isinstance(array, np.ndarray):
            raise RasterError(
                f"{name} is of type {type(array).__name__}, expected a path, an array (bands, height, width), or a pair "
                "of such an array and its grid"
            )
        if array.size == 0:
            raise RasterError(f"{name} is an array of shape {array.shape}, which has no pixels")
        if array.ndim == 2:
            array = array[None]
        if array.ndim != 3:
            raise RasterError(
                f"{name} is an array of shape {array.shape}: pass one of (bands, height, width)"
            )
        bands, height, width = array.shape
        if width <= 4 and bands > _MOST_BANDS:
            raise RasterError(
                f"{name} is an array of shape {array.shape}, which looks like bands last: pass (bands, height, width), "
                "such as array.transpose(2, 0, 1)"
            )
        if array.dtype == np.bool_ or not check_dtype(array.dtype):
            raise RasterError(f"{name} is an array of {array.dtype}: pass integers or float32 or float64")
        grid = _grid(at, height, width)
        if (grid.height, grid.width) != (height, width):
            raise GeoreferenceError(
                f"{name} is an array of {width} x {height} pixels, its grid has {grid.width} x {grid.height}"
            )
        path = self._place(f"{name}.tif")
        with (
            quiet_without_georeference(),
            rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=bands,
                height=height,
                width=width,
                dtype=array.dtype,
                crs=grid.crs,
                transform=grid.transform if grid.is_georeferenced else None,
                tiled=True,
            ) as raster,
        ):
            raster.write(np.ma.filled(array, 0))
            if np.ma.is_masked(array):
                raster.write_mask(~np.ma.getmaskarray(array).any(axis=0))
        return path

    def vectors(self, given: Vectors | None, name: str) -> Path | None:
        """Polygons as a file; a path comes back as it is.

        Raises:
            FootprintError: neither a path nor a table of polygons.
        """
        if given is None or isinstance(given, (str, Path)):
            return None if given is None else Path(given)
        if isinstance(given, geopandas.GeoSeries):
            given = geopandas.GeoDataFrame(geometry=given)
        if not isinstance(given, geopandas.GeoDataFrame):
            raise FootprintError(
                f"{name} is of type {type(given).__name__}, expected a path or a GeoDataFrame of polygons"
            )
        from aftermap.geo.vectors import plain_frame

        path = self._place(f"{name}.gpkg")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            plain_frame(given).to_file(path, driver="GPKG", layer_options={"FID": "_row"})
        return path

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()

    def _place(self, name: str) -> Path:
        self._folder = self._folder or TemporaryDirectory(prefix="aftermap-")
        return Path(self._folder.name) / name


@contextmanager
def on_disk() -> Iterator[OnDisk]:
    """Files for what is in memory, as long as they are needed."""
    files = OnDisk()
    try:
        yield files
    finally:
        files.close()


def _grid(place: Place | None, height: int, width: int) -> Grid:
    if place is None:
        return Grid.pixels(width, height)
    if isinstance(place, Grid):
        return place
    if not (isinstance(place, tuple) and len(place) == 2 and isinstance(place[0], Affine)):
        raise GeoreferenceError(
            f"grid is of type {type(place).__name__}, expected a transform and a reference system, such as "
            "(raster.transform, raster.crs)"
        )
    transform, crs = place
    try:
        system = CRS.from_user_input(crs) if crs is not None else None
    except CRSError:
        raise GeoreferenceError(
            f"grid has the reference system {shown(crs)}, which is not known: pass one such as EPSG:32615"
        ) from None
    return Grid(system, transform, width, height)
