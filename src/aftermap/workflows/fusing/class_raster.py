"""Rasters of damage classes, such as `damage.tif` of a map or a product of another team, on buildings."""

from collections.abc import Mapping
from pathlib import Path

import geopandas
import numpy as np
import rasterio

from aftermap.classes import DAMAGE, IGNORE
from aftermap.errors import InputError
from aftermap.geo.grid import Grid, Window, quiet_without_georeference
from aftermap.geo.polygons import to_pixels
from aftermap.geo.raster import RasterSource
from aftermap.inference.objects.painting import Painter
from aftermap.workflows.comparing.grades import CLASSES, Meaning, listing, meanings

_ROWS = 512
_MOST_VALUES = 256


def has_classes(path: Path) -> bool:
    """Whether a raster says of itself that it holds the classes of a map: one band of bytes called `damage`."""
    try:
        with quiet_without_georeference(), rasterio.open(path, driver="GTiff") as file:
            return bool(file.count == 1 and file.dtypes[0] == "uint8" and file.descriptions[0] == "damage")
    except rasterio.errors.RasterioIOError:
        return False


def grade_by_building(
    path: Path,
    buildings: geopandas.GeoDataFrame,
    grid: Grid,
    mapping: Mapping[str, str] | None,
    least_seen: float,
) -> tuple[list[str | None], dict[str, Meaning]]:
    """The class that holds most of each outline, among the pixels that have one.

    Args:
        path: a raster of whole numbers.
        buildings: outlines.
        grid: of the first map.
        mapping: what its values mean, such as {"1": "no-damage"}; of `damage.tif` the classes of the map.
        least_seen: share of an outline that has to hold a class that is known.

    Returns:
        The grade of each, and what grades mean.

    Raises:
        InputError: it holds other than whole numbers, or a value that the mapping does not know.
    """
    told = {str(DAMAGE.index(name)): name for name in CLASSES} if mapping is None else dict(mapping)
    known = meanings(told)
    painter = Painter(list(to_pixels(buildings.geometry.to_numpy(), grid)), grid.width)
    pixels = np.zeros(len(buildings), np.int64)
    votes: dict[int, np.ndarray] = {}
    source = RasterSource.open(path, bands=[1], nodata="declared")
    try:
        for row in range(0, grid.height, _ROWS):
            window = Window(row, 0, min(_ROWS, grid.height - row), grid.width)
            layers = list(painter.paint(row, window.height))
            if not layers:
                continue
            patch = source.read(grid.crop(window), "nearest")
            values = patch.array[0]
            _check(path, values[patch.valid])
            for labels in layers:
                pixels += np.bincount(labels.ravel(), minlength=len(buildings) + 1)[1:]
                inside = (labels > 0) & patch.valid
                for value in np.unique(values[inside]).tolist():
                    here = labels[inside & (values == value)]
                    votes.setdefault(int(value), np.zeros(len(buildings), np.int64))
                    votes[int(value)] += np.bincount(here, minlength=len(buildings) + 1)[1:]
    finally:
        source.close()
    background = () if mapping is not None else (0, IGNORE)
    unknown = [str(value) for value in votes if value not in background and str(value) not in known]
    if unknown:
        raise InputError(
            f"{path.name} holds {listing(unknown)}, which --mapping does not tell: say what they are, such as "
            f"'{unknown[0]}=unknown'"
        )
    graded = [value for value in sorted(votes) if known.get(str(value))]
    if not graded:
        return [None] * len(buildings), known
    table = np.array([votes[value] for value in graded])
    best, seen = table.argmax(axis=0), table.sum(axis=0)
    speaks = seen >= np.maximum(least_seen * pixels, 1)
    return [
        str(graded[b]) if here else None for b, here in zip(best.tolist(), speaks.tolist(), strict=True)
    ], known


def _check(path: Path, values: np.ndarray) -> None:
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        raise InputError(
            f"{path.name} holds decimals, and --mapping says what whole numbers mean: leave it out for a raster of "
            "probabilities"
        )
    if len(np.unique(values)) > _MOST_VALUES:
        raise InputError(f"{path.name} holds more than {_MOST_VALUES} values: it is no raster of classes")
