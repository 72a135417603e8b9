"""Hexagons of H3. Needs `h3` (extra `areas`).

Source: Uber's H3, version 4; a cell of resolution 9 is about 0.1 km², of 8 about 0.7 km², of 10 about 0.015 km².
"""

import geopandas
import h3.api.basic_int as h3
import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from aftermap.errors import InputError
from aftermap.products.vectors import cut_antimeridian
from aftermap.workflows.areas.basis import DEGREES

FINEST = 15
_STEPS = 24
_POLAR = 80.0
"""Beyond this latitude, straight lines between the corners of a cell bend where degrees are drawn as a plane."""


class H3Cells:
    """Cells of one resolution.

    Args:
        resolution: 0 (continents) to 15 (a square metre).

    Raises:
        InputError: there is no such resolution.
    """

    listed = np.zeros(0, np.int64)

    def __init__(self, resolution: int) -> None:
        if not 0 <= resolution <= FINEST:
            raise InputError(f"--h3 {resolution} is no resolution of H3: pass 0 to {FINEST}, such as 9")
        self.resolution = resolution
        self.slug, self.title = f"h3-{resolution}", f"H3 cells of resolution {resolution}"
        self.edge_m: float | None = float(h3.average_hexagon_edge_length(resolution, unit="m"))

    def locate(self, lons: np.ndarray, lats: np.ndarray) -> np.ndarray:
        """The cell of each point, as the whole number that H3 calls it by."""
        find, resolution = h3.latlng_to_cell, self.resolution
        points = zip(lats.tolist(), lons.tolist(), strict=True)
        return np.fromiter((find(lat, lon, resolution) for lat, lon in points), np.int64, len(lons))

    def describe(self, keys: np.ndarray) -> geopandas.GeoDataFrame:
        """Cells by their address, in EPSG:4326, cut at the antimeridian."""
        names = [h3.int_to_str(key) for key in keys.tolist()]
        return geopandas.GeoDataFrame(
            {"area_id": names, "name": [None] * len(names), "pcode": [None] * len(names)},
            geometry=[cell_polygon(key) for key in keys.tolist()],
            crs=DEGREES,
        )


def cell_polygon(cell: int) -> BaseGeometry:
    """The outline of a cell in degrees; one across 180 degrees is cut, one around a pole reaches up to it."""
    lats, lons = np.array(h3.cell_to_boundary(cell), float).T
    if np.abs(lats).max() > _POLAR:
        lats, lons = _great_circles(lats, lons)
    ring = np.append(lons, lons[0])
    turned = np.concatenate([ring[:1], ring[0] + np.cumsum((np.diff(ring) + 180) % 360 - 180)])
    if abs(turned[-1] - turned[0]) < 180:
        shape = shapely.Polygon(np.column_stack([turned[:-1], lats]))
        if shape.bounds[0] < -180:
            shape = translate(shape, xoff=360)
        return cut_antimeridian(shape) if shape.bounds[2] > 180 else shape
    # it goes around a pole: from west to east once, beginning where it crosses the antimeridian
    order = np.argsort(wrapped := (turned[:-1] + 180) % 360 - 180)
    west, east = order[0], order[-1]
    gap = wrapped[west] + 360 - wrapped[east]
    edge = lats[east] + (lats[west] - lats[east]) * (180 - wrapped[east]) / gap
    pole = 90.0 if lats.mean() > 0 else -90.0
    line = [(-180.0, edge), *zip(wrapped[order].tolist(), lats[order].tolist(), strict=True), (180.0, edge)]
    return shapely.orient_polygons(shapely.Polygon([*line, (180.0, pole), (-180.0, pole)]))


def _great_circles(lats: np.ndarray, lons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A ring of corners with more points along its edges, which are great circles."""
    a, b = np.radians(lats), np.radians(lons)
    corners = np.column_stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)])
    share = np.linspace(0, 1, _STEPS, endpoint=False)[:, None]
    line = np.vstack(
        [
            (1 - share) * one + share * other
            for one, other in zip(corners, np.roll(corners, -1, 0), strict=True)
        ]
    )
    return np.degrees(np.arctan2(line[:, 2], np.hypot(line[:, 0], line[:, 1]))), np.degrees(
        np.arctan2(line[:, 1], line[:, 0])
    )
