"""Labels in the xBD schema: polygons in pixels and in longitude and latitude, with the metadata of each date."""

import json
from typing import Any, Literal

import numpy as np
import shapely
from shapely.geometry import Polygon

from aftermap.classes import DAMAGE
from aftermap.geo.grid import Grid
from aftermap.synthetic.pair import Pair

DISASTER_TYPES = {"wind": "wind", "flood": "flooding", "fire": "fire", "earthquake": "earthquake"}
CAPTURE_DATES = {"pre": "2020-01-01T12:00:00.000Z", "post": "2020-02-01T12:00:00.000Z"}


def xbd_labels(pair: Pair, name: str, grid: Grid, date: Literal["pre", "post"]) -> str:
    """The label file of one date as JSON text.

    Args:
        pair: the scene.
        name: without date and suffix, such as `synthetic-wind_00000003`.
        grid: georeference of the scene.
        date: damage is named in `post` only, as in xBD.
    """
    xy: list[dict[str, Any]] = []
    lng_lat: list[dict[str, Any]] = []
    for number, footprint in enumerate(pair.footprints):
        properties: dict[str, str] = {"feature_type": "building"}
        if date == "post":
            properties["subtype"] = DAMAGE.names[footprint.damage]
        properties["uid"] = building_id(name, number)
        xy.append({"properties": properties, "wkt": shapely.to_wkt(footprint.polygon, rounding_precision=2)})
        degrees = to_degrees(footprint.polygon, grid)
        lng_lat.append({"properties": properties, "wkt": shapely.to_wkt(degrees, rounding_precision=11)})
    index = 0 if date == "pre" else 1
    metadata = {
        "sensor": "SYNTHETIC",
        "provider_asset_type": "SYNTHETIC",
        "gsd": round(pair.gsd_m, 6),
        "capture_date": CAPTURE_DATES[date],
        "off_nadir_angle": round(pair.off_nadir[index], 4),
        "pan_resolution": round(pair.gsd_m, 6),
        "sun_azimuth": round((pair.sun[index][0] + 90) % 360, 4),  # ours is counted from the image's right
        "sun_elevation": round(pair.sun[index][1], 4),
        "target_azimuth": 0.0,
        "disaster": name.rsplit("_", 1)[0],
        "disaster_type": DISASTER_TYPES[pair.kind],
        "catalog_id": f"{name}_{date}",
        "original_width": pair.pre.shape[2],
        "original_height": pair.pre.shape[1],
        "width": pair.pre.shape[2],
        "height": pair.pre.shape[1],
        "id": f"{name}_{date}",
        "img_name": f"{name}_{date}_disaster.png",
    }
    return json.dumps({"features": {"lng_lat": lng_lat, "xy": xy}, "metadata": metadata}, indent=1) + "\n"


def building_id(name: str, number: int) -> str:
    """Identifier of a building, the same in both dates and in the footprints."""
    return f"{name}_{number:04d}"


def to_degrees(polygon: Polygon, grid: Grid) -> Polygon:
    """A polygon from pixels to longitude and latitude (EPSG:4326)."""

    def change(points: np.ndarray) -> np.ndarray:
        return np.stack(grid.lonlat(points[:, 0], points[:, 1]), axis=1)

    moved: Polygon = shapely.transform(polygon, change)
    return moved
