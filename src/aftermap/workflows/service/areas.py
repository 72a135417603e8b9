"""A user's area of interest: what lies in it, what touches it, and which pixels of a tile are outside."""

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import InputError

Box = tuple[float, float, float, float]
"""West, south, east, north, in degrees."""


@dataclass(frozen=True)
class Area:
    """Polygons on the ground, longitudes and latitudes (EPSG:4326).

    Attributes:
        text: as GeoJSON.
    """

    text: str

    @cached_property
    def shape(self) -> BaseGeometry:
        """The polygons."""
        shape = shapely.from_geojson(self.text)
        shapely.prepare(shape)
        return shape

    @cached_property
    def name(self) -> str:
        """Short text that tells this area from others."""
        return sha256(self.text.encode()).hexdigest()[:16]

    def holds(self, ground: BaseGeometry) -> bool:
        """Whether all of some ground lies in the area."""
        return bool(self.shape.covers(ground))

    def touches(self, ground: BaseGeometry) -> bool:
        """Whether some of it does."""
        return bool(self.shape.intersects(ground))

    def points_inside(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Which of some points lie in the area; those without a place do not."""
        known = np.isfinite(lon) & np.isfinite(lat)
        inside = np.zeros(len(lon), bool)
        inside[known] = shapely.contains_xy(self.shape, lon[known], lat[known])
        return inside


def area_of(path: Path) -> Area:
    """The polygons of a vector file as an area.

    Raises:
        FootprintError: it cannot be read.
        InputError: it holds no ground, or does not say where.
    """
    from aftermap.geo.vectors.files import read_table

    table = read_table(path, "area", columns=False)
    import geopandas

    frame = geopandas.GeoSeries(list(table.shapes), crs=table.crs)
    if frame.crs is None:
        raise InputError(f"{path} does not say where it lies: save it with a reference system")
    return area_from(frame.to_crs(4326).union_all(), str(path))


def area_from(shape: BaseGeometry | dict[str, Any], named: str = "the area") -> Area:
    """An area from polygons in degrees.

    Raises:
        InputError: they are none.
    """
    try:
        ground = shapely.from_geojson(json.dumps(shape)) if isinstance(shape, dict) else shape
    except shapely.errors.GEOSException as error:
        raise InputError(f"{named} is no GeoJSON geometry: {error}") from None
    ground = shapely.make_valid(ground)
    if ground is None or ground.is_empty or not ground.area:
        raise InputError(f"{named} holds no ground: expected polygons in longitude and latitude")
    west, south, east, north = ground.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise InputError(f"{named} reaches beyond the globe: expected longitudes and latitudes in degrees")
    return Area(str(shapely.to_geojson(ground)))
