"""The same building in several maps: by its id where the outlines are the same, else by overlap."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import geopandas
import numpy as np
import pandas as pd
import shapely

from aftermap.errors import InputError, shown
from aftermap.geo.datum import transforming
from aftermap.products.summary import bounds_lonlat
from aftermap.workflows.comparing.matching import match, on_the_ground
from aftermap.workflows.mapping.finished import FinishedMap

LEAST_IOU = 0.3
"""Of two outlines of one building in two maps."""


@dataclass(frozen=True)
class Aligned:
    """Buildings of several maps, the first map's first.

    Attributes:
        buildings: `building_id`, `area_m2`, `lon`, `lat`, the columns of the user's, and the outline, each from the first
            map that has the building; in the first map's reference system.
        rows: int (n, T), the row of each building in each map; -1 where a map does not have it.
        notes: what differs between the maps.
    """

    buildings: geopandas.GeoDataFrame
    rows: np.ndarray
    notes: tuple[str, ...]


def dates_of(maps: Sequence[FinishedMap], given: Sequence[str] | None) -> list[date]:
    """When the later image of each map was taken, as its report or the user says.

    Raises:
        InputError: one is not known, is no day, or two are the same.
    """
    if given is not None and len(given) != len(maps):
        raise InputError(
            f"--dates has {len(given)} days for {len(maps)} maps: pass one of each, in their order"
        )
    found: list[date] = []
    for number, finished in enumerate(maps):
        told = given[number] if given is not None else _acquired(finished)
        if not told:
            raise InputError(
                f"{finished.folder} does not say when its image from after was taken: pass --dates with a day for each "
                "map, such as 2026-02-08,2026-02-20"
            )
        try:
            found.append(date.fromisoformat(str(told).strip()))
        except ValueError:
            raise InputError(f"--dates has {shown(told)}, expected a day such as 2026-02-08") from None
    if len(set(found)) < len(found):
        raise InputError(
            f"two maps are of the same day ({', '.join(map(str, sorted(found)))}): fuse maps of one date, and monitor "
            "those of several"
        )
    return found


def align(maps: Sequence[FinishedMap]) -> Aligned:
    """Find each building in every map.

    Args:
        maps: in the order of their dates.

    Raises:
        InputError: two of them do not lie on the same ground.
    """
    first = maps[0]
    notes = list(_differences(maps))
    if len({finished.outlines_sha256 for finished in maps}) == 1 and _same_system(maps):
        count = len(first.buildings)
        return Aligned(
            _own(first.buildings), np.tile(np.arange(count)[:, None], (1, len(maps))), tuple(notes)
        )
    notes.append(
        f"the maps have different outlines: buildings are the same where these overlap (intersection over union from "
        f"{LEAST_IOU:g})"
    )
    known = _own(first.buildings)
    rows = np.full((len(known), len(maps)), -1)
    rows[:, 0] = np.arange(len(known))
    for number, finished in enumerate(maps[1:], start=1):
        theirs = _brought(finished, first)
        if not _meet(known, theirs):
            raise InputError(
                f"{finished.folder} does not lie where {first.folder} lies: lon, lat {bounds_lonlat(finished.grid)} and "
                f"{bounds_lonlat(first.grid)}"
            )
        pairs = match(
            on_the_ground(theirs.geometry.to_numpy(), first.grid),
            on_the_ground(known.geometry.to_numpy(), first.grid),
            within=0,
            iou=LEAST_IOU,
        )
        taken: set[int] = set()
        for mine, building in zip(pairs.marks.tolist(), pairs.buildings.tolist(), strict=True):
            if rows[building, number] < 0:
                rows[building, number] = mine
            taken.add(mine)
        new = [row for row in range(len(theirs)) if row not in taken]
        added = np.full((len(new), len(maps)), -1)
        added[:, number] = new
        rows = np.concatenate([rows, added])
        known = _appended(known, _own(theirs).iloc[new])
    return Aligned(known, rows, tuple(notes))


def _acquired(finished: FinishedMap) -> str | None:
    try:
        told = finished.provenance["inputs"]["post"]["acquired"]
    except (KeyError, TypeError):
        return None
    return str(told) if told else None


def _differences(maps: Sequence[FinishedMap]) -> list[str]:
    notes = []
    models = {_model(finished): None for finished in maps}
    if len(models) > 1:
        notes.append(f"the maps are of different models ({', '.join(models)}): a change may be theirs")
    if len({(str(m.grid.crs), m.grid.transform, m.grid.shape) for m in maps}) > 1:
        notes.append("the maps have different grids: the pictures are those of the first, where grids differ")
    return notes


def _model(finished: FinishedMap) -> str:
    model = finished.provenance.get("model")
    return f"{model.get('name')} {model.get('version')}" if isinstance(model, dict) else "unknown"


def _same_system(maps: Sequence[FinishedMap]) -> bool:
    return len({str(finished.grid.crs) for finished in maps}) == 1


def _own(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    columns = frame[["building_id", "area_m2", "lon", "lat"]]
    return geopandas.GeoDataFrame(columns, geometry=frame.geometry.to_numpy(), crs=frame.crs)


def _brought(finished: FinishedMap, first: FinishedMap) -> geopandas.GeoDataFrame:
    if (finished.grid.crs is None) != (first.grid.crs is None):
        raise InputError(
            f"{finished.folder} and {first.folder}: one has a georeference and the other counts pixels, so nothing tells "
            "where they meet"
        )
    if finished.grid.crs is None or finished.grid.crs == first.grid.crs:
        return finished.buildings
    with transforming():
        return finished.buildings.to_crs(first.buildings.crs)


def _meet(mine: geopandas.GeoDataFrame, theirs: geopandas.GeoDataFrame) -> bool:
    if not len(mine) or not len(theirs):
        return True
    return bool(shapely.box(*mine.total_bounds).intersects(shapely.box(*theirs.total_bounds)))


def _appended(known: geopandas.GeoDataFrame, new: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """More buildings behind the known ones; an id that is taken gets a number."""
    used = set(known["building_id"])
    names = []
    for name in new["building_id"]:
        fresh, number = str(name), 2
        while fresh in used:
            fresh, number = f"{name}-{number}", number + 1
        used.add(fresh)
        names.append(fresh)
    joined = pd.concat([known, new.assign(building_id=names)], ignore_index=True)
    return geopandas.GeoDataFrame(joined, geometry="geometry", crs=known.crs)
