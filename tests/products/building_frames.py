"""Buildings frames for tests."""

from typing import Any

import geopandas as gpd
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry import MultiPolygon, Polygon, box

from aftermap.geo.grid import Grid

GRID = Grid(CRS.from_epsg(32615), Affine(0.5, 0, 400_000, 0, -0.5, 4_000_000), 240, 160)
PIXELS = Grid.pixels(240, 160)

_PROBABILITIES = {
    "no-damage": (0.9, 0.06, 0.03, 0.01),
    "minor-damage": (0.2, 0.6, 0.1, 0.1),
    "major-damage": (0.1, 0.1, 0.7, 0.1),
    "destroyed": (0.02, 0.03, 0.15, 0.8),
}


def building(
    building_id: str, damage: str, outline: Polygon | MultiPolygon, grid: Grid = GRID
) -> dict[str, Any]:
    """One row; `outline` is in pixels of `grid`."""
    t = grid.transform
    shape = gpd.GeoSeries([outline]).affine_transform([t.a, t.b, t.d, t.e, t.c, t.f])[0]
    assessed = damage in _PROBABILITIES
    values = _PROBABILITIES.get(damage, (None,) * 4)
    centre = outline.centroid
    lon = lat = area = None
    if grid.is_georeferenced:
        lons, lats = grid.lonlat([centre.x], [centre.y])
        lon, lat, area = float(lons[0]), float(lats[0]), outline.area * 0.25
    return {
        "building_id": building_id,
        "damage": damage,
        **dict(zip(("p_no_damage", "p_minor", "p_major", "p_destroyed"), values, strict=True)),
        "p_building": 0.85 if assessed else None,
        "confidence": max(values) if assessed else None,
        "seen": 1.0 if assessed else 0.2,
        "area_m2": area,
        "lon": lon,
        "lat": lat,
        "reason": None if assessed else "no data",
        "mode": "pre+post",
        "geometry": shape,
    }


def frame_of(rows: list[dict[str, Any]], grid: Grid = GRID) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(rows, geometry="geometry", crs=grid.crs)


def town(grid: Grid = GRID) -> gpd.GeoDataFrame:
    """Six buildings: each class once, undamaged twice; a3 has a court, b2 two parts, b3 was not seen."""
    court = box(130, 20, 180, 60).difference(box(145, 32, 165, 48))
    parts = MultiPolygon([box(20, 100, 40, 120), box(50, 100, 60, 120)])
    rows = [
        building("a1", "no-damage", box(20, 20, 50, 40), grid),
        building("a2", "minor-damage", box(70, 20, 100, 50), grid),
        building("a3", "no-damage", court, grid),
        building("b1", "major-damage", box(90, 90, 120, 120), grid),
        building("b2", "destroyed", parts, grid),
        building("b3", "not-assessed", box(200, 100, 220, 130), grid),
    ]
    return frame_of(rows, grid)


def empty(grid: Grid = GRID) -> gpd.GeoDataFrame:
    return town(grid).iloc[:0]
