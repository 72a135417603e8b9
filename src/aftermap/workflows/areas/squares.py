"""Squares of some metres, as UNOSAT shows damage by 500 m.

Their corners lie on whole multiples of the side, counted from the origin (0, 0) of a reference system: the UTM zone of
the map's centre (UPS beyond 84° north and 80° south), or one that is named. So squares of neighbouring maps in one zone
are the same squares and have the same names; across zones a system of equal area for all the world, EPSG:6933, does that.
"""

import geopandas
import numpy as np
import shapely
from pyproj import CRS

from aftermap.errors import InputError
from aftermap.geo.grid import Grid
from aftermap.workflows.areas.basis import DEGREES, between

SMALLEST_M = 10.0
_BIAS = 1 << 30


class Squares:
    """Squares of a side in a reference system in metres.

    Args:
        side_m: of each.
        crs: in which they are squares.

    Raises:
        InputError: the side or the reference system cannot be used.
    """

    listed = np.zeros(0, np.int64)

    def __init__(self, side_m: float, crs: CRS) -> None:
        if not SMALLEST_M <= side_m <= 1_000_000:
            raise InputError(
                f"--grid {side_m:g} is no side of squares: pass metres from {SMALLEST_M:g}, such as 500"
            )
        if not crs.is_projected or any(axis.unit_name != "metre" for axis in crs.axis_info[:2]):
            raise InputError(
                f"--grid-crs {crs.name} is not in metres: pass one such as EPSG:32615, or EPSG:6933 for equal areas"
            )
        self.side_m, self.crs = side_m, crs
        code = crs.to_epsg()
        self._system = str(code) if code is not None else "crs"
        self.slug = f"grid-{side_m:g}m"
        self.title = (
            f"squares of {side_m:g} m in {f'EPSG:{code}' if code is not None else crs.name}, origin (0, 0)"
        )
        self.edge_m: float | None = side_m
        self._there = between(DEGREES, crs)

    def locate(self, lons: np.ndarray, lats: np.ndarray) -> np.ndarray:
        """Column and row of the square of each point in one number; a point on a border lies east or north of it."""
        xs, ys = self._there.transform(lons, lats)
        cols = np.floor(np.asarray(xs) / self.side_m).astype(np.int64)
        rows = np.floor(np.asarray(ys) / self.side_m).astype(np.int64)
        return (cols + _BIAS << 31) | (rows + _BIAS)

    def describe(self, keys: np.ndarray) -> geopandas.GeoDataFrame:
        """Squares by system, easting and northing of their lower left corner, and side: `32615_E367500_N4103000_500m`."""
        x, y = ((keys >> 31) - _BIAS) * self.side_m, ((keys & (1 << 31) - 1) - _BIAS) * self.side_m
        names = [
            f"{self._system}_E{e}_N{n}_{self.side_m:g}m" for e, n in zip(_whole(x), _whole(y), strict=True)
        ]
        return geopandas.GeoDataFrame(
            {"area_id": names, "name": [None] * len(names), "pcode": [None] * len(names)},
            geometry=shapely.box(x, y, x + self.side_m, y + self.side_m),
            crs=self.crs,
        )


def system_of(grid: Grid, named: str | None = None) -> CRS:
    """The reference system of the squares of a map: the one named, or the UTM zone (UPS) of its centre."""
    if named is not None:
        return CRS.from_user_input(named)
    lons, lats = grid.lonlat(np.array([grid.width / 2]), np.array([grid.height / 2]))
    lon, lat = float(lons[0]), float(lats[0])
    if lat > 84 or lat < -80:
        return CRS.from_epsg(32661 if lat > 0 else 32761)
    zone = int((lon + 180) // 6) % 60 + 1
    return CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)


def _whole(values: np.ndarray) -> list[str]:
    return [f"{value:.0f}" if value == round(value) else f"{value:.3f}" for value in values.tolist()]
