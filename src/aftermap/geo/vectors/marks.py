"""Points and polygons with which somebody graded buildings: a survey, another team's layer, crowdsourced points."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from pyproj import CRS
from rasterio import crs as raster_crs

from aftermap.errors import DataWarning, FootprintError
from aftermap.geo.datum import doubt_between
from aftermap.geo.grid import Grid
from aftermap.geo.vectors.files import read_table
from aftermap.geo.vectors.placing import apart, apart_in_pixels, onto_grid, touch
from aftermap.geo.vectors.repair import FARTHEST, repair
from aftermap.wording import counted

_POINTS = (0, 4)  # shapely's types of Point and MultiPoint


@dataclass(frozen=True)
class Marks:
    """Points and polygons on a grid.

    Attributes:
        shapes: (n,) Point, Polygon or MultiPolygon, in the grid's reference system, each touching the grid.
        columns: of the file, row by row with `shapes`.
        outside: how many others lie beside the grid.
    """

    shapes: np.ndarray
    columns: pd.DataFrame
    outside: int = 0


def read_marks(path: Path, *, grid: Grid) -> Marks:
    """Read points and polygons with their columns, repaired and in the grid's reference system.

    Several points of one feature become a row each. What is neither point nor polygon, or has no place, is left out with
    a warning.

    Args:
        path: a vector file in any reference system, a table with columns of longitudes and latitudes, or `FILE:LAYER`.
        grid: that they are for; without georeference the coordinates are its pixels.

    Raises:
        FootprintError: the file cannot be read, holds neither points nor polygons, or none of them lies on the grid.
    """
    table = read_table(path, "marks", columns=True)
    return place_marks(path, table.shapes, table.columns, table.crs, grid, notes=table.notes)


def place_marks(
    path: Path,
    shapes: np.ndarray,
    columns: pd.DataFrame,
    crs: CRS | None,
    grid: Grid,
    *,
    notes: tuple[str, ...] = (),
) -> Marks:
    """Lay geometries on a grid; see `read_marks`.

    Args:
        path: where they come from, for messages.
        shapes: (n,) geometries of any kind, or None.
        columns: row by row.
        crs: of the shapes; None where the file names none.
        grid: see there.
        notes: what was odd about the file.
    """
    found, rows, left_out = _usable(shapes)
    if not len(found):
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise FootprintError(
            f"{path} holds {counted(len(shapes), 'row')} but no usable point or polygon"
            + (f" ({reasons})" if reasons else "")
        )
    if grid.crs is not None:
        if crs is None:
            raise FootprintError(
                f"{path} names no reference system: add one (a .prj file for a Shapefile, 'ogr2ogr -a_srs' for any), "
                "or convert it to GeoJSON"
            )
        placed = onto_grid(found, crs, grid)
        known = ~shapely.is_missing(placed)
        if (lost := int((~known).sum())) > 0:
            left_out["that cannot be projected onto the map"] = lost
        doubt = doubt_between(raster_crs.CRS.from_wkt(crs.to_wkt()), grid.crs, grid)
        notes = (*notes, *(() if doubt is None else (str(doubt),)))
    else:
        placed, known = found, np.ones(len(found), bool)
    on_grid = known.copy()
    on_grid[known] = touch(placed[known], grid)
    if not on_grid.any():
        reason = apart_in_pixels(found, grid) if grid.crs is None or crs is None else apart(found, crs, grid)
        raise FootprintError(f"{path} does not touch the map: {reason}")
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        notes = (f"{sum(left_out.values())} of {len(shapes)} left out ({reasons})", *notes)
    for note in notes:
        warnings.warn(f"{path.name}: {note}", DataWarning, stacklevel=3)
    kept = columns.iloc[rows[on_grid]].reset_index(drop=True)
    return Marks(placed[on_grid], kept, int((known & ~on_grid).sum()))


def _usable(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Points, each for itself, and valid polygons; the row that each comes from; how many are left out, by reason."""
    whole = np.array(shapes, dtype=object)
    pointlike = np.isin(shapely.get_type_id(whole), _POINTS)
    pieces, piece_of = shapely.get_parts(whole[pointlike], return_index=True)
    places = shapely.get_coordinates(pieces)
    good = (
        (np.isfinite(places).all(axis=1) & (np.abs(places) <= FARTHEST).all(axis=1))
        if len(pieces)
        else np.zeros(0, bool)
    )
    point_rows = np.flatnonzero(pointlike)[piece_of[good]]
    repaired = repair(whole[~pointlike])
    kept = ~shapely.is_missing(repaired.shapes)
    polygon_rows = np.flatnonzero(~pointlike)[kept]
    left_out = dict(repaired.left_out)
    if "no polygon" in left_out:
        left_out["neither point nor polygon"] = left_out.pop("no polygon")
    lost = int(pointlike.sum()) - len(set(point_rows.tolist()))
    if lost:
        left_out["points without a place"] = lost
    rows = np.concatenate([point_rows, polygon_rows]).astype(np.int64)
    found = np.concatenate([shapely.force_2d(pieces[good]), repaired.shapes[kept]])
    order = np.argsort(rows, kind="stable")
    return found[order], rows[order], left_out
