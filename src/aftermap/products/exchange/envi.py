"""A map of classes as ENVI has it: a flat raster and a header with the names and colours of its classes, in one ZIP."""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rasterio

from aftermap.classes import IGNORE, NOT_ASSESSED, NOT_ASSESSED_COLOUR, ClassScheme
from aftermap.data.legends import rgb
from aftermap.geo.grid import Grid
from aftermap.products.exchange.zip_files import write_zip

_STANDARD = "file type = ENVI Standard"
_DESCRIPTION = re.compile(r"description = \{[^}]*\}")


def write_envi(path: Path, name: str, rows: Iterable[np.ndarray], grid: Grid, scheme: ClassScheme) -> None:
    """Write NAME.dat and NAME.hdr into a ZIP.

    Args:
        path: of the ZIP.
        name: of the files in it, without ending.
        rows: the classes, uint8 (h, W) from top to bottom; IGNORE becomes a class of its own, behind the others.
        grid: where it lies.
        scheme: names and colours.
    """
    names = [*scheme.names, NOT_ASSESSED]
    colours = [*scheme.colours, NOT_ASSESSED_COLOUR]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        raster = Path(folder) / f"{name}.dat"
        profile = {"width": grid.width, "height": grid.height, "count": 1, "dtype": "uint8"}
        with rasterio.open(
            raster, "w", driver="ENVI", crs=grid.crs, transform=grid.transform, **profile
        ) as file:
            top = 0
            for band in rows:
                classes = np.where(band == IGNORE, np.uint8(len(scheme)), band)
                window = rasterio.windows.Window(0, top, grid.width, len(band))
                file.write(classes, 1, window=window)
                top += len(band)
        header = raster.with_suffix(".hdr")
        text = header.read_text(encoding="utf-8")
        numbers = ", ".join(str(value) for colour in colours for value in rgb(colour))
        told = (
            "file type = ENVI Classification",
            f"classes = {len(names)}",
            f"class names = {{{', '.join(names)}}}",
            f"class lookup = {{{numbers}}}",
        )
        text = _DESCRIPTION.sub(f"description = {{{name}}}", text)  # which GDAL makes the path of the file
        text = text.replace(_STANDARD, "\n".join(told))
        write_zip(path, {header.name: text.encode(), raster.name: raster})
