"""How well coordinates of one datum are known in another, with the grids of shifts that are installed."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj
from pyproj.aoi import AreaOfInterest
from pyproj.transformer import TransformerGroup
from rasterio.crs import CRS
from rasterio.enums import WktVersion

from aftermap.geo.grid import Grid

NOTICED_M = 2.0
"""Less is not told: it is what shifts between modern systems leave."""

_STILL_M = 0.05
_GEOD = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True, slots=True)
class DatumDoubt:
    """A shift between datums that is not known well.

    Attributes:
        source: name of the first datum's system.
        target: name of the second's.
        metres: accuracy of the shift that is used; None where nothing is known of it.
        better_m: accuracy with grids that are not installed, or None.
        grids: their names.
    """

    source: str
    target: str
    metres: float | None
    better_m: float | None
    grids: tuple[str, ...]

    def __str__(self) -> str:
        amount = "an unknown amount" if self.metres is None else f"up to {self.metres:g} m"
        remedy = "check it against something whose place is known"
        if self.better_m is not None:
            remedy = (
                f"{self.better_m:g} m with {', '.join(self.grids)}, which is not installed: reproject with it, "
                "for instance by 'PROJ_NETWORK=ON gdalwarp'"
            )
        return f"brought from {self.source} to {self.target}, coordinates may be off by {amount}: {remedy}"


@contextmanager
def transforming() -> Iterator[None]:
    """Where coordinates are brought into another system: pyproj's remark about a grid that is not installed is left out.

    What it means for the place, in metres, is told by `doubt_between`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Best transformation is not available", category=UserWarning
        )
        yield


def doubt_between(source: CRS, target: CRS, place: Grid) -> DatumDoubt | None:
    """What is not known about the shift between two reference systems, or None where it is known well.

    Args:
        source: the first system.
        target: the second.
        place: a grid on the ground in question.

    Source: accuracies of operations in the EPSG data set, as PROJ ranks them for the place.
    """
    if source == target:
        return None
    lons, lats = place.lonlat(np.array([place.width / 2]), np.array([place.height / 2]))
    wkts = (crs.to_wkt(version=WktVersion.WKT2_2019) for crs in (source, target))
    return _doubt(*wkts, round(float(lons[0]), 1), round(float(lats[0]), 1))


@lru_cache(maxsize=64)
def _doubt(source: str, target: str, lon: float, lat: float) -> DatumDoubt | None:
    first, second = (pyproj.CRS.from_wkt(wkt).geodetic_crs for wkt in (source, target))
    if first is None or second is None or first == second:
        return None
    area = AreaOfInterest(lon - 0.05, lat - 0.05, lon + 0.05, lat + 0.05)
    with transforming():
        group = TransformerGroup(first, second, always_xy=True, area_of_interest=area)
    if not group.transformers:
        return None
    used = group.transformers[0]
    moved_lon, moved_lat = used.transform(lon, lat)
    is_still = math.isfinite(moved_lon) and _GEOD.inv(lon, lat, moved_lon, moved_lat)[2] < _STILL_M
    metres = used.accuracy if used.accuracy >= 0 else None
    if metres is not None and (metres < NOTICED_M or is_still):
        return None
    better = [op for op in group.unavailable_operations if 0 <= op.accuracy < (metres or math.inf)]
    best = min(better, key=lambda op: op.accuracy, default=None)
    return DatumDoubt(
        source=first.name,
        target=second.name,
        metres=metres,
        better_m=None if best is None else best.accuracy,
        grids=() if best is None else tuple(grid.short_name for grid in best.grids),
    )
