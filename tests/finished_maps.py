"""Folders of finished maps, made from a table without any model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.files import write_json
from aftermap.geo.grid import Grid, quiet_without_georeference
from aftermap.products.styles import DAMAGE_STYLE, style_layer
from aftermap.products.summary import summarise
from aftermap.products.vectors import write_buildings

UTM = Grid(CRS.from_epsg(32615), Affine(10, 0, 400_000, 0, -10, 4_100_000), 120, 80)
"""1200 m by 800 m, the upper left corner on a round number."""

SHARES = {
    "no-damage": (0.9, 0.06, 0.03, 0.01),
    "minor-damage": (0.2, 0.6, 0.1, 0.1),
    "major-damage": (0.1, 0.1, 0.7, 0.1),
    "destroyed": (0.02, 0.03, 0.15, 0.8),
}


def table(
    places: Sequence[tuple[float, float]],
    damage: Sequence[str],
    grid: Grid = UTM,
    *,
    side_px: float = 1.0,
    columns: dict[str, Any] | None = None,
) -> geopandas.GeoDataFrame:
    """Square buildings around places in pixels (x, y), with their damage, `b1` first, and further columns."""
    t = grid.transform
    half = side_px / 2
    boxes = [shapely.box(x - half, y - half, x + half, y + half) for x, y in places]
    shapes = [shapely.transform(b, lambda xy: np.column_stack(t @ (xy[:, 0], xy[:, 1]))) for b in boxes]
    rows = pd.DataFrame({"building_id": [f"b{n}" for n in range(1, len(damage) + 1)], "damage": list(damage)})
    nothing = (None,) * 4
    for position, name in enumerate(("p_no_damage", "p_minor", "p_major", "p_destroyed")):
        rows[name] = pd.array([SHARES.get(d, nothing)[position] for d in damage], dtype="Float64").to_numpy(
            float, na_value=np.nan
        )
    seen = np.array([d in SHARES for d in damage], bool)
    rows["p_building"] = np.where(seen, 0.85, np.nan)
    rows["confidence"] = rows[["p_no_damage", "p_minor", "p_major", "p_destroyed"]].max(axis=1)
    rows["seen"] = np.where(seen, 1.0, 0.2)
    if grid.crs is None:
        rows["area_m2"] = rows["lon"] = rows["lat"] = np.nan
    else:
        xs, ys = np.array(places, float).reshape(-1, 2).T
        rows["lon"], rows["lat"] = grid.lonlat(xs, ys)
        rows["area_m2"] = (grid.resolution_m * side_px) ** 2
    rows["reason"] = np.where(seen, "", "cloud").astype(object)
    rows["mode"] = "pre+post"
    for name, values in (columns or {}).items():
        rows[name] = values
    return geopandas.GeoDataFrame(rows, geometry=shapes, crs=None if grid.crs is None else grid.crs.to_wkt())


def finish(
    folder: Path, frame: geopandas.GeoDataFrame, grid: Grid = UTM, *, missing: np.ndarray | None = None
) -> Path:
    """The folder of a finished map with this table; `missing` (H, W) is where nothing was seen."""
    folder.mkdir(parents=True)
    write_buildings(frame, folder)
    style_layer(folder, "buildings", DAMAGE_STYLE, list(frame.columns))
    pixels = np.zeros(grid.shape, np.uint8)
    if missing is not None:
        pixels[missing] = 255
    with (
        quiet_without_georeference(),
        rasterio.open(
            folder / "damage.tif",
            "w",
            driver="GTiff",
            width=grid.width,
            height=grid.height,
            count=1,
            dtype="uint8",
            nodata=255,
            crs=grid.crs,
            transform=grid.transform,
            tiled=True,
            blockxsize=16,
            blockysize=16,
        ) as file,
    ):
        file.write(pixels, 1)
    write_json(folder / "summary.json", summarise(frame, grid))
    write_json(
        folder / "provenance.json",
        {
            "format": 1,
            "created": "2026-11-30T10:00:00+00:00",
            "mode": "pre+post",
            "scale": "joint-damage-scale",
            "model": {"name": "box", "version": "1", "sha256": "0" * 64, "licence": "MIT"},
            "inputs": {"pre": {"acquired": None}, "post": {"acquired": "2011-05-24"}},
        },
    )
    return folder
