"""Finished maps of damage with exact content, without a model: rows of a small town in UTM 36 N, half a metre a pixel."""

import geopandas
import numpy as np
import rasterio
from affine import Affine
from shapely.geometry import box

from aftermap.files import write_json
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import areas_m2, to_pixels
from aftermap.products.page.page import write_page
from aftermap.products.summary import summarise
from aftermap.products.vectors import write_buildings
from aftermap.products.view import Picture, damage_view

CRS = "EPSG:32636"
WEST, NORTH = 500_000.0, 100_000.0
GRID = Grid(rasterio.crs.CRS.from_string(CRS), Affine(0.5, 0, WEST, 0, -0.5, NORTH), 256, 128)
SURE = {
    "no-damage": (0.9, 0.06, 0.03, 0.01),
    "minor-damage": (0.2, 0.6, 0.15, 0.05),
    "major-damage": (0.1, 0.2, 0.6, 0.1),
    "destroyed": (0.05, 0.05, 0.1, 0.8),
}


def house(across, down, size=8.0):
    """A square house, its upper left corner so many metres from that of the map."""
    return box(WEST + across, NORTH - down - size, WEST + across + size, NORTH - down)


def table(rows, *, grid=GRID):
    """Buildings of a map: {id: (outline, damage[, probabilities])}."""
    shapes = np.array([row[1][0] for row in rows.items()], dtype=object)
    damage = [row[1] for row in rows.values()]
    known = [row[2] if len(row) > 2 else SURE.get(row[1], (np.nan,) * 4) for row in rows.values()]
    frame = geopandas.GeoDataFrame(
        {
            "building_id": list(rows),
            "damage": damage,
            **{
                name: [p[i] for p in known]
                for i, name in enumerate(("p_no_damage", "p_minor", "p_major", "p_destroyed"))
            },
            "p_building": [0.9 if p[0] == p[0] else np.nan for p in known],
            "confidence": [max(p) for p in known],
            "seen": [1.0 if p[0] == p[0] else 0.0 for p in known],
            "area_m2": areas_m2(shapes, grid.crs),
            "lon": 33.0,
            "lat": 0.9,
            "reason": ["" if p[0] == p[0] else "cloud" for p in known],
            "mode": "pre+post",
        },
        geometry=shapes,
        crs=None if grid.crs is None else CRS,
    )
    return frame


def finished(folder, rows, *, grid=GRID, acquired=("2026-02-01", "2026-02-08"), model="made up", page=True):
    """A folder as `aftermap map` leaves it."""
    folder.mkdir(parents=True)
    frame = table(rows, grid=grid)
    write_buildings(frame, folder)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": grid.height, "width": grid.width}
    with rasterio.open(folder / "damage.tif", "w", crs=grid.crs, transform=grid.transform, **profile) as file:
        file.write(np.zeros((1, grid.height, grid.width), np.uint8))
    summary = summarise(frame, grid)
    write_json(folder / "summary.json", summary)
    dates = dict(zip(("pre", "post"), ({"acquired": day} for day in acquired), strict=True))
    provenance = {"format": 1, "scale": "joint-damage-scale", "inputs": dates, "warnings": []}
    write_json(
        folder / "provenance.json", {**provenance, "model": {"name": model, "version": "1", "sha256": model}}
    )
    if page:
        flat = [np.full((grid.height, grid.width, 3), tone, np.uint8) for tone in (90, 150)]
        view = damage_view(frame, Picture("Before", flat[0]), Picture("After", flat[1]), grid, summary)
        write_page(folder / "map.html", view, grid, title=folder.name)
    return folder


def outlines_px(rows, grid=GRID):
    """The outlines of rows in pixels."""
    return [to_pixels(row[0], grid) for row in rows.values()]
