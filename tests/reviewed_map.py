"""A finished map of a few buildings, written by hand in a moment, and the two images that it would be of."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS

import finished_maps
from aftermap.classes import DAMAGE
from aftermap.files import write_json
from aftermap.geo.grid import Grid, quiet_without_georeference
from aftermap.products.vectors import PROBABILITIES
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


def make_map(folder: Path, grid: Grid = GROUND, **provenance: Any) -> FinishedMap:
    """`folder/map` with 25 buildings, `folder/before.tif` and `folder/after.tif`; buildings are called b0 to b24."""
    random = np.random.default_rng(0)
    images = random.integers(60, 200, (2, 3, SIDE, SIDE), dtype=np.uint8)
    for name, pixels in zip(("before", "after"), images, strict=True):
        write_image(folder / f"{name}.tif", pixels, grid)
    places = [(20.0 + 36 * col, 20.0 + 36 * row) for row in range(5) for col in range(5)]
    levels = np.arange(25) % 4
    frame = finished_maps.table(places, [DAMAGE.names[1 + level] for level in levels], grid, side_px=16)
    frame["building_id"] = [f"b{number}" for number in range(25)]
    sure = _SURE - 0.01 * np.arange(25)
    shares = np.repeat(((1 - sure) / 3)[:, None], 4, axis=1)
    shares[np.arange(25), levels] = sure
    frame[list(PROBABILITIES)], frame["confidence"], frame["p_building"] = shares, sure, 0.8
    frame.loc[24, [*PROBABILITIES, "confidence", "p_building"]] = np.nan  # a cloud hid the last one
    frame.loc[24, ["damage", "reason"]] = "not-assessed", "cloud"
    out = finished_maps.finish(folder / "map", frame, grid)
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
    return open_map(out)
