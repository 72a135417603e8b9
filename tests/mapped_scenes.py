"""Parts of mapped scenes, made from arrays and tables without any model."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import geopandas
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.files import write_json
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import areas_m2
from aftermap.products.summary import summarise
from aftermap.products.vectors import normalise, write_file
from aftermap.workflows.many.parts import pack
from aftermap.workflows.mapping.provenance import describe_grid

WEST, NORTH, PIXEL = 500_000.0, 100_000.0, 0.5
SHARES = {"no-damage": (0.9, 0.06, 0.03, 0.01), "destroyed": (0.02, 0.03, 0.15, 0.8)}


def grid_at(col: float, row: float, width: int = 64, height: int = 64, *, crs: int = 32636) -> Grid:
    """A grid whose upper left corner is so many pixels from that of the map."""
    return Grid(
        CRS.from_epsg(crs),
        Affine(PIXEL, 0, WEST + col * PIXEL, 0, -PIXEL, NORTH - row * PIXEL),
        width,
        height,
    )


def square(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """An outline in pixels of the map."""
    return shapely.box(WEST + left * PIXEL, NORTH - bottom * PIXEL, WEST + right * PIXEL, NORTH - top * PIXEL)


def table(shapes: Sequence[shapely.Geometry], *, damage: Sequence[str] = (), ids: Sequence[str] = (),
          seen: float = 1.0, crs: int = 32636) -> geopandas.GeoDataFrame:  # fmt: skip
    """Buildings as a map has them."""
    words = list(damage) or ["no-damage"] * len(shapes)
    names = list(ids) or [str(number) for number in range(1, len(shapes) + 1)]
    shares = np.array([SHARES[word] for word in words]).reshape(-1, 4)
    columns = {
        "building_id": names,
        "damage": words,
        **dict(zip(("p_no_damage", "p_minor", "p_major", "p_destroyed"), shares.T, strict=True)),
        **{"p_building": 0.9, "confidence": shares.max(axis=1, initial=0), "seen": seen},
        **{"area_m2": areas_m2(np.array(shapes, dtype=object), CRS.from_epsg(crs)), "lon": 0.0, "lat": 0.0},
        **{"reason": "", "mode": "pre+post", "model": "box"},
    }
    return geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=f"EPSG:{crs}")


def write_part(folder: Path, name: str, grid: Grid, frame: geopandas.GeoDataFrame, *, value: int = 0,
               unseen: tuple[slice, slice] | None = None, footprints: str = "", model: str = "m") -> Path:  # fmt: skip
    """A part whose pixels are all of one class but for those that are unseen."""
    place = folder / name
    place.mkdir(parents=True)
    classes = np.full(grid.shape, value, np.uint8)
    if unseen is not None:
        classes[unseen] = 255
    shares = np.full((5, *grid.shape), 40 + value, np.uint8)
    shares[:, classes == 255] = 255
    profile = {"driver": "GTiff", "width": grid.width, "height": grid.height, "dtype": "uint8", "nodata": 255}
    profile |= {"crs": grid.crs, "transform": grid.transform}
    with rasterio.open(place / "damage.tif", "w", count=1, **profile) as file:
        file.write(classes, 1)
    with rasterio.open(place / "probabilities.tif", "w", count=5, **profile) as file:
        file.write(shares)
    write_file(normalise(frame), place / "buildings.gpkg", "buildings")
    for date in ("before", "after"):
        cv2.imwrite(str(place / f"{date}.jpg"), np.full((32, 32, 3), 40 * value + 20, np.uint8))
        cv2.imwrite(str(place / f"{date}-seen.png"), np.full((32, 32), 255, np.uint8))
    inputs = {date: {"files": [{"name": f"{name}_{date}.tif"}], "dtype": "uint8", "bands": [1, 2, 3],
                     "acquired": "2024-02-03"} for date in ("pre", "post")}  # fmt: skip
    if footprints:
        inputs["footprints"] = {"name": "houses.gpkg", "sha256": footprints}
    write_json(
        place / "provenance.json",
        {
            "mode": "pre+post",
            "scale": "joint-damage-scale",
            "created": "2024-02-04T00:00:00+00:00",
            "model": {"name": "box", "version": "3", "sha256": model, "limits": ""},
            "inputs": inputs,
            "grid": describe_grid(grid),
            "options": {},
            "warnings": [f"{name} is hazy"],
        },
    )
    write_json(place / "summary.json", summarise(normalise(frame), grid))
    return pack(place, folder / f"{name}-0.zip")
