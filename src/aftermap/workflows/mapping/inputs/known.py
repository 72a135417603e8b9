"""The user's buildings, ready to be judged: read, laid on the image, and told from areas of interest."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataWarning, FootprintError
from aftermap.geo.alignment.footprint_shifts import FootprintShifts, measure_footprint_shifts
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import from_pixels, to_pixels
from aftermap.geo.vectors import part_layer, read_buildings
from aftermap.inference.objects.painting import Painter
from aftermap.products.vectors import write_file
from aftermap.wording import counted
from aftermap.workflows.mapping.inputs.dates import Inputs

GIVEN = "footprints-given"
"""Name of the layer, and of its file, that keeps moved footprints as they were given."""

MOVED = "moved_m"
"""Column with how far a footprint was moved, in metres; `moved_px` on a map in pixels."""

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
        shifts: how they were moved onto their houses; None where that was not asked for.
        given: `frame` as it was before; None where none was moved.
    """

    frame: geopandas.GeoDataFrame
    outlines: list[BaseGeometry]
    painter: Painter
    columns: pd.DataFrame
    origin: str
    outside: int = 0
    left_out: bool = False
    shifts: FootprintShifts | None = None
    given: geopandas.GeoDataFrame | None = None

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

    def aligned(self, inputs: Inputs) -> "Known":
        """The same moved onto their houses in the (first) image where that surely helps; see `measure_footprint_shifts`.

        Every building gets a column that tells how far it was moved.

        Args:
            inputs: the imagery of the map.
        """
        grid, source = inputs.grid, next(iter(inputs.scene.sources.values()))
        found = measure_footprint_shifts(
            self.outlines,
            lambda window: source.read(grid.crop(window)),
            (grid.height, grid.width),
            resolution_m=grid.resolution_m,
        )
        if not found.moved.any():
            return replace(self, shifts=found)
        steps = np.column_stack([found.dx_px, found.dy_px])
        shapes = np.array(self.outlines, dtype=object)
        corners, owner = shapely.get_coordinates(shapes, return_index=True)
        moved = shapely.set_coordinates(shapes.copy(), corners + steps[owner])
        frame = self.frame.set_geometry(
            geopandas.GeoSeries(
                np.where(found.moved, from_pixels(moved, grid), self.frame.geometry.to_numpy()),
                crs=self.frame.crs,
            )
        )
        across, down = grid.pixel_size_m or (1.0, 1.0)
        name = MOVED if grid.pixel_size_m else "moved_px"
        lengths = pd.Series(np.round(np.hypot(found.dx_px * across, found.dy_px * down), 2))
        taken = {str(column).casefold() for column in self.columns.columns}
        columns = self.columns.rename(columns={name: f"user_{name}"}) if name in taken else self.columns
        columns = columns.assign(**{name: lengths})
        outlines = list(moved)
        return replace(
            self,
            frame=frame,
            outlines=outlines,
            painter=Painter(outlines, grid.width),
            columns=columns,
            shifts=found,
            given=self.frame,
        )

    def write_given(self, folder: Path) -> None:
        """Keep moved footprints as they were given, as `footprints-given.gpkg`; nothing where none was moved.

        Raises:
            OutputError: it cannot be written.
        """
        if self.given is not None:
            write_file(self.given, folder / f"{GIVEN}.gpkg", GIVEN)

    def notes(self) -> list[str]:
        """Where ids come from, and how footprints were moved."""
        told = [f"building_id: {self.origin}"]
        if self.shifts is not None and self.given is None:
            told.append(f"footprints stay as they were given: {self.shifts.reason}")
        elif self.shifts is not None:
            told.append(
                f"{int(self.shifts.moved.sum()):,} of {counted(len(self.outlines), 'footprint')} moved onto their "
                f"houses, by {self.shifts.median_px:.1f} px (median; at most {self.shifts.largest_px:.1f} px): "
                f"{self.shifts.reason}; as given they are in {GIVEN}.gpkg"
            )
        return told

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
