"""Folders of finished maps, made from a table without any model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.classes import OneDate
from aftermap.files import write_json
from aftermap.geo.grid import Grid, quiet_without_georeference
from aftermap.geo.polygons import areas_m2
from aftermap.products.page.page import write_page
from aftermap.products.styles import DAMAGE_STYLE, ONE_DATE_STYLE, style_layer
from aftermap.products.summary import summarise, summarise_one_date
from aftermap.products.vectors import ONE_DATE_LAYER, write_buildings
from aftermap.products.view import Picture, damage_view, one_date_view

UTM = Grid(CRS.from_epsg(32615), Affine(10, 0, 400_000, 0, -10, 4_100_000), 120, 80)
"""1200 m by 800 m, the upper left corner on a round number."""

WEST, NORTH = 500_000.0, 100_000.0
GRID = Grid(CRS.from_epsg(32636), Affine(0.5, 0, WEST, 0, -0.5, NORTH), 256, 128)
"""128 m by 64 m, half a metre a pixel."""

SHARES = {
    "no-damage": (0.9, 0.06, 0.03, 0.01),
    "minor-damage": (0.2, 0.6, 0.1, 0.1),
    "major-damage": (0.1, 0.1, 0.7, 0.1),
    "destroyed": (0.02, 0.03, 0.15, 0.8),
}
PROBABILITIES = ["p_no_damage", "p_minor", "p_major", "p_destroyed"]


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
    rows = _rows([f"b{n}" for n in range(1, len(damage) + 1)], damage, {})
    if grid.crs is None:
        rows["area_m2"] = rows["lon"] = rows["lat"] = np.nan
    else:
        xs, ys = np.array(places, float).reshape(-1, 2).T
        rows["lon"], rows["lat"] = grid.lonlat(xs, ys)
        rows["area_m2"] = (grid.resolution_m * side_px) ** 2
    return _frame(rows, shapes, grid, columns or {})


def house(across: float, down: float, size: float = 8.0) -> shapely.Polygon:
    """A square house on `GRID`, its upper left corner so many metres from that of the map."""
    return shapely.box(WEST + across, NORTH - down - size, WEST + across + size, NORTH - down)


def town(buildings: Mapping[str, tuple[Any, ...]], grid: Grid = GRID) -> geopandas.GeoDataFrame:
    """Buildings with outlines of their own: {id: (outline, damage[, probabilities])}."""
    shapes = np.array([told[0] for told in buildings.values()], dtype=object)
    own = {name: told[2] for name, told in buildings.items() if len(told) > 2}
    rows = _rows(list(buildings), [told[1] for told in buildings.values()], own)
    rows["area_m2"] = areas_m2(shapes, grid.crs)
    rows["lon"], rows["lat"] = 33.0, 0.9
    return _frame(rows, shapes, grid, {})


def _rows(ids: Sequence[str], damage: Sequence[str], own: Mapping[str, tuple[float, ...]]) -> pd.DataFrame:
    rows = pd.DataFrame({"building_id": list(ids), "damage": list(damage)})
    known = [own.get(name, SHARES.get(said, (np.nan,) * 4)) for name, said in zip(ids, damage, strict=True)]
    rows[PROBABILITIES] = np.array(known, float).reshape(-1, 4)
    seen = rows["p_no_damage"].notna()
    rows["p_building"] = np.where(seen, 0.85, np.nan)
    rows["confidence"] = rows[PROBABILITIES].max(axis=1)
    rows["seen"] = np.where(seen, 1.0, 0.2)
    return rows


def _frame(
    rows: pd.DataFrame, shapes: Sequence[Any], grid: Grid, columns: Mapping[str, Any]
) -> geopandas.GeoDataFrame:
    rows["reason"] = np.where(rows["seen"] == 1, "", "cloud").astype(object)
    rows["mode"] = "pre+post"
    for name, values in columns.items():
        rows[name] = values
    return geopandas.GeoDataFrame(rows, geometry=shapes, crs=None if grid.crs is None else grid.crs.to_wkt())


def finish(
    folder: Path,
    frame: geopandas.GeoDataFrame,
    grid: Grid = UTM,
    *,
    missing: np.ndarray | None = None,
    acquired: tuple[str | None, str | None] = (None, "2011-05-24"),
    model: str = "box",
    page: bool = False,
) -> Path:
    """The folder of a finished map with this table, as `aftermap map` leaves it.

    `missing` (H, W) is where nothing was seen; `page` writes its page over two grey pictures.
    """
    folder.mkdir(parents=True)
    write_buildings(frame, folder)
    style_layer(folder, "buildings", DAMAGE_STYLE, list(frame.columns))
    _write_raster(folder / "damage.tif", grid, missing)
    summary = summarise(frame, grid)
    write_json(folder / "summary.json", summary)
    write_json(
        folder / "provenance.json",
        {
            "format": 1,
            "created": "2026-11-30T10:00:00+00:00",
            "mode": "pre+post",
            "scale": "joint-damage-scale",
            "model": {"name": model, "version": "1", "sha256": "0" * 64, "licence": "MIT"},
            "inputs": {date: {"acquired": day} for date, day in zip(("pre", "post"), acquired, strict=True)},
        },
    )
    if page:
        before, after = (
            Picture(name, np.full((*grid.shape, 3), tone, np.uint8))
            for name, tone in (("Before", 90), ("After", 150))
        )
        view = damage_view(frame, before, after, grid, summary)
        write_page(folder / "map.html", view, grid, title=folder.name)
    return folder


def finish_one_date(
    folder: Path,
    places: Sequence[tuple[float, float]],
    damage: Sequence[str],
    grid: Grid = UTM,
    *,
    mode: OneDate = "post-only",
    side_px: float = 6.0,
    shares: Sequence[float] | None = None,
) -> Path:
    """The folder of a finished map of one date with its page; `shares` are p(destroyed), 0.9 and 0.1 by default."""
    folder.mkdir(parents=True)
    frame = table(places, damage, grid, side_px=side_px).drop(columns=PROBABILITIES[:3])
    known = np.array([name != "not-assessed" for name in damage])
    told = np.where(np.array(damage) == "destroyed", 0.9, 0.1) if shares is None else np.array(shares)
    frame["p_destroyed"] = np.where(known, told, np.nan)
    frame["confidence"] = np.where(known, np.maximum(told, 1 - told), np.nan)
    frame["p_building"], frame["seen"], frame["mode"] = 0.85, np.where(known, 1.0, 0.2), mode
    if mode == "pre-only":
        frame["reason"] = "no image after"
    else:
        frame["reason"] = np.where(known, "", "cloud").astype(object)
    write_buildings(frame, folder, ONE_DATE_LAYER)
    style_layer(folder, "buildings", ONE_DATE_STYLE, list(frame.columns))
    _write_raster(folder / ("destroyed.tif" if mode == "post-only" else "classes.tif"), grid, None)
    summary = summarise_one_date(frame, grid, mode=mode)
    write_json(folder / "summary.json", summary)
    provenance = {
        "format": 1,
        "created": "2026-11-30T10:00:00+00:00",
        "mode": mode,
        "scale": "destroyed-or-not" if mode == "post-only" else "building",
        "model": {"name": "one date", "version": "1", "sha256": "0" * 64, "licence": "MIT"},
        "inputs": {mode.partition("-")[0]: {"acquired": "2011-05-24"}},
    }
    write_json(folder / "provenance.json", provenance)
    picture = Picture("After", np.full((*grid.shape, 3), 150, np.uint8))
    other = Picture("Probability", np.full((*grid.shape, 3), 30, np.uint8))
    write_page(
        folder / "map.html", one_date_view(frame, picture, other, grid, summary), grid, title=folder.name
    )
    return folder


def _write_raster(path: Path, grid: Grid, missing: np.ndarray | None) -> None:
    pixels = np.zeros(grid.shape, np.uint8)
    if missing is not None:
        pixels[missing] = 255
    profile = {"width": grid.width, "height": grid.height, "count": 1, "dtype": "uint8", "nodata": 255}
    profile |= {
        "crs": grid.crs,
        "transform": grid.transform,
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
    }
    with quiet_without_georeference(), rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(pixels, 1)


def finished(
    folder: Path,
    buildings: Mapping[str, tuple[Any, ...]],
    *,
    grid: Grid = GRID,
    acquired: tuple[str | None, str | None] = ("2026-02-01", "2026-02-08"),
    model: str = "made up",
    page: bool = True,
) -> Path:
    """A finished `town` with its page."""
    return finish(folder, town(buildings, grid), grid, acquired=acquired, model=model, page=page)
