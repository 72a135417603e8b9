"""The work folder of a map run: finished rows survive an interruption, and the result appears whole or not at all.

`OUT.work/rows/START-STOP.zip` are the parts of its `ResultFolder`: pixels as GeoTIFFs, one for each window, whose packing
takes a third of the time of the archive's own, and all else as NumPy's files.
"""

import json
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

ROWS_LAYOUT = 2
"""How finished rows are stored: those of another layout cannot be gone on with."""

_TILE_PX = 256
_PIECE_PX = 5_000_000

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
    """Finished rows on disk: `start` to `stop`, half-open; `above` is how many others the file holds above them."""

    path: Path
    start: int
    stop: int
    above: int = 0

    def load(self, *names: str) -> tuple[np.ndarray, ...]:
        """Read some of the arrays that were stored."""
        with zipfile.ZipFile(self.path) as archive:
            others = {name: f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()}
            pixels = self._read(archive, {name: None for name in names if name not in others})
            return tuple(
                _read_array(archive, others[name]) if name in others else pixels[name] for name in names
            )

    def plane(self, name: str, number: int) -> np.ndarray:
        """One (h, W) of an array (C, h, W) that was stored, without reading the others."""
        (plane,) = self.planes(**{name: number})
        return plane

    def planes(self, **numbers: int) -> tuple[np.ndarray, ...]:
        """One (h, W) of each of some arrays of pixels that were stored, by name; 0 of such as are (h, W)."""
        with zipfile.ZipFile(self.path) as archive:
            found = self._read(archive, numbers)
        return tuple(found[name] for name in numbers)

    @property
    def lines(self) -> slice:
        """Where they lie in the rows that the file holds."""
        return slice(self.above, self.above + self.stop - self.start)

    def pieces(self, width: int) -> list["Rows"]:
        """The same in pieces of not many more pixels than fit into memory several times, whole tiles high."""
        rows = max(1, _PIECE_PX // width // _TILE_PX) * _TILE_PX
        starts = range(self.start, self.stop, rows)
        return [
            Rows(self.path, start, min(start + rows, self.stop), self.above + start - self.start)
            for start in starts
        ]

    def _read(self, archive: zipfile.ZipFile, wanted: Mapping[str, int | None]) -> dict[str, np.ndarray]:
        """Pixels, all parts side by side; of each array all planes, or the one that is named."""
        found: dict[str, np.ndarray] = {}
        lines = self.lines.start, self.lines.stop
        # from the right, so that the first one tells the width
        names = sorted((name for name in archive.namelist() if name.endswith(".tif")), reverse=True)
        for part in names if wanted else ():
            with (
                quiet_without_georeference(),
                MemoryFile(archive.read(part)) as file,
                file.open(driver="GTiff") as dataset,
            ):
                counts = json.loads(dataset.tags()["arrays"])
                col = int(part.partition(".")[0])
                cols = slice(col, col + dataset.width)
                for name, plane in wanted.items():
                    bands = _bands(counts, name)
                    is_flat = counts[name] == 0 or plane is not None
                    if name not in found:
                        shape = self.stop - self.start, cols.stop
                        found[name] = np.empty(shape if is_flat else (len(bands), *shape), np.uint8)
                    dataset.read(
                        bands[plane or 0] if is_flat else bands,
                        window=(lines, (0, dataset.width)),
                        out=found[name][..., cols],
                    )
        return found


@dataclass(frozen=True, slots=True)
class FinishedRows:
    """Rows `start` to `stop`, half-open, as they are stored.

    Attributes:
        start: see there.
        stop: see there.
        parts: pixels as `packed` gives them, by their first column, from left to right.
        arrays: what else there is.
    """

    start: int
    stop: int
    parts: Mapping[int, bytes]
    arrays: Mapping[str, np.ndarray]


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

    def add(self, rows: FinishedRows) -> None:
        """Store finished rows; they are on disk, or not there, whenever the process dies."""
        with (
            writing(self.path, resumable=True),
            replacing(self.parts / f"{rows.start:09d}-{rows.stop:09d}.zip") as part,
            zipfile.ZipFile(part, "w") as archive,
        ):
            for col, pixels in rows.parts.items():
                archive.writestr(f"{col:09d}.tif", pixels)
            for name, array in rows.arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def check_output(out: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be made, before any work is done.

    Raises:
        OutputError: it exists, would replace something that is not a map, or lies where nothing can be written.
    """
    files.check_output(out, marker=MARKER, overwrite=overwrite)


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Pixels uint8 (h, w) and (C, h, w), all of one size, as a GeoTIFF."""
    counts = {name: 0 if array.ndim == 2 else len(array) for name, array in arrays.items()}
    height, width = next(iter(arrays.values())).shape[-2:]
    with quiet_without_georeference(), MemoryFile() as file:
        with file.open(
            driver="GTiff",
            dtype="uint8",
            count=sum(max(count, 1) for count in counts.values()),
            height=height,
            width=width,
            tiled=True,
            blockxsize=_TILE_PX,
            blockysize=_TILE_PX,
            interleave="band",
            bigtiff="if_safer",
            **_packing(),
        ) as dataset:
            for name, array in arrays.items():
                bands = _bands(counts, name)
                dataset.write(array[None] if array.ndim == 2 else array, bands)
            dataset.update_tags(arrays=json.dumps(counts))
        return bytes(file.getbuffer())


def _bands(counts: Mapping[str, int], name: str) -> list[int]:
    """The bands of an array, counted from 1; one that is stored as a single (h, w) counts 0."""
    before = list(counts)[: list(counts).index(name)]
    first = 1 + sum(max(counts[other], 1) for other in before)
    return list(range(first, first + max(counts[name], 1)))


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


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
