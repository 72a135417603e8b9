"""A finished map of a few buildings, written by hand in a moment, and the two images that it would be of."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.classes import DAMAGE
from aftermap.files import write_json
from aftermap.geo.grid import Grid, quiet_without_georeference
from aftermap.products.vectors import PROBABILITIES, write_buildings
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.mapping.provenance import describe_input

SIDE = 192
GROUND = Grid(CRS.from_epsg(32615), Affine(0.5, 0, 400_000, 0, -0.5, 4_000_000), SIDE, SIDE)
NO_SHIFT = {
    **{"dx_px": 0.0, "dy_px": 0.0, "dx_m": None, "dy_m": None, "spread_px": None, "patches": 0},
    **{"agreement_before": None, "agreement_after": None, "applied": False, "reason": "too small"},
}
_SURE = 0.91


def write_image(path: Path, pixels: np.ndarray, grid: Grid) -> None:
    """Pixels (C, H, W) as a GeoTIFF."""
    options = {"count": len(pixels), "height": grid.height, "width": grid.width, "dtype": pixels.dtype}
    place = {} if grid.crs is None else {"crs": grid.crs, "transform": grid.transform}
    with quiet_without_georeference(), rasterio.open(path, "w", driver="GTiff", **options, **place) as file:
        file.write(pixels)


def outlines(grid: Grid, across: int = 5) -> list[shapely.Polygon]:
    """Squares of 16 pixels in rows, in the grid's reference system."""
    squares = [
        shapely.box(12 + 36 * col, 12 + 36 * row, 28 + 36 * col, 28 + 36 * row)
        for row in range(across)
        for col in range(across)
    ]
    t = grid.transform
    return list(geopandas.GeoSeries(squares).affine_transform([t.a, t.b, t.d, t.e, t.c, t.f]))


def make_map(folder: Path, grid: Grid = GROUND, **provenance: Any) -> FinishedMap:
    """`folder/map` with 25 buildings, `folder/before.tif` and `folder/after.tif`; buildings are called b0 to b24."""
    random = np.random.default_rng(0)
    images = random.integers(60, 200, (2, 3, SIDE, SIDE), dtype=np.uint8)
    for name, pixels in zip(("before", "after"), images, strict=True):
        write_image(folder / f"{name}.tif", pixels, grid)
    out = folder / "map"
    out.mkdir()
    write_image(out / "damage.tif", np.zeros((1, SIDE, SIDE), np.uint8), grid)
    rows = []
    for number, shape in enumerate(outlines(grid)):
        level = number % 4
        shares = np.full(4, (1 - _SURE + 0.01 * number) / 3)
        shares[level] = _SURE - 0.01 * number
        damage = DAMAGE.names[1 + level] if number != 24 else "not-assessed"
        known = number != 24
        rows.append(
            {
                "building_id": f"b{number}",
                "damage": damage,
                **dict(zip(PROBABILITIES, shares if known else [None] * 4, strict=True)),
                **{"p_building": 0.8 if known else None, "confidence": shares[level] if known else None},
                **{"seen": 1.0, "area_m2": 64.0 if grid.crs else None, "lon": None, "lat": None},
                **{"reason": None if known else "cloud", "mode": "pre+post", "geometry": shape},
            }
        )
    write_buildings(geopandas.GeoDataFrame(rows, geometry="geometry", crs=grid.crs), out)
    described = {
        date: describe_input([folder / f"{name}.tif"], grid, dtype="uint8", bands=[1, 2, 3])
        for date, name in (("pre", "before"), ("post", "after"))
    }
    tree = {
        "scale": DAMAGE.name,
        "inputs": described,
        "shift": NO_SHIFT,
        "stretch": None,
        "options": {"nodata": None},
    }
    write_json(out / "provenance.json", tree | provenance)
    write_json(out / "summary.json", {"buildings": 25})
    return open_map(out)
