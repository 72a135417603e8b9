"""The user's buildings, ready to be judged: read, laid on the image, and told from areas of interest."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataWarning, FootprintError
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import to_pixels
from aftermap.geo.vectors import part_layer, read_buildings
from aftermap.inference.objects.painting import Painter

LARGEST_SHARE = 0.5
"""An outline that covers more of an image is an area, not a building."""


@dataclass(frozen=True)
class Known:
    """The user's buildings.

    Attributes:
        frame: `building_id` and geometry in the grid's reference system.
        outlines: the same in pixels.
        painter: paints them.
        columns: the user's, row by row.
        origin: where the ids come from.
        outside: how many there are that do not touch the map.
        left_out: whether these are left out of all above.
    """

    frame: geopandas.GeoDataFrame
    outlines: list[BaseGeometry]
    painter: Painter
    columns: pd.DataFrame
    origin: str
    outside: int = 0
    left_out: bool = False

    @classmethod
    def read(
        cls, path: Path, grid: Grid, *, scene: Grid | None = None, keep_outside: bool = False
    ) -> "Known":
        """Read a vector file, or `FILE:LAYER`.

        An outline that covers more than half of the scene is no building: it is left out where it holds most of the
        others, and refused where it is the only one, unless its layer was named.

        Args:
            path: see `geo.vectors.read_buildings`.
            grid: what is mapped.
            scene: the whole image, of which `grid` may be a part.
            keep_outside: keep those that do not touch the grid.

        Raises:
            InputError: it cannot be used.
        """
        found = read_buildings(path, grid=grid)
        shapes = to_pixels(found.frame.geometry.to_numpy(), grid)
        kept = np.ones(len(shapes), bool)
        kept[list(_areas(path, shapes, scene or grid, grid))] = False
        beyond = kept & ~shapely.intersects(shapes, shapely.box(0, 0, grid.width, grid.height))
        if not keep_outside:
            kept &= ~beyond
        outlines = list(shapes[kept])
        return cls(
            found.frame[kept].reset_index(drop=True),
            outlines,
            Painter(outlines, grid.width),
            found.columns[kept].reset_index(drop=True),
            found.origin,
            int(beyond.sum()),
            not keep_outside,
        )

    def join(self, frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
        """The user's columns behind ours."""
        return join_columns(frame, self.columns)


def _areas(path: Path, shapes: np.ndarray, scene: Grid, grid: Grid) -> set[int]:
    """Rows of outlines that are areas of interest, with a warning."""
    whole = scene.width * scene.height
    large = shapely.area(shapes) > LARGEST_SHARE * whole
    if not large.any():
        return set()
    on_image = shapely.intersects(shapes, shapely.box(0, 0, grid.width, grid.height))
    if scene.crs == grid.crs:
        left, top = ~grid.transform @ (scene.transform @ (0, 0))
        image = shapely.box(left, top, left + scene.width, top + scene.height)
        large &= shapely.area(shapely.intersection(shapes, image)) > LARGEST_SHARE * whole
        on_image = shapely.intersects(shapes, image)
    file, layer = part_layer(path)
    areas: set[int] = set()
    for row in np.flatnonzero(large).tolist():
        others = np.flatnonzero(on_image & ~large)
        share = min(1.0, shapes[row].area / whole)
        if not len(others):
            told = f"{path.name}: the only footprint on the image covers {share:.0%} of it"
            if layer is None:
                raise FootprintError(
                    f"{told}, which looks like an area of interest: pass it as --aoi, or name its layer "
                    f"({file}:LAYER, such as {file}:{file.stem}) if it is a building"
                )
            warnings.warn(
                f"{told}: it is judged as a building, because its layer was named", DataWarning, stacklevel=3
            )
        elif shapely.contains_properly(shapes[row], shapely.centroid(shapes[others])).mean() > LARGEST_SHARE:
            areas.add(row)
    if areas:
        warnings.warn(
            f"footprints in {file.name}: {len(areas)} left out: larger than half of the image and around most of the "
            "others, so an area of interest, not a building",
            DataWarning,
            stacklevel=3,
        )
    return areas


MAX_COLUMNS = 1000
"""More of the user's columns are left out; SQLite ends at 2,000 in all."""

_RESERVED = ("geometry", "geom", "fid", "rowid", "ogc_fid")


def join_columns(frame: geopandas.GeoDataFrame, columns: pd.DataFrame) -> geopandas.GeoDataFrame:
    """A table of buildings with the user's columns behind its own, row by row.

    Args:
        frame: our columns and the geometry.
        columns: the user's, as many rows in the same order.
    """
    wanted = [name for name in columns.columns if not _repeats(name, columns[name], frame)]
    if len(wanted) > MAX_COLUMNS:
        warnings.warn(
            f"the footprints have {len(wanted):,} columns: the first {MAX_COLUMNS:,} are kept",
            DataWarning,
            stacklevel=2,
        )
    names = new_names(wanted[:MAX_COLUMNS], list(frame.columns))
    user = pd.DataFrame({new: columns[old] for old, new in names.items()})
    user.index = frame.index
    joined = geopandas.GeoDataFrame(
        pd.concat([frame.drop(columns=frame.geometry.name), user], axis=1),
        geometry=frame.geometry.array,
        crs=frame.crs,
    )
    return joined


def new_names(columns: list[str], taken: list[str]) -> dict[str, str]:
    """What each of the user's columns is called beside `taken` ones."""
    used = {name.casefold() for name in (*taken, *_RESERVED)}
    names: dict[str, str] = {}
    for column in columns:
        base = str(column).strip() or "column"
        name, number = (base, 2) if base.casefold() not in used else (f"user_{base}", 2)
        stem = name
        while name.casefold() in used:
            name, number = f"{stem}_{number}", number + 1
        used.add(name.casefold())
        names[column] = name
    return names


def _repeats(name: Any, values: "pd.Series[Any]", frame: geopandas.GeoDataFrame) -> bool:
    if str(name).casefold() != "building_id":
        return False
    return bool((values.astype(object).astype(str).to_numpy() == frame["building_id"].to_numpy()).all())
