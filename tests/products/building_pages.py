"""Houses that were found on one image, and their page."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from building_frames import GRID
from shapely import affinity
from shapely.geometry import box

from aftermap.products.page.page import write_page
from aftermap.products.summary import summarise_buildings
from aftermap.products.view import Picture, View, building_view

RGB = np.full((3, 160, 240), 90, np.uint8)
HEAT = np.zeros((3, 160, 240), np.uint8) + np.array([250, 160, 10], np.uint8)[:, None, None]


def houses(*confidence: float | None, unseen: int = 0) -> gpd.GeoDataFrame:
    """Houses of 10 x 8 m in a row, with the confidence given; the last `unseen` ones were not seen."""
    values = [*confidence, *[None] * unseen]
    t = GRID.transform
    shapes = [
        affinity.affine_transform(box(10 + 40 * k, 20, 30 + 40 * k, 36), [t.a, t.b, t.d, t.e, t.c, t.f])
        for k in range(len(values))
    ]
    columns: dict[str, Any] = {
        "building_id": [f"h{k}" for k in range(len(values))],
        "p_building": values,
        "confidence": values,
        "area_m2": 80.0,
        "lon": -94.1,
        "lat": 36.1,
        "seen": [1.0] * len(confidence) + [0.1] * unseen,
        "image": "drone",
        "model": "m",
    }
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=GRID.crs.to_wkt() if GRID.crs else None)


def view(frame: gpd.GeoDataFrame) -> View:
    summary = summarise_buildings(frame, GRID, mode="one image")
    return building_view(frame, Picture("Image", RGB), Picture("Probability", HEAT), GRID, summary)


def page(folder: Path, frame: gpd.GeoDataFrame) -> Path:
    return write_page(folder / "map.html", view(frame), GRID, title="Town", model="m 1")
