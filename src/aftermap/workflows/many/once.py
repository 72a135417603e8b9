"""The buildings of many scenes, each counted once.

Where scenes overlap the same building is in both tables. A scene speaks for the ground that it shows deepest (`depth`):

- a building whose point lies on its own scene's ground stays; one on another scene's ground goes, whether or not that
  scene has found it, because there that scene is believed;
- of two that cover each other all the same, because their points fell on different sides of the line, the better one
  stays: not cut by its image's edge, assessed, deeper;
- two that each lie on the other's ground are not both given up: the better one stays;
- two halves that meet at the edges of images which do not overlap are joined.

Buildings of one file of footprints are known by their id instead: of each the row with the most of it seen stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas
import numpy as np
import pandas as pd
import shapely

from aftermap.classes import NOT_ASSESSED
from aftermap.products.vectors import PROBABILITIES

COVERED = 0.2
"""Two outlines of different scenes are one building where this share of the smaller one lies in the larger."""

TOUCH_PX = 1.5
_LEAST_CONTACT_PX = 4.0
_SAME_ID_IOU = 0.5


@dataclass(frozen=True)
class Candidates:
    """Buildings of all scenes, row by row.

    Attributes:
        frame: in the reference system of the map.
        scene: int (n,), the scene that each is of.
        owner: int (n,), the scene whose ground its point lies on; -1 for none.
        depth: float (n,), of its point in its own scene.
        cut: bool (n,), whether it touches the edge of its image.
        source: (n,) which file of footprints that is; empty where it was traced.
        pixel: side of a pixel of the map, in its reference system.
    """

    frame: geopandas.GeoDataFrame
    scene: np.ndarray
    owner: np.ndarray
    depth: np.ndarray
    cut: np.ndarray
    source: np.ndarray
    pixel: float

    @property
    def rank(self) -> np.ndarray:
        """Place of each, the best first: whole, assessed, on its own ground, most seen, deepest, first scene."""
        seen = self.frame["seen"].astype(float).fillna(0).to_numpy()
        assessed = (self.frame["damage"] != NOT_ASSESSED).to_numpy()
        own = self.owner == self.scene
        rows = np.arange(len(seen))
        order = np.lexsort((rows, self.scene, -self.depth, -np.round(seen, 2), ~own, ~assessed, self.cut))
        rank = np.empty(len(rows), int)
        rank[order] = rows
        return rank


@dataclass(frozen=True)
class Once:
    """The buildings that stay.

    Attributes:
        rows: int (m,), of the candidates, in their order.
        renamed: rows of footprints whose id another building has too.
        joined: for each row that takes others in, those others.
        doubles: how many rows were left out because another stands for them.
    """

    rows: np.ndarray
    renamed: frozenset[int]
    joined: dict[int, list[int]]
    doubles: int


def count_once(found: Candidates) -> Once:
    """Choose the rows that stay."""
    rank = found.rank
    stays = np.ones(len(rank), bool)
    renamed = _by_id(found, rank, stays)
    first, second = _pairs(found, stays)
    shapes = found.frame.geometry.to_numpy()
    overlap = shapely.area(shapely.intersection(shapes[first], shapes[second]))
    smaller = np.minimum(shapely.area(shapes[first]), shapely.area(shapes[second]))
    doubles = overlap > COVERED * smaller
    _by_ground(found, rank, stays, first[doubles], second[doubles])
    alone = ~doubles & stays[first] & stays[second]
    joined = _halves(found, rank, stays, first[alone], second[alone])
    rows = np.flatnonzero(stays)
    taken = sum(len(others) for others in joined.values())
    return Once(rows, frozenset(renamed & set(rows.tolist())), joined, len(rank) - len(rows) - taken)


def table_of(found: Candidates, once: Once, names: Sequence[str]) -> geopandas.GeoDataFrame:
    """The table of the map: ids that are unique, halves joined, and the scene of each building.

    Args:
        found: all candidates.
        once: what stays of them.
        names: of the scenes.
    """
    frame = found.frame.iloc[once.rows].copy()
    scenes = found.scene[once.rows]
    ids = frame["building_id"].astype(str).to_numpy(object).copy()
    for place, row in enumerate(once.rows.tolist()):
        if not found.source[row] or row in once.renamed:
            ids[place] = f"{names[scenes[place]]}-{ids[place]}"
    frame["building_id"] = _unique(ids)
    frame = frame.reset_index(drop=True)
    places = {row: place for place, row in enumerate(once.rows.tolist())}
    for row, others in once.joined.items():
        _join(frame, places[row], found.frame.iloc[[row, *others]], found.pixel)
    name = "scene"
    while name in frame.columns:
        name = f"map_{name}"
    frame[name] = [names[scene] for scene in scenes.tolist()]
    return frame


def _by_id(found: Candidates, rank: np.ndarray, stays: np.ndarray) -> set[int]:
    """Of footprints that several scenes judged, leave the best row; returns those whose id means another building."""
    renamed: set[int] = set()
    known = np.flatnonzero(found.source != "")
    if not len(known):
        return renamed
    ids = found.frame["building_id"].astype(str).to_numpy()[known]
    shapes = found.frame.geometry.to_numpy()
    table = pd.DataFrame({"row": known, "id": ids, "rank": rank[known]}).sort_values("rank")
    for _, group in table[table.duplicated("id", keep=False)].groupby("id", sort=False):
        kept: list[int] = []
        for row in group["row"].tolist():
            same = any(
                found.source[row] == found.source[other] or _iou(shapes[row], shapes[other]) >= _SAME_ID_IOU
                for other in kept
            )
            if same:
                stays[row] = False
            else:
                kept.append(row)
        renamed.update(kept[1:])
    return renamed


def _iou(one: shapely.Geometry, other: shapely.Geometry) -> float:
    common = float(shapely.area(shapely.intersection(one, other)))
    return common / max(float(shapely.area(one) + shapely.area(other)) - common, 1e-12)


def _pairs(found: Candidates, stays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different scenes, and not of one file of footprints, that touch or nearly do."""
    shapes = found.frame.geometry.to_numpy()
    rows = np.flatnonzero(stays)
    tree = shapely.STRtree(shapes[rows])
    first, second = tree.query(shapes[rows], predicate="dwithin", distance=TOUCH_PX * found.pixel)
    first, second = rows[first], rows[second]
    one_file = (found.source[first] == found.source[second]) & (found.source[first] != "")
    chosen = (first < second) & (found.scene[first] != found.scene[second]) & ~one_file
    return first[chosen], second[chosen]


def _by_ground(
    found: Candidates, rank: np.ndarray, stays: np.ndarray, first: np.ndarray, second: np.ndarray
) -> None:
    """Leave of each building the row that counts; `first` and `second` are rows that mean one building."""
    rivals: dict[int, list[int]] = {}
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        rivals.setdefault(one, []).append(other)
        rivals.setdefault(other, []).append(one)
    known = found.source != ""
    at_home = (found.owner == found.scene) | (found.owner < 0) | known
    stays &= at_home | np.isin(np.arange(len(stays)), list(rivals))
    taken: set[int] = set()
    # those on their own ground first, so that a guest stays only where nobody at home stands for it
    for row in sorted(rivals, key=lambda each: (not at_home[each], rank[each])):
        if any(other in taken for other in rivals[row]):
            stays[row] = False
        elif at_home[row] or any(not at_home[other] for other in rivals[row]):
            taken.add(row)
        else:
            stays[row] = False


def _halves(
    found: Candidates, rank: np.ndarray, stays: np.ndarray, first: np.ndarray, second: np.ndarray
) -> dict[int, list[int]]:
    """Traced buildings that were cut by the edges of two images which meet: the best row takes the others in."""
    traced = found.source == ""
    chosen = found.cut[first] & found.cut[second] & traced[first] & traced[second]
    first, second = first[chosen], second[chosen]
    shapes = found.frame.geometry.to_numpy()
    reach = TOUCH_PX * found.pixel
    common = shapely.area(shapely.intersection(shapely.buffer(shapes[first], reach), shapes[second]))
    meets = common / reach >= _LEAST_CONTACT_PX * found.pixel
    leader: dict[int, int] = {}

    def root(row: int) -> int:
        while leader.setdefault(row, row) != row:
            row = leader[row]
        return row

    for one, other in zip(first[meets].tolist(), second[meets].tolist(), strict=True):
        best, rest = sorted((root(one), root(other)), key=lambda each: rank[each])
        leader[rest] = best
    joined: dict[int, list[int]] = {}
    for row in sorted(leader):
        if root(row) != row:
            joined.setdefault(root(row), []).append(row)
            stays[row] = False
    return joined


def _join(frame: geopandas.GeoDataFrame, place: int, pieces: geopandas.GeoDataFrame, pixel: float) -> None:
    """Several pieces of a building as one row: their outline, areas added, probabilities weighed by area."""
    reach = TOUCH_PX * pixel
    grown = shapely.union_all(shapely.buffer(pieces.geometry.to_numpy(), reach / 2, join_style="mitre"))
    whole = shapely.buffer(grown, -reach / 2, join_style="mitre")
    areas = pieces["area_m2"].astype(float).fillna(0).to_numpy()
    assessed = (pieces["damage"] != NOT_ASSESSED).to_numpy()
    weights = np.where(assessed, areas, 0) if assessed.any() else areas
    if not weights.sum():
        weights = np.ones(len(pieces))
    means = [*PROBABILITIES, "p_building", "confidence"]
    for name in (*means, "seen", "lon", "lat"):
        values = pieces[name].astype(float).to_numpy()
        share = weights if name in means else np.maximum(areas, 1e-9)
        use = np.isfinite(values) & (share > 0)
        if use.any():
            frame.loc[place, name] = float(np.average(values[use], weights=share[use]))
    largest = int(np.argmax(weights))
    for name in ("damage", "reason", "mode"):
        frame.loc[place, name] = pieces[name].iloc[largest]
    frame.loc[place, "area_m2"] = areas.sum()
    frame.loc[place, frame.geometry.name] = whole


def _unique(ids: np.ndarray) -> np.ndarray:
    """Ids with a number behind those that are there already."""
    taken: set[str] = set()
    for place, name in enumerate(ids.tolist()):
        chosen, number = name, 2
        while chosen in taken:
            chosen, number = f"{name}-{number}", number + 1
        taken.add(chosen)
        ids[place] = chosen
    return ids
