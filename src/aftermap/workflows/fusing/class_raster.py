"""Rasters of damage classes, such as `damage.tif` of a map or a product of another team, on buildings."""

from collections.abc import Mapping
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, IGNORE
from aftermap.errors import InputError
from aftermap.geo.grid import Grid, Window, quiet_without_georeference
from aftermap.geo.polygons import to_pixels
from aftermap.geo.raster import RasterSource
from aftermap.inference.objects.painting import Painter
from aftermap.products.cog import class_colormap
from aftermap.workflows.comparing.grades import CLASSES, Meaning, listing, meanings

_ROWS = 512
_MOST_VALUES = 256


def has_classes(path: Path) -> bool:
    """Whether a raster says of itself that it holds the classes of a map: one band of bytes called `damage`.

    Raises:
        InputError: it holds those of a map of the image after alone.
    """
    try:
        with quiet_without_georeference(), rasterio.open(path, driver="GTiff") as file:
            named = file.count == 1 and file.dtypes[0] == "uint8" and file.descriptions[0] == "damage"
            colours = file.colormap(1) if named and ColorInterp.palette in file.colorinterp else {}
    except rasterio.errors.RasterioIOError:
        return False
    # in `destroyed.tif` 2 is destroyed, which would be read as minor damage
    if colours and colours.get(2) == class_colormap(DESTROYED_OR_NOT)[2]:
        raise InputError(f"{path} is the raster of a map of the image after alone: pass the map's folder")
    return bool(named)


def classes_of(path: Path, mapping: Mapping[str, str] | None) -> dict[str, Meaning] | None:
    """What the values of a raster mean, by a mapping or as those of `damage.tif`; None for one of probabilities."""
    if mapping is not None:
        return meanings(mapping)
    return meanings({str(DAMAGE.index(name)): name for name in CLASSES}) if has_classes(path) else None


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
    known = classes_of(path, mapping) or {}
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
            check_classes(path, values[patch.valid], known, mapped=mapping is not None)
            for labels in layers:
                pixels += np.bincount(labels.ravel(), minlength=len(buildings) + 1)[1:]
                inside = (labels > 0) & patch.valid
                for value in np.unique(values[inside]).tolist():
                    here = labels[inside & (values == value)]
                    votes.setdefault(int(value), np.zeros(len(buildings), np.int64))
                    votes[int(value)] += np.bincount(here, minlength=len(buildings) + 1)[1:]
    finally:
        source.close()
    graded = [value for value in sorted(votes) if known.get(str(value))]
    if not graded:
        return [None] * len(buildings), known
    table = np.array([votes[value] for value in graded])
    best, seen = table.argmax(axis=0), table.sum(axis=0)
    speaks = seen >= np.maximum(least_seen * pixels, 1)
    return [
        str(graded[b]) if here else None for b, here in zip(best.tolist(), speaks.tolist(), strict=True)
    ], known


def check_classes(path: Path, values: np.ndarray, known: Mapping[str, Meaning], *, mapped: bool) -> None:
    """Refuse what is no raster of classes, and values that nobody told of.

    Args:
        path: the raster.
        values: of its pixels, where they are valid.
        known: what values mean.
        mapped: whether the user said so; else background and pixels that were not assessed need no meaning.

    Raises:
        InputError: see above.
    """
    found = np.unique(values)
    if values.dtype.kind == "f" and not (np.isfinite(found) & (found == np.rint(found))).all():
        raise InputError(
            f"{path.name} holds decimals, and --mapping says what whole numbers mean: leave it out for a raster of "
            "probabilities"
        )
    if len(found) > _MOST_VALUES:
        raise InputError(f"{path.name} holds more than {_MOST_VALUES} values: it is no raster of classes")
    background = () if mapped else (0, IGNORE)
    unknown = [
        f"{value:.0f}" for value in found.tolist() if value not in background and f"{value:.0f}" not in known
    ]
    if unknown:
        raise InputError(
            f"{path.name} holds {listing(unknown)}, which --mapping does not tell: say what they are, such as "
            f"'{unknown[0]}=unknown'"
        )
