"""Building outlines and areas of interest of a vector file: one way to read both, and the user's columns kept."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import shapely
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataWarning, FootprintError, GeoreferenceError
from aftermap.geo.datum import doubt_between
from aftermap.geo.grid import Grid
from aftermap.geo.vectors.files import Purpose, read_table
from aftermap.geo.vectors.ids import building_ids
from aftermap.geo.vectors.placing import apart, apart_in_pixels, area_in_pixels, onto_grid, touch
from aftermap.geo.vectors.repair import Repaired, repair
from aftermap.geo.vectors.table import Table
from aftermap.wording import counted


@dataclass(frozen=True)
class Footprints:
    """The user's buildings.

    Attributes:
        frame: columns `building_id` (unique, text) and `geometry` (Polygon or MultiPolygon), in the grid's reference
            system.
        columns: the user's columns, row by row with `frame`; empty where they were not asked for.
        origin: where the ids come from, in words.
    """

    frame: geopandas.GeoDataFrame
    columns: pd.DataFrame
    origin: str


def read_footprints(path: Path, *, grid: Grid, named: bool = True) -> geopandas.GeoDataFrame:
    """Read building footprints without their columns; see `read_buildings`.

    Args:
        path: as there.
        grid: as there.
        named: keep the user's ids; without they are numbered, for labels, which need no names.

    Returns:
        Columns `building_id` (unique, text) and `geometry` (Polygon or MultiPolygon).
    """
    return _place(path, grid, columns=named, purpose="footprints" if named else "labels").frame


def read_buildings(path: Path, *, grid: Grid) -> Footprints:
    """Read building footprints, repaired and in the grid's reference system.

    A building of several parts stays one building: the union of its parts, shells without their holes. What has no area
    or cannot be read is left out with a warning. Buildings outside the grid are kept: whether they can be assessed is
    decided later.

    Args:
        path: a vector file of polygons in any reference system, or `FILE:LAYER`; see `geo.vectors.files.FORMATS`. For a
            grid without georeference the coordinates are pixels (x right, y down).
        grid: the grid that they are for.

    Raises:
        FootprintError: the file cannot be read, holds no usable polygon, or none of them lies on the grid.
    """
    return _place(path, grid, columns=True)


def read_area_of_interest(path: Path, *, grid: Grid) -> BaseGeometry:
    """The part of an image that lies in the polygons of a vector file, in pixels of the image.

    Args:
        path: a vector file of polygons in any reference system, or `FILE:LAYER`.
        grid: the image.

    Returns:
        A valid polygon or multipolygon within the image, of at least one pixel.

    Raises:
        FootprintError: the file cannot be read, or holds no polygons.
        GeoreferenceError: the area does not touch the image, or one of them has no reference system.
    """
    if grid.crs is None:
        raise GeoreferenceError(
            "the images have no georeference, so an area of interest cannot be placed on them"
        )
    table, repaired = _read(path, "area", columns=False)
    if table.crs is None:
        raise GeoreferenceError(f"the area of interest {path} names no reference system: {_ADD_ONE}")
    shapes = repaired.shapes[~shapely.is_missing(repaired.shapes)]
    inside = area_in_pixels(shapes, table.crs, grid)
    if 0 < inside.area < 1:
        raise GeoreferenceError(
            f"the area of interest {path} covers {inside.area:.2g} pixels of the images, expected at least one"
        )
    if inside.area == 0:
        reason = apart(shapes, table.crs, grid, degrees_by_default=table.degrees_by_default)
        raise GeoreferenceError(f"the area of interest {path} does not touch the images: {reason}")
    for note in (repaired.notes(), *table.notes, _doubt(table, grid)):
        if note is not None:
            warnings.warn(f"the area of interest {path.name}: {note}", DataWarning, stacklevel=2)
    return inside


_ADD_ONE = "add one (a .prj file for a Shapefile, 'ogr2ogr -a_srs' for any file), or convert it to GeoJSON"


def _place(path: Path, grid: Grid, *, columns: bool, purpose: Purpose = "footprints") -> Footprints:
    table, repaired = _read(path, purpose, columns=columns)
    shapes = repaired.shapes
    names = building_ids(table.columns, table.ids if columns else ())
    kept = np.flatnonzero(~shapely.is_missing(shapes))
    placed = shapes[kept]
    system = doubt = None
    if grid.crs is not None:
        if table.crs is None:
            raise FootprintError(f"{path} names no reference system: {_ADD_ONE}")
        placed = onto_grid(placed, table.crs, grid)
        lost = shapely.is_missing(placed)
        if lost.any():
            repaired.left_out["that cannot be projected onto the image"] += int(lost.sum())
        if not touch(placed[~lost], grid).any():
            reason = apart(shapes[kept], table.crs, grid, degrees_by_default=table.degrees_by_default)
            raise FootprintError(f"{path}: no footprint lies on the image: {reason}")
        kept, placed = kept[~lost], placed[~lost]
        system, doubt = grid.crs.to_wkt(), _doubt(table, grid)
    elif not touch(placed, grid).any():
        raise FootprintError(f"{path}: no footprint lies on the image: {apart_in_pixels(placed, grid)}")
    for note in (repaired.notes(), names.warning, *table.notes, doubt):
        if note is not None:
            warnings.warn(f"footprints in {path.name}: {note}", DataWarning, stacklevel=3)
    frame = geopandas.GeoDataFrame(
        {"building_id": [names.ids[row] for row in kept.tolist()]}, geometry=placed, crs=system
    )
    return Footprints(frame, table.columns.iloc[kept].reset_index(drop=True), names.origin)


def _doubt(table: Table, grid: Grid) -> str | None:
    """How far vectors may lie off because they are in another datum than the image."""
    assert table.crs is not None and grid.crs is not None
    doubt = doubt_between(CRS.from_wkt(table.crs.to_wkt()), grid.crs, grid)
    return None if doubt is None else str(doubt)


def _read(path: Path, purpose: Purpose, *, columns: bool) -> tuple[Table, Repaired]:
    table = read_table(path, purpose, columns=columns)
    repaired = repair(table.shapes)
    if shapely.is_missing(repaired.shapes).all():
        rows = counted(len(table.shapes), "row")
        what = (
            "expected building outlines"
            if purpose != "area"
            else "expected the polygons of an area of interest"
        )
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(repaired.left_out.items()))
        kinds = sorted({*repaired.kinds, *table.kinds} - {"Polygon", "MultiPolygon"})
        found = ", ".join(kinds) or reasons
        raise FootprintError(
            f"{path} holds {rows} but no usable polygon (found {found or 'no geometry'}): {what}"
        )
    return table, repaired
