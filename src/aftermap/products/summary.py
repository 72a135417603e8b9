"""Counts, shares and areas of a buildings layer, per damage class."""

import math
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.geo.grid import Grid
from aftermap.products.vectors import DAMAGE_VALUES, ONE_DATE_VALUES

GRADES = (("sure", 0.9, "#2f7fe0"), ("likely", 0.7, "#24b5a8"), ("doubtful", 0.0, "#f0b13a"))
"""Grades of a building's confidence: name, from which confidence on, colour. They only sort what is looked at."""

UNCALIBRATED = "uncalibrated on this event"
"""What to say beside the model's confidence as long as nobody has answered for enough buildings ('aftermap totals')."""


def summarise(frame: gpd.GeoDataFrame, grid: Grid) -> dict[str, Any]:
    """Summary of a buildings frame, ready for `summary.json`.

    Shares are among assessed buildings; those not assessed are counted apart, by reason. Areas are null where
    the images have no georeference.

    Args:
        frame: buildings with the columns of `products.vectors.COLUMNS`; it may be empty.
        grid: the grid that was mapped.
    """
    damage = frame["damage"]
    unknown = sorted(set(damage) - set(DAMAGE_VALUES))
    if unknown:
        raise ValueError(f"damage {unknown[0]!r} is none of {', '.join(DAMAGE_VALUES)}")
    assessed = frame[damage != NOT_ASSESSED]
    damaged = assessed[assessed["damage"] != DAMAGE.names[1]]
    total_area = _area(assessed, grid)
    return {
        "buildings": len(frame),
        "assessed": len(assessed),
        "damaged": {**_share(len(damaged), len(assessed)), "area_m2": _area(damaged, grid)},
        "classes": {
            name: _class(assessed[assessed["damage"] == name], len(assessed), total_area, grid)
            for name in DAMAGE.names[1:]
        },
        "not_assessed": _skipped(frame[damage == NOT_ASSESSED], len(frame), grid),
        "area_m2": _area(frame, grid),
        "mean_confidence": _mean(assessed["confidence"]),
        "confidence": UNCALIBRATED,
        **place(grid),
    }


def summarise_one_date(frame: gpd.GeoDataFrame, grid: Grid, *, mode: str) -> dict[str, Any]:
    """Summary of the buildings of the image from after, or from before, alone, ready for `summary.json`.

    Args:
        frame: buildings with the columns of `products.vectors.ONE_DATE_COLUMNS`; it may be empty.
        grid: the grid that was mapped.
        mode: `post-only` or `pre-only`.
    """
    damage = frame["damage"]
    assessed = frame[damage != NOT_ASSESSED]
    total_area = _area(assessed, grid)
    return {
        "mode": mode,
        "buildings": len(frame),
        "assessed": len(assessed),
        "classes": {
            name: _class(assessed[assessed["damage"] == name], len(assessed), total_area, grid)
            for name in ONE_DATE_VALUES[:-1]
        },
        "not_assessed": _skipped(frame[damage == NOT_ASSESSED], len(frame), grid),
        "area_m2": _area(frame, grid),
        "mean_confidence": _mean(assessed["confidence"]),
        "confidence": UNCALIBRATED,
        **place(grid),
    }


def summarise_buildings(frame: gpd.GeoDataFrame, grid: Grid, *, mode: str) -> dict[str, Any]:
    """Summary of the buildings of a single date, ready for `summary.json`.

    Args:
        frame: buildings with the columns of `products.vectors.BUILDING_COLUMNS`; it may be empty.
        grid: the grid that was mapped.
        mode: how the model was shown the date.
    """
    areas = frame["area_m2"].astype(float)
    grades = grade(frame)
    return {
        "buildings": len(frame),
        "assessed": int((grades < len(GRADES)).sum()),
        "mode": mode,
        "grades": {
            name: {"confidence_from": least, "buildings": int((grades == number).sum())}
            for number, (name, least, _) in enumerate(GRADES)
        },
        "area_m2": _area(frame, grid),
        "median_area_m2": round(float(areas.median()), 1) if areas.notna().any() else None,
        "mean_confidence": _mean(frame["confidence"]),
        "confidence": UNCALIBRATED,
        **place(grid),
    }


def grade(frame: gpd.GeoDataFrame) -> np.ndarray:
    """Index into GRADES of each building's confidence; `len(GRADES)` where it is missing."""
    confidence = frame["confidence"].astype(float).round(4).to_numpy()  # as the layers hold it
    found = np.full(len(frame), len(GRADES))
    for number in reversed(range(len(GRADES))):  # the strictest last
        found[confidence >= GRADES[number][1]] = number
    return found


def place(grid: Grid) -> dict[str, Any]:
    """Where a map lies, and the size of its pixels."""
    return {
        "bounds_lonlat": bounds_lonlat(grid),
        "coordinates": grid.crs.to_string() if grid.crs is not None else "pixels",
        "size_px": {"width": grid.width, "height": grid.height},
        "resolution_m": grid.resolution_m,
    }


def bounds_lonlat(grid: Grid) -> list[float] | None:
    """[west, south, east, north] in degrees around the grid; west > east across the antimeridian."""
    if not grid.is_georeferenced:
        return None
    along = np.linspace(0, 1, 21)
    cols = np.concatenate([along, along, 0 * along, 0 * along + 1]) * grid.width
    rows = np.concatenate([0 * along, 0 * along + 1, along, along]) * grid.height
    lons, lats = grid.lonlat(cols, rows)
    if lons.max() - lons.min() > 180:
        lons = np.where(lons < 0, lons + 360, lons)
    west, east = (float(lon - 360 if lon > 180 else lon) for lon in (lons.min(), lons.max()))
    return [round(value, 7) for value in (west, float(lats.min()), east, float(lats.max()))]


def _class(rows: gpd.GeoDataFrame, assessed: int, total_area: float | None, grid: Grid) -> dict[str, Any]:
    area = _area(rows, grid)
    return {
        **_share(len(rows), assessed),
        "area_m2": area,
        "area_share": round(area / total_area, 4) if area is not None and total_area else None,
        "mean_confidence": _mean(rows["confidence"]),
    }


def _skipped(rows: gpd.GeoDataFrame, buildings: int, grid: Grid) -> dict[str, Any]:
    """Those that are not assessed, by reason."""
    reasons = rows["reason"].fillna("").replace("", "unknown").value_counts()
    return {
        "buildings": len(rows),
        "share_of_all": _ratio(len(rows), buildings),
        "area_m2": _area(rows, grid),
        "reasons": {str(reason): int(reasons[reason]) for reason in sorted(reasons.index)},
    }


def _share(count: int, total: int) -> dict[str, Any]:
    return {"buildings": count, "share": _ratio(count, total)}


def _ratio(count: int, total: int) -> float | None:
    return round(count / total, 4) if total else None


def _mean(values: "pd.Series[float]") -> float | None:
    mean = float(values.astype(float).mean())
    return None if math.isnan(mean) else round(mean, 4)


def _area(rows: gpd.GeoDataFrame, grid: Grid) -> float | None:
    return round(float(rows["area_m2"].astype(float).sum()), 1) if grid.is_georeferenced else None
