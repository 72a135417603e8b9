"""A GeoTIFF at an address, opened by GDAL through our own reader of ranges, and read by windows."""

from collections.abc import Iterator
from contextlib import contextmanager

import rasterio
from rasterio.abc import FileContainer

from aftermap.errors import RasterError
from aftermap.geo.grid import Window, quiet_without_georeference
from aftermap.geo.online.ranges import RangeReader, RemoteFile
from aftermap.geo.opening.limits import GDAL_ERRORS, GDAL_OPTIONS, check_header, image_format, one_line


@contextmanager
def opened_remote(reader: RangeReader) -> Iterator[rasterio.DatasetReader]:
    """A GeoTIFF at an address, checked and open for as long as it is read.

    Raises:
        RasterError: it is no GeoTIFF, or its header promises what cannot be.
        RemoteError: it cannot be read.
    """
    name = reader.name
    if image_format(reader.read(0, 16), name) != "TIFF":
        raise RasterError(f"{name} is no GeoTIFF: only those are read by windows")
    try:
        with (
            rasterio.Env(**GDAL_OPTIONS),
            quiet_without_georeference(),
            rasterio.open("image.tif", driver="GTiff", opener=_OneFile(reader)) as dataset,
        ):
            check_header(dataset, name, reader.stat.size)
            yield dataset
    except GDAL_ERRORS as error:
        if reader.failure is not None:
            raise reader.failure from None
        raise RasterError(f"{name} starts like a TIFF but is damaged: {one_line(error)}") from None


def blocks_of(dataset: rasterio.DatasetReader, window: Window) -> list[tuple[int, int]]:
    """Start and length in the file of the blocks of all bands that a window touches; those left out are not listed."""
    high, wide = dataset.block_shapes[0]
    apart = dataset.interleaving is not None and dataset.interleaving.value == "BAND"
    found = []
    for band in range(1, dataset.count + 1) if apart else (1,):
        for y in range(window.row // high, -(-(window.row + window.height) // high)):
            for x in range(window.col // wide, -(-(window.col + window.width) // wide)):
                start, length = (
                    dataset.get_tag_item(f"BLOCK_{what}_{x}_{y}", "TIFF", bidx=band)
                    for what in ("OFFSET", "SIZE")
                )
                if start is not None and length is not None:
                    found.append((int(start), int(length)))
    return found


class _OneFile(FileContainer):  # type: ignore[misc]
    """What GDAL is shown: one file, nothing beside it."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader

    def open(self, path: str, *_: object, **__: object) -> RemoteFile:
        if not self.isfile(path):
            raise FileNotFoundError(path)
        return RemoteFile(self._reader)

    def isfile(self, path: str) -> bool:
        return path.rpartition("/")[2] == "image.tif"

    def isdir(self, path: str) -> bool:
        return False

    def ls(self, path: str) -> list[str]:
        return []

    def mtime(self, path: str) -> int:
        return 0

    def size(self, path: str) -> int:
        return self._reader.stat.size if self.isfile(path) else 0

    def rm(self, path: str) -> None:
        raise PermissionError(path)
