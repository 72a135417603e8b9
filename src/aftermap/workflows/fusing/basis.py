"""The buildings that sources are brought together on: the first map's, and those that only others have where wanted."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely

from aftermap.geo.grid import Grid
from aftermap.geo.polygons import areas_m2, to_pixels
from aftermap.products.vectors import COLUMNS
from aftermap.workflows.comparing.matching import Pairs, match, on_the_ground

LEAST_IOU = 0.2

_OF_THE_MAP = ("model", "model_version", "model_sha256", "pre_image", "post_image")


@dataclass(frozen=True)
class Basis:
    """Buildings to fuse on.

    Attributes:
        buildings: with the columns of a map, in the first map's reference system.
        added_by: (n,) the source that brought each, empty for the first map's own.
    """

    buildings: geopandas.GeoDataFrame
    added_by: np.ndarray

    @classmethod
    def of(cls, buildings: geopandas.GeoDataFrame) -> "Basis":
        """The first map's."""
        return cls(buildings, np.full(len(buildings), "", dtype=object))

    def with_others(
        self, name: str, outlines: np.ndarray, frame: geopandas.GeoDataFrame | None, grid: Grid
    ) -> "Basis":
        """These, and the outlines of a source that mean none of them and lie on the map, called `NAME:id`.

        Args:
            name: of the source.
            outlines: (m,) polygons in the first map's reference system.
            frame: its table where it is a map, row by row.
            grid: of the first map.
        """
        known = paired(self.buildings, grid, outlines, 0.0).marks
        shapes = to_pixels(outlines, grid)
        alone = shapely.intersects(shapes, shapely.box(0, 0, grid.width, grid.height))
        alone[known] = False
        rows = np.flatnonzero(alone)
        if not len(rows):
            return self
        ids = [str(row + 1) for row in rows] if frame is None else frame["building_id"].iloc[rows].tolist()
        added = _table(
            name, ids, outlines[rows], shapes[rows], None if frame is None else frame.iloc[rows], grid
        )
        added["building_id"] = _free(added["building_id"].tolist(), set(self.buildings["building_id"]))
        return Basis(
            _joined(self.buildings, added),
            np.concatenate([self.added_by, np.full(len(rows), name, dtype=object)]),
        )


def paired(buildings: geopandas.GeoDataFrame, grid: Grid, shapes: np.ndarray, within: float) -> Pairs:
    """Which buildings some marks mean; see `comparing.matching`."""
    return match(
        on_the_ground(shapes, grid),
        on_the_ground(buildings.geometry.to_numpy(), grid),
        within=within,
        iou=LEAST_IOU,
    )


def _table(
    name: str,
    ids: Sequence[str],
    outlines: np.ndarray,
    shapes: np.ndarray,
    frame: geopandas.GeoDataFrame | None,
    grid: Grid,
) -> geopandas.GeoDataFrame:
    """Added buildings with the columns of a map; what a source says of their damage comes later."""
    lon, lat = np.full(len(outlines), np.nan), np.full(len(outlines), np.nan)
    if grid.is_georeferenced:
        centres = shapely.centroid(shapes)
        lon, lat = grid.lonlat(shapely.get_x(centres), shapely.get_y(centres))
    table: dict[str, Any] = {column: [np.nan] * len(outlines) for column in COLUMNS}
    table |= {
        "building_id": [f"{name}:{each}" for each in ids],
        "p_building": [1.0] * len(outlines) if frame is None else frame["p_building"].tolist(),
        "seen": [1.0] * len(outlines) if frame is None else frame["seen"].tolist(),
        "area_m2": areas_m2(outlines, grid.crs),
        "lon": lon,
        "lat": lat,
    }
    for column in _OF_THE_MAP:
        if frame is not None and column in frame.columns:
            table[column] = frame[column].tolist()
    return geopandas.GeoDataFrame(table, geometry=list(outlines), crs=grid.crs.to_wkt() if grid.crs else None)


def _joined(buildings: geopandas.GeoDataFrame, added: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """One table; whole numbers, and yes and no, stay what they are where an added building has none."""
    wide = buildings.copy()
    for column in wide.columns:
        if pd.api.types.is_bool_dtype(wide[column].dtype):
            wide[column] = wide[column].astype("boolean")
        elif pd.api.types.is_integer_dtype(wide[column].dtype):
            wide[column] = wide[column].astype("Int64")
    same = added[[name for name in buildings.columns if name in added.columns]]
    with (
        warnings.catch_warnings()
    ):  # pandas will take columns without a value into account, which changes nothing here
        warnings.simplefilter("ignore", FutureWarning)
        joined = pd.concat([wide, same], ignore_index=True)
    return geopandas.GeoDataFrame(joined, geometry=buildings.geometry.name, crs=buildings.crs)


def _free(names: Sequence[str], taken: set[str]) -> list[str]:
    """Names that no other building has."""
    found = []
    for name in names:
        chosen, number = name, 2
        while chosen in taken:
            chosen, number = f"{name}-{number}", number + 1
        taken.add(chosen)
        found.append(chosen)
    return found
