"""Areas of a polygon file: districts with their P-codes, sectors of a search, tiles of the images."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio.crs
import shapely
from pyproj import CRS

from aftermap.errors import DataWarning, FootprintError, InputError
from aftermap.geo.datum import doubt_between
from aftermap.geo.grid import Grid
from aftermap.geo.opening.archives import find_images
from aftermap.geo.opening.files import RasterFile
from aftermap.geo.vectors.files import read_table
from aftermap.geo.vectors.placing import apart, onto_grid, touch
from aftermap.geo.vectors.repair import repair
from aftermap.geo.vectors.table import text_of
from aftermap.wording import counted
from aftermap.workflows.areas.basis import DEGREES, NOWHERE, between, ground_areas_m2
from aftermap.workflows.mapping.inputs.scenes import SCENES

_PCODE = re.compile(r"(adm(\d)_?)?p_?code", re.IGNORECASE)
_NAME = re.compile(r"adm(\d)_(en|name|fr|es|pt|ar|ref)|name|nom|nombre", re.IGNORECASE)
_SHOWN = 5
_LEAST_OVERLAP = 1e-6


@dataclass(frozen=True)
class PolygonAreas:
    """Polygons that a point lies in or not; of several that hold it, it counts in the first of the file.

    Attributes:
        slug: names the files.
        title: what the areas are.
        frame: `area_id`, `name`, `pcode` and geometry.
        shared: what was said of polygons that overlap; empty where none do.
        edge_m: not known.
    """

    slug: str
    title: str
    frame: geopandas.GeoDataFrame
    shared: str = ""
    edge_m: float | None = None

    @property
    def listed(self) -> np.ndarray:
        """All of them."""
        return np.arange(len(self.frame))

    def locate(self, lons: np.ndarray, lats: np.ndarray) -> np.ndarray:
        """Row of the polygon that holds each point, edges included."""
        keys, _ = self._locate(lons, lats)
        return keys

    def count_shared(self, lons: np.ndarray, lats: np.ndarray) -> int:
        """How many points lie in more than one polygon."""
        _, holding = self._locate(lons, lats)
        return int((holding > 1).sum())

    def describe(self, keys: np.ndarray) -> geopandas.GeoDataFrame:
        """The polygons as the file has them, repaired."""
        return self.frame.iloc[keys].reset_index(drop=True)

    def _locate(self, lons: np.ndarray, lats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        crs = CRS(self.frame.crs)
        xs, ys = between(DEGREES, crs).transform(np.asarray(lons, float), np.asarray(lats, float))
        shapes = self.frame.geometry.to_numpy()
        keys = np.full(len(xs), len(self.frame), np.int64)
        holding = np.zeros(len(xs), np.int64)
        west, _, east, _ = self.frame.total_bounds
        for turn in (0.0, 360.0, -360.0) if crs.is_geographic else (0.0,):
            near = np.flatnonzero(np.isfinite(xs) & (xs + turn >= west) & (xs + turn <= east))
            # the tree is of points, so that polygons of many corners are looked at in a prepared form
            tree = shapely.STRtree(shapely.points(xs[near] + turn, ys[near]))
            owners, points = tree.query(shapes, predicate="intersects")
            np.minimum.at(keys, near[points], owners)
            np.add.at(holding, near[points], 1)
        keys[keys == len(self.frame)] = NOWHERE
        return keys, holding


def read_areas(path: Path, grid: Grid, *, name: str | None = None, pcode: str | None = None) -> PolygonAreas:
    """Areas of a vector file that lie on a map, in any reference system.

    Args:
        path: a vector file of polygons, or `FILE:LAYER`.
        grid: of the map.
        name: column with their names; by default one that is called like one (ADM3_EN, name, ...).
        pcode: column with their P-codes, kept as text exactly; by default that of the deepest level (ADM3_PCODE).

    Raises:
        FootprintError: the file cannot be read, has no usable polygon or no reference system, or lies elsewhere.
        InputError: there is no such column.
    """
    table = read_table(path, "areas", columns=True)
    repaired = repair(table.shapes)
    if table.crs is None:
        raise FootprintError(f"{path} names no reference system: add one, such as with 'ogr2ogr -a_srs'")
    usable = np.flatnonzero(~shapely.is_missing(repaired.shapes))
    if not len(usable):
        raise FootprintError(
            f"{path} holds {counted(len(table.shapes), 'row')} but no usable polygon: expected areas"
        )
    shapes = repaired.shapes[usable]
    on_map = _on_map(shapes, table.crs, grid)
    if not on_map.any():
        reason = apart(shapes, table.crs, grid, degrees_by_default=table.degrees_by_default)
        raise FootprintError(f"{path}: no area lies on the map: {reason}")
    columns = table.columns.iloc[usable].reset_index(drop=True)
    code_column = _column(columns, pcode, "--pcode", path) or _deepest(columns, _PCODE)
    name_column = _column(columns, name, "--name", path) or _deepest(columns, _NAME)
    codes = _texts(columns, code_column)
    chosen = np.flatnonzero(on_map)
    rows = usable[chosen]
    frame = geopandas.GeoDataFrame(
        {
            "area_id": _ids([codes[row] for row in chosen], rows),
            "name": pd.Series([_texts(columns, name_column)[row] for row in chosen], dtype=object),
            "pcode": pd.Series([codes[row] for row in chosen], dtype=object),
        },
        geometry=shapes[chosen],
        crs=table.crs,
    )
    shared = _overlaps(frame)
    notes = (
        repaired.notes(),
        *table.notes,
        *_code_notes(frame, code_column),
        shared,
        _doubt(table.crs, grid),
    )
    for note in notes:
        if note:
            warnings.warn(f"areas in {path.name}: {note}", DataWarning, stacklevel=2)
    said = [
        f"{what} from {column}"
        for what, column in (("P-codes", code_column), ("names", name_column))
        if column
    ]
    title = f"{counted(len(frame), 'area')} of {path.name} ({', '.join(said) or 'without names'})"
    return PolygonAreas(_slug(path), title, frame, shared)


def scene_areas(folder: Path, date: str, grid: Grid) -> PolygonAreas:
    """The image files of one date of a map, as the map keeps their outlines; where they overlap, the first counts.

    Args:
        folder: of the map.
        date: `pre` or `post`.
        grid: of the map.

    Raises:
        InputError: the map keeps none.
    """
    path = folder / f"{SCENES}.gpkg"
    if not path.is_file():
        raise InputError(
            f"{folder} keeps no outlines of its images: map again, or pass the images with --tiles FOLDER"
        )
    table = read_table(path.with_name(f"{path.name}:{SCENES}"), "area", columns=True)
    kept = (table.columns["date"] == date).to_numpy()
    if not kept.any() or grid.crs is None:
        raise InputError(f"{path} holds no image of the date {date}: map again")
    names = table.columns["file"][kept].tolist()
    frame = geopandas.GeoDataFrame(
        {"area_id": _unique(names), "name": names, "pcode": [None] * len(names)},
        geometry=table.shapes[kept],
        crs=CRS.from_wkt(grid.crs.to_wkt()),
    )
    return PolygonAreas(f"scenes-{date}", f"{counted(len(names), 'image')} of the date {date}", frame)


def tile_areas(images: Path) -> PolygonAreas:
    """The image files of one date as areas; where they overlap, the first by name counts, as in the map.

    Raises:
        InputError: they cannot be read, or have no georeference.
    """
    paths, name = find_images(images)
    files = [RasterFile.inspect(path, nodata="declared") for path in paths]
    placeless = [file.path.name for file in files if file.grid.crs is None]
    if placeless:
        raise InputError(f"{placeless[0]} has no georeference, so nothing can be counted by it")
    system = files[0].grid.crs
    assert system is not None
    crs = CRS.from_wkt(system.to_wkt())
    shapes = []
    for file in files:
        assert file.grid.crs is not None
        there = between(CRS.from_wkt(file.grid.crs.to_wkt()), crs)
        outline = shapely.segmentize(shapely.Polygon(file.grid.corners), max(_side(file.grid) / 16, 1e-9))
        shapes.append(shapely.transform(outline, there.transform, interleaved=False))
    names = [file.path.name for file in files]
    frame = geopandas.GeoDataFrame(
        {"area_id": _unique(names), "name": names, "pcode": [None] * len(names)}, geometry=shapes, crs=crs
    )
    return PolygonAreas("tiles", f"{counted(len(names), 'image')} of {name}", frame)


def _side(grid: Grid) -> float:
    left, bottom, right, top = grid.bounds
    return max(right - left, top - bottom)


def _on_map(shapes: np.ndarray, crs: CRS, grid: Grid) -> np.ndarray:
    """Bool (n,), which polygons touch the map."""
    west, south, east, north = shapely.bounds(shapes).T
    longest = np.maximum(east - west, north - south) / 16
    # long edges bend between reference systems
    placed = onto_grid(shapely.segmentize(shapes, np.maximum(longest, 1e-9)), crs, grid)
    found = np.zeros(len(shapes), bool)
    known = ~shapely.is_missing(placed)
    valid = np.array([shape if shape.is_valid else shape.buffer(0) for shape in placed[known]], dtype=object)
    found[known] = touch(valid, grid)
    if not known.all():  # they hold places that the map's system has none for, such as another hemisphere
        lons, lats = grid.lonlat(*np.meshgrid(np.linspace(0, grid.width, 9), np.linspace(0, grid.height, 9)))
        xs, ys = between(DEGREES, crs).transform(lons.ravel(), lats.ravel())
        points = shapely.multipoints(np.column_stack([xs, ys])[np.isfinite(xs)])
        found[~known] = shapely.intersects(shapes[~known], points)
    return found


def _column(columns: pd.DataFrame, wanted: str | None, option: str, path: Path) -> str | None:
    if wanted is None:
        return None
    names = [str(name) for name in columns.columns]
    alike = [name for name in names if name == wanted] or [
        n for n in names if n.casefold() == wanted.casefold()
    ]
    if len(alike) != 1:
        raise InputError(f"{path} has no column {wanted}: {option} takes one of {', '.join(names) or 'none'}")
    return alike[0]


def _deepest(columns: pd.DataFrame, pattern: re.Pattern[str]) -> str | None:
    """The column of the smallest administrative level that is called like a pattern."""
    found = [(str(name), match) for name in columns.columns if (match := pattern.fullmatch(str(name)))]
    levels = [
        (int(next((g for g in match.groups() if g and g.isdigit()), "0")), -order, name)
        for order, (name, match) in enumerate(found)
    ]
    return max(levels)[2] if levels else None


def _texts(columns: pd.DataFrame, name: str | None) -> list[str | None]:
    """A column as text, exactly as the file has it; None where there is none."""
    if name is None:
        return [None] * len(columns)
    return [
        None if value is None or value is pd.NA or value != value else text_of(_plain(value))
        for value in columns[name]
    ]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _ids(codes: Sequence[str | None], rows: np.ndarray) -> list[str]:
    """P-codes where there are any, else the number of the row in the file, from 1; all differ."""
    return _unique(
        [code if code and code.strip() else f"row {row + 1}" for code, row in zip(codes, rows, strict=True)]
    )


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def _code_notes(frame: geopandas.GeoDataFrame, column: str | None) -> list[str]:
    if column is None:
        return []
    codes = [code for code in frame["pcode"] if code and code.strip()]
    notes = []
    if len(codes) < len(frame):
        missing = len(frame) - len(codes)
        notes.append(
            f"{missing} of {counted(len(frame), 'area')} on the map without a P-code in {column}: called by row"
        )
    counts = pd.Series(codes, dtype=object).value_counts()
    twice = sorted(counts[counts > 1].index)
    if twice:
        shown = ", ".join(twice[:_SHOWN]) + (", ..." if len(twice) > _SHOWN else "")
        notes.append(
            f"{counted(len(twice), 'P-code')} of several areas on the map ({shown}): each is counted apart, its area_id "
            "ends in #2 and so on"
        )
    return notes


def _overlaps(frame: geopandas.GeoDataFrame) -> str:
    """Which of the polygons share ground, in words; empty where none do."""
    shapes = frame.geometry.to_numpy()
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    pairs = first < second
    first, second = first[pairs], second[pairs]
    common = shapely.intersection(shapes[first], shapes[second])
    smaller = np.minimum(shapely.area(shapes[first]), shapely.area(shapes[second]))
    real = shapely.area(common) > _LEAST_OVERLAP * smaller
    if not real.any():
        return ""
    parts = np.array([shapely.union_all(_flat(shape)) for shape in common[real]], dtype=object)
    square_km = ground_areas_m2(parts, CRS(frame.crs)).sum() / 1e6
    named = frame["area_id"].to_numpy()
    shown = ", ".join(
        f"{named[a]} and {named[b]}" for a, b in list(zip(first[real], second[real], strict=True))[:3]
    )
    return (
        f"{counted(int(real.sum()), 'pair')} of areas on the map overlap, by {square_km:.3g} km² ({shown}"
        f"{', ...' if real.sum() > 3 else ''}): a building in several counts in the first of the file"
    )


def _flat(shape: Any) -> list[Any]:
    return [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]


def _doubt(crs: CRS, grid: Grid) -> str | None:
    assert grid.crs is not None
    doubt = doubt_between(rasterio.crs.CRS.from_wkt(crs.to_wkt()), grid.crs, grid)
    return None if doubt is None else str(doubt)


def _slug(path: Path) -> str:
    name = path.name.partition(":")[0]
    stem = Path(name).stem
    return re.sub(r"[^\w.-]+", "_", stem).strip("._") or "areas"
