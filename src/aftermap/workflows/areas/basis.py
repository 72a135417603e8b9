"""What a map is counted by: something that tells of each point of the ground in which area it lies."""

from typing import Protocol

import geopandas
import numpy as np
import shapely
from pyproj import CRS, Geod, Transformer

from aftermap.geo.datum import transforming

NOWHERE = -1
"""Key of a point that lies in no area."""

DEGREES = CRS.from_epsg(4326)
_GEOD = Geod(ellps="WGS84")
_STEPS = 24


class Basis(Protocol):
    """Areas to count by.

    Attributes:
        slug: names its files, such as h3-9.
        title: says what the areas are, such as "H3 cells of resolution 9".
        listed: keys of areas that are told of even where nothing lies in them, int64 (k,).
        edge_m: about the side of an area, so that the ground is sampled finely enough; None where that is not known.
    """

    @property
    def slug(self) -> str: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def edge_m(self) -> float | None: ...  # noqa: D102

    @property
    def listed(self) -> np.ndarray: ...  # noqa: D102

    def locate(self, lons: np.ndarray, lats: np.ndarray) -> np.ndarray:
        """Key of the area in which each point (degrees) lies, int64 (n,); `NOWHERE` outside of all."""
        ...

    def describe(self, keys: np.ndarray) -> geopandas.GeoDataFrame:
        """`area_id` (unique text), `name` and `pcode` (text or None) and geometry of areas, in the order of the keys."""
        ...


def ground_areas_m2(shapes: np.ndarray, crs: CRS) -> np.ndarray:
    """Area of polygons on the ellipsoid in square metres, (n,); edges are straight in their own reference system."""
    transformer = between(crs, DEGREES)
    areas = []
    for shape in shapes:
        west, south, east, north = shape.bounds
        fine = shapely.segmentize(shape, max((east - west) / _STEPS, (north - south) / _STEPS, 1e-9))
        there = fine
        if crs != DEGREES:
            there = shapely.transform(fine, transformer.transform, interleaved=False)
        areas.append(abs(_GEOD.geometry_area_perimeter(shapely.orient_polygons(there))[0]))
    return np.array(areas, float)


def between(source: CRS, target: CRS) -> Transformer:
    """Coordinates (x, y) of one reference system in another."""
    with transforming():
        return Transformer.from_crs(source, target, always_xy=True)
