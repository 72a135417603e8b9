"""The work folder of a map run: finished rows survive an interruption, and the result appears whole or not at all.

`OUT.work/rows/START-STOP.npz` are the parts of its `ResultFolder`.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aftermap import files
from aftermap.files import ResultFolder, replacing, writing

MARKER = "provenance.json"
"""A folder that holds this file is a result of ours and may be replaced."""

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
        with np.load(self.path, allow_pickle=False) as arrays:
            return tuple(arrays[name] for name in names)


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
        for path in sorted(self.parts.glob("[0-9]*.npz")):
            start, stop = map(int, path.stem.split("-"))
            if start != (found[-1].stop if found else 0):
                break
            found.append(Rows(path, start, stop))
        return found

    def add(self, start: int, stop: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Store finished rows; they are on disk, or not there, whenever the process dies."""
        with (
            writing(self.path, resumable=True),
            replacing(self.parts / f"{start:09d}-{stop:09d}.npz") as part,
            # fastest compression: np.savez_compressed takes four times as long for a tenth less
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def check_output(out: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be made, before any work is done.

    Raises:
        OutputError: it exists, would replace something that is not a map, or lies where nothing can be written.
    """
    files.check_output(out, marker=MARKER, overwrite=overwrite)
