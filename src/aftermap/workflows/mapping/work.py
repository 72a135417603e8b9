"""The work folder of a map run: finished rows survive an interruption, and the result appears whole or not at all.

`OUT.work/rows/START-STOP.zip` are the parts of its `ResultFolder`: pixels as GeoTIFFs, whose packing takes a third of the
time of the archive's own, and all else as NumPy's files.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from aftermap import files
from aftermap.files import ResultFolder, replacing, writing
from aftermap.geo.grid import quiet_without_georeference

MARKER = "provenance.json"
"""A folder that holds this file is a result of ours and may be replaced."""

_TILE_PX = 256

_OURS = (
    MARKER,
    "summary.json",
    "map.html",
    "overview.png",
    *(f"{name}.tif" for name in ("damage", "probabilities", "building", "classes", "confidence")),
    *(f"{name}.{ending}" for name in ("buildings", "classes") for ending in ("gpkg", "geojson", "csv")),
)
"""What a map of a version held that did not list its files."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Finished rows on disk: `start` to `stop`, half-open."""

    path: Path
    start: int
    stop: int

    def load(self, *names: str) -> tuple[np.ndarray, ...]:
        """Read some of the arrays that were stored."""
        with zipfile.ZipFile(self.path) as archive:
            return tuple(_read(archive, name) for name in names)

    def plane(self, name: str, number: int) -> np.ndarray:
        """One (h, W) of an array (C, h, W) that was stored, without reading the others."""
        with zipfile.ZipFile(self.path) as archive:
            return _read(archive, name, number + 1)


class WorkFolder(ResultFolder):
    """`OUT.work`, claimed for one map; arguments as those of `ResultFolder`."""

    def __init__(
        self, out: Path, fingerprint: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> None:
        super().__init__(
            out, fingerprint, marker=MARKER, ours=_OURS, parts="rows", resume=resume, overwrite=overwrite
        )

    def finished(self) -> list[Rows]:
        """The finished rows from the top without a gap."""
        found: list[Rows] = []
        for path in sorted(self.parts.glob("[0-9]*.zip")):
            start, stop = map(int, path.stem.split("-"))
            if start != (found[-1].stop if found else 0):
                break
            found.append(Rows(path, start, stop))
        return found

    def add(self, start: int, stop: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Store finished rows; they are on disk, or not there, whenever the process dies."""
        with (
            writing(self.path, resumable=True),
            replacing(self.parts / f"{start:09d}-{stop:09d}.zip") as part,
            zipfile.ZipFile(part, "w") as archive,
        ):
            for name, array in arrays.items():
                if array.dtype == np.uint8 and array.ndim in (2, 3) and array.size:
                    archive.writestr(f"{name}.tif", _packed(array))
                else:
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def check_output(out: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be made, before any work is done.

    Raises:
        OutputError: it exists, would replace something that is not a map, or lies where nothing can be written.
    """
    files.check_output(out, marker=MARKER, overwrite=overwrite)


def _read(archive: zipfile.ZipFile, name: str, band: int | None = None) -> np.ndarray:
    """An array of an archive, or a band of its pixels."""
    pixels = f"{name}.tif"
    if pixels not in archive.namelist():
        with archive.open(f"{name}.npy") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            return array
    with (
        quiet_without_georeference(),
        MemoryFile(archive.read(pixels)) as file,
        file.open(driver="GTiff") as dataset,
    ):
        pixels_read: np.ndarray = dataset.read(1 if dataset.tags().get("flat") == "yes" else band)
        return pixels_read


def _packed(array: np.ndarray) -> bytes:
    """Pixels uint8 (H, W) or (C, H, W) as a GeoTIFF."""
    flat = array.ndim == 2
    count, height, width = array.shape if not flat else (1, *array.shape)
    with quiet_without_georeference(), MemoryFile() as file:
        with file.open(
            driver="GTiff",
            dtype="uint8",
            count=count,
            height=height,
            width=width,
            tiled=True,
            blockxsize=_TILE_PX,
            blockysize=_TILE_PX,
            interleave="band",
            bigtiff="if_safer",
            **_packing(),
        ) as dataset:
            dataset.write(array[None] if flat else array)
            dataset.update_tags(flat="yes" if flat else "no")
        return bytes(file.getbuffer())


@cache
def _packing() -> dict[str, Any]:
    """The fastest packing that is small; GDAL may be built without it."""
    fastest = {"compress": "zstd", "zstd_level": 1}
    try:
        with (
            quiet_without_georeference(),
            MemoryFile() as file,
            file.open(driver="GTiff", dtype="uint8", count=1, height=16, width=16, **fastest) as dataset,
        ):
            dataset.write(np.zeros((1, 16, 16), np.uint8))
    except RasterioError:
        return {"compress": "deflate", "zlevel": 1}
    return fastest
