"""Buildings and ground of a map, counted by area."""

from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

from aftermap.classes import BUILDING, DAMAGE, NOT_ASSESSED, ClassScheme
from aftermap.geo.grid import Grid
from aftermap.workflows.areas.basis import DEGREES, NOWHERE, Basis, between, ground_areas_m2
from aftermap.workflows.areas.ground import Ground

OUTSIDE = "outside of all areas"
"""`area_id` of what lies in no area: it is counted there and never dropped."""

_SKIPPED = NOT_ASSESSED.replace("-", "_")
_UNSEEN = "not_surveyed"


@dataclass(frozen=True)
class Counted:
    """A map by areas.

    Attributes:
        frame: one row per area that holds ground or buildings of the map, and a last one without geometry where some lie
            in none; columns as `docs/areas.md` lists them.
        building_area: row of the frame of each building, int (n,).
    """

    frame: geopandas.GeoDataFrame
    building_area: np.ndarray


def count_by(
    basis: Basis,
    buildings: geopandas.GeoDataFrame,
    points: tuple[np.ndarray, np.ndarray],
    ground: Ground,
    *,
    surveyed: np.ndarray | None = None,
    scheme: ClassScheme = DAMAGE,
) -> Counted:
    """Count buildings, their built area and the surveyed ground by area.

    Args:
        basis: the areas.
        buildings: the map's.
        points: longitude and latitude of a point of each; see `representative_points`.
        ground: the map's.
        surveyed: which buildings lie on ground that people surveyed, bool (n,); the others count as not surveyed, and in
            no class. None where nobody marked any ground: all count.
        scheme: classes of the map; of one that tells no damage only buildings are counted.
    """
    at, lies = basis.locate(*points), basis.locate(ground.lons, ground.lats)
    keys = np.unique(np.concatenate([at, lies, basis.listed]))
    inside = keys[keys != NOWHERE]
    outside = NOWHERE in at or bool((ground.surveyed_m2[lies == NOWHERE] > 0).any())
    described = basis.describe(inside)
    order = np.concatenate([inside, [NOWHERE]]) if outside else inside
    rows = {key: row for row, key in enumerate(order.tolist())}
    place = np.array([rows[key] for key in at.tolist()], np.int64)
    known = lies != NOWHERE if not outside else np.ones(len(lies), bool)
    spot = np.array([rows[key] for key in lies[known].tolist()], np.int64)
    table: dict[str, Any] = _of_buildings(buildings, place, len(order), surveyed, scheme)
    looked_at = np.bincount(spot, ground.surveyed_m2[known], len(order))
    mapped = np.bincount(spot, ground.mapped_m2[known], len(order))
    crs = CRS(described.crs)
    size = np.full(len(order), np.nan)
    size[: len(inside)] = ground_areas_m2(described.geometry.to_numpy(), crs)
    table |= {
        "area_km2": size / 1e6,
        "surveyed_km2": looked_at / 1e6,
        "not_surveyed_km2": (mapped - looked_at) / 1e6,
        "surveyed_share": np.minimum(looked_at / size, 1.0),
    }
    names = {
        column: [*described[column], *([OUTSIDE if column == "area_id" else None] * outside)]
        for column in ("area_id", "name", "pcode")
    }
    shapes = [*described.geometry, *([None] * outside)]
    frame = geopandas.GeoDataFrame({**names, **table}, geometry=shapes, crs=crs)
    for column in ("name", "pcode"):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), None)
    return Counted(_tidy(frame), place)


def representative_points(buildings: geopandas.GeoDataFrame, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of a point of each building that lies inside its outline, whatever its shape."""
    assert grid.crs is not None
    inside = shapely.point_on_surface(buildings.geometry.to_numpy())
    xs, ys = shapely.get_coordinates(inside).reshape(-1, 2).T
    lons, lats = between(CRS.from_wkt(grid.crs.to_wkt()), DEGREES).transform(xs, ys)
    return np.asarray(lons, float), np.asarray(lats, float)


def totals_of(frame: pd.DataFrame) -> dict[str, Any]:
    """Sums over all areas, which are the map's."""
    summed = [
        *("buildings", "assessed", "not_destroyed", *map(_column, DAMAGE.names[1:])),
        *(_SKIPPED, _UNSEEN, "damaged", "built_m2", "damaged_m2", "destroyed_m2", "surveyed_km2"),
    ]
    return {name: np.asarray(frame[name]).sum().item() for name in summed if name in frame.columns}


def _column(name: str) -> str:
    return name.replace("-", "_")


def _of_buildings(
    buildings: geopandas.GeoDataFrame,
    place: np.ndarray,
    count: int,
    surveyed: np.ndarray | None,
    scheme: ClassScheme,
) -> dict[str, Any]:
    damage = buildings["damage"].to_numpy()
    area = buildings["area_m2"].to_numpy(float)
    every = np.ones(len(buildings), bool)
    seen = every if surveyed is None else surveyed
    assessed = seen & (damage != NOT_ASSESSED)
    unharmed, *others = scheme.names[1:]
    # what counts as bad: any damage, or destroyed where the image after alone tells nothing else
    worst, bad = "damaged" if len(others) > 1 else "destroyed", assessed & (damage != unharmed)

    def number(rows: np.ndarray) -> np.ndarray:
        return np.bincount(place[rows], minlength=count)

    def metres(rows: np.ndarray) -> np.ndarray:
        return np.bincount(place[rows], np.nan_to_num(area[rows]), minlength=count)

    looked_at = number(assessed)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(looked_at > 0, number(bad) / looked_at, np.nan)
        built = metres(assessed)
        built_share = np.where(built > 0, metres(bad) / built, np.nan)
    table = {"damage_scale": [scheme.name] * count, "buildings": number(every), "assessed": looked_at}
    if scheme is not BUILDING:
        table |= {_column(name): number(seen & (damage == name)) for name in scheme.names[1:]}
    table |= {_SKIPPED: number(seen & ~assessed), _UNSEEN: number(~seen)}
    if scheme is BUILDING:
        return table | {"built_m2": metres(every)}
    return {
        **table,
        worst: number(bad),
        f"{worst}_share": share,
        "built_m2": metres(every),
        f"{worst}_m2": metres(bad),
        f"{worst}_m2_share": built_share,
    }


_DECIMALS = {
    "damaged_share": 4,
    "built_m2": 2,
    "damaged_m2": 2,
    "damaged_m2_share": 4,
    "destroyed_share": 4,
    "destroyed_m2": 2,
    "destroyed_m2_share": 4,
    "area_km2": 6,
    "surveyed_km2": 6,
    "not_surveyed_km2": 6,
    "surveyed_share": 4,
}


def _tidy(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    for name, decimals in _DECIMALS.items():
        if name not in frame.columns:
            continue
        frame[name] = frame[name].astype(float).round(decimals) + 0.0
    return frame
