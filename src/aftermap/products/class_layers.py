"""Layers of a map of classes: regions as polygons, the table of areas, and the names beside the raster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from aftermap.classes import NOT_ASSESSED, ClassScheme
from aftermap.files import csv_text, write_text
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import from_pixels
from aftermap.inference.objects.class_regions import Region
from aftermap.products.summary import place
from aftermap.products.vectors import write_layer

LAYER = "classes"
COLUMNS = ("region_id", "class", "class_index", "confidence", "area_m2", "area_px", "lon", "lat")
"""Columns of the regions of a map of classes."""

_HECTARE_M2 = 10_000


@dataclass
class Tally:
    """Counts over the whole map.

    Attributes:
        pixels: of each class, int64 (K,).
        area_m2: of each class, float64 (K,); zeros without georeference.
        confidence: sums over the pixels of each class, float64 (K,).
        missing: pixels by the word for why they were not assessed.
        missing_m2: area of all of these.
    """

    pixels: np.ndarray
    area_m2: np.ndarray
    confidence: np.ndarray
    missing: dict[str, int]
    missing_m2: float

    @classmethod
    def empty(cls, classes: int) -> "Tally":
        """Nothing counted yet."""
        return cls(np.zeros(classes, np.int64), np.zeros(classes), np.zeros(classes), {}, 0.0)


def regions_frame(regions: Sequence[Region], scheme: ClassScheme, grid: Grid) -> gpd.GeoDataFrame:
    """The table of regions, from top to bottom, rounded as it is stored.

    Args:
        regions: with areas in square metres, confidences from 0 to 1.
        scheme: their classes.
        grid: the map.

    Returns:
        Columns `COLUMNS` and geometry in the grid's reference system; `area_m2`, `lon` and `lat` are missing without
        georeference.
    """
    # rounding is not needed: outlines lie on whole pixels
    ordered = sorted(regions, key=lambda r: (*(r.polygon.bounds[i] for i in (1, 0, 3, 2)), r.kind, r.pixels))
    shapes = np.array([region.polygon for region in ordered], dtype=object)
    count = len(ordered)
    lon, lat = np.full(count, np.nan), np.full(count, np.nan)
    if grid.is_georeferenced and count:
        inside = shapely.point_on_surface(shapes)
        lon, lat = grid.lonlat(shapely.get_x(inside), shapely.get_y(inside))
    columns = {
        "region_id": [str(number) for number in range(1, count + 1)],
        "class": [scheme.names[region.kind] for region in ordered],
        "class_index": np.array([region.kind for region in ordered], np.int32),
        "confidence": np.array([region.confidence for region in ordered], np.float64).round(4),
        "area_m2": np.array(
            [region.area if grid.is_georeferenced else np.nan for region in ordered], np.float64
        ).round(3),
        "area_px": np.array([region.pixels for region in ordered], np.int64),
        "lon": lon.round(7),
        "lat": lat.round(7),
    }
    crs = grid.crs.to_wkt() if grid.crs is not None else None
    return gpd.GeoDataFrame(columns, geometry=[from_pixels(shape, grid) for shape in shapes], crs=crs)


def summarise_classes(
    tally: Tally, frame: gpd.GeoDataFrame, scheme: ClassScheme, grid: Grid
) -> dict[str, Any]:
    """Summary of a map of classes, ready for `summary.json`: pixels, area, share and confidence of each class.

    Shares are of the assessed area. Areas count the pixels of `classes.tif`, so small regions that have no polygon are
    in them; they are null without georeference.

    Args:
        tally: of the raster.
        frame: from `regions_frame`.
        scheme: the classes.
        grid: the map.
    """
    weights = tally.area_m2 if grid.is_georeferenced else tally.pixels
    total, regions = float(weights.sum()), frame["class"].value_counts()

    def area(value: float) -> float | None:
        return round(float(value), 1) if grid.is_georeferenced else None

    def hectares(value: float) -> float | None:
        return round(float(value) / _HECTARE_M2, 4) if grid.is_georeferenced else None

    classes = {
        name: {
            "index": index,
            "colour": scheme.colours[index],
            "pixels": int(tally.pixels[index]),
            "area_m2": area(tally.area_m2[index]),
            "area_ha": hectares(tally.area_m2[index]),
            "share": round(float(weights[index]) / total, 4) if total else None,
            "mean_confidence": _ratio(tally.confidence[index], tally.pixels[index]),
            "regions": int(regions.get(name, 0)),
        }
        for index, name in enumerate(scheme.names)
    }
    missed = sum(tally.missing.values())
    return {
        "legend": scheme.name,
        "background": None if scheme.background is None else scheme.names[scheme.background],
        "classes": classes,
        "regions": len(frame),
        "assessed_px": int(tally.pixels.sum()),
        "area_m2": area(tally.area_m2.sum()),
        "area_ha": hectares(tally.area_m2.sum()),
        "not_assessed": {
            "pixels": missed,
            "share_of_all": round(missed / (grid.width * grid.height), 4),
            "area_m2": area(tally.missing_m2),
            "reasons": dict(sorted(tally.missing.items())),
        },
        "mean_confidence": _ratio(tally.confidence.sum(), tally.pixels.sum()),
        **place(grid),
    }


def write_classes(frame: gpd.GeoDataFrame, summary: dict[str, Any], folder: Path) -> None:
    """Write `classes.gpkg`, `classes.geojson` (the regions) and `classes.csv` (one line per class).

    Raises:
        OutputError: they cannot be written.
    """
    write_layer(frame, folder, LAYER, table=False)
    columns = ("index", "colour", "pixels", "area_m2", "area_ha", "share", "mean_confidence", "regions")
    lines: list[tuple[Any, ...]] = [("class", *columns)]
    lines += [(name, *(row[column] for column in columns)) for name, row in summary["classes"].items()]
    missed = summary["not_assessed"]
    if missed["pixels"]:
        known = {"pixels": missed["pixels"], "area_m2": missed["area_m2"]}
        if missed["area_m2"] is not None:
            known["area_ha"] = round(missed["area_m2"] / _HECTARE_M2, 4)
        lines.append((NOT_ASSESSED, *(known.get(column) for column in columns)))
    write_text(folder / "classes.csv", csv_text(lines))


def class_tags(scheme: ClassScheme) -> dict[str, str]:
    """Metadata of a raster of classes: the legend's name, and `class_0` and so on."""
    return {"legend": scheme.name} | {f"class_{index}": name for index, name in enumerate(scheme.names)}


def _ratio(total: float, count: int) -> float | None:
    return round(float(total) / int(count), 4) if count else None
