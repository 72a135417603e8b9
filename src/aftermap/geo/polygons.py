"""Footprints and building outlines: vector files to pixels, masks to polygons, areas in square metres."""

import math
import warnings
from functools import cache
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pyogrio
import shapely
from affine import Affine
from pyogrio.errors import DataSourceError
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.features import shapes as trace_shapes
from scipy.ndimage import find_objects
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataWarning, FootprintError
from aftermap.geo.grid import Grid
from aftermap.geo.outlines import regularise

VECTOR_FORMATS = {
    ".gpkg": "GPKG",
    ".geojson": "GeoJSON",
    ".json": "GeoJSON",
    ".geojsonl": "GeoJSONSeq",
    ".shp": "ESRI Shapefile",
    ".fgb": "FlatGeobuf",
}
ID_COLUMNS = ("building_id", "id", "osm_id", "uid", "fid", "objectid", "globalid", "gml_id")
"""Columns that may name a building, in order of preference; compared without case."""

_GEOD = Geod(ellps="WGS84")
_SHOWN = "lon {:.4f} to {:.4f}, lat {:.4f} to {:.4f}"


def read_footprints(path: Path, *, grid: Grid) -> geopandas.GeoDataFrame:
    """Read building footprints, repaired and in the grid's reference system.

    A building of several parts stays one building. Self-intersections are mended; rows without any area are left
    out with a warning. Buildings outside the grid are kept: whether they can be assessed is decided later.

    Args:
        path: a GeoPackage, GeoJSON, Shapefile or FlatGeobuf of polygons, in any reference system. For a grid without
            georeference the coordinates are pixels (x right, y down).
        grid: the grid that they are for.

    Returns:
        Columns `building_id` (unique, text) and `geometry` (Polygon or MultiPolygon).

    Raises:
        FootprintError: the file cannot be read, holds no usable polygon, or none of them lies on the grid.
    """
    frame = _read(path)
    names = _building_ids(frame)
    shapes = np.asarray(frame.geometry.array, dtype=object)
    crs = frame.crs
    repaired, dropped, mended = _repair(shapes)
    kept = np.array([shape is not None for shape in repaired], bool)
    if not kept.any():
        kinds = sorted({shape.geom_type for shape in shapes if shape is not None})
        raise FootprintError(
            f"{path} holds {len(shapes)} rows but no usable polygon (found {', '.join(kinds) or 'no geometry'}): "
            "expected building outlines"
        )
    geometry = geopandas.GeoSeries([shape for shape in repaired if shape is not None], crs=crs)
    if grid.is_georeferenced:
        if crs is None:
            raise FootprintError(
                f"{path} names no reference system: add one (a .prj file), or convert it to GeoJSON"
            )
        assert grid.crs is not None
        geometry = geometry.to_crs(grid.crs.to_wkt())
        finite = np.isfinite(shapely.bounds(geometry.to_numpy())).all(axis=1)
        if not finite.all():
            dropped += int((~finite).sum())
            kept[np.flatnonzero(kept)[~finite]] = False
            geometry = geometry[finite]
    else:
        geometry = geopandas.GeoSeries(geometry.to_numpy())
    _check_overlap(path, geometry, grid, crs)
    if dropped or mended:
        parts = [f"{dropped} of {len(shapes)} left out (empty or without area)"] if dropped else []
        parts += [f"{mended} self-intersecting or otherwise invalid ones mended"] if mended else []
        warnings.warn(f"footprints in {path.name}: {' and '.join(parts)}", DataWarning, stacklevel=2)
    return geopandas.GeoDataFrame(
        {"building_id": [name for name, keep in zip(names, kept, strict=True) if keep]},
        geometry=geometry.reset_index(drop=True),
    )


def to_pixels(geometry: BaseGeometry, grid: Grid) -> BaseGeometry:
    """A geometry in the grid's reference system as pixel coordinates (x = column, y = row)."""
    return _affine(geometry, ~grid.transform)


def from_pixels(geometry: BaseGeometry, grid: Grid) -> BaseGeometry:
    """A geometry in pixel coordinates in the grid's reference system."""
    return _affine(geometry, grid.transform)


def area_m2(geometry: BaseGeometry, crs: CRS | None) -> float | None:
    """Area on the ellipsoid in square metres, holes taken out; None without reference system."""
    if crs is None:
        return None
    lonlat = geometry
    if crs != _DEGREES:
        lonlat = shapely.transform(geometry, _to_degrees(crs).transform, interleaved=False)
    parts = [part for part in shapely.get_parts(lonlat) if isinstance(part, Polygon)]
    total = 0.0
    for part in parts:
        rings = [
            abs(_GEOD.polygon_area_perimeter(*ring.coords.xy)[0]) for ring in (part.exterior, *part.interiors)
        ]
        total += rings[0] - sum(rings[1:])
    return float(total)


def trace(
    mask: np.ndarray, grid: Grid, *, min_area_px: float = 20.0, simplify_px: float = 1.0
) -> list[Polygon]:
    """Outline the buildings of a mask, one polygon per 4-connected shape.

    Outlines are snapped to the building's own directions where that keeps its shape (see `geo.outlines`). Holes
    smaller than `min_area_px` are filled, larger ones kept.

    Args:
        mask: bool (H, W), True on buildings.
        grid: where the mask lies; its pixels may be oblong on the ground.
        min_area_px: smaller shapes are slivers and dropped.
        simplify_px: how far an outline may move.

    Returns:
        Valid polygons in pixel coordinates, from top to bottom.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return _traced(labels, stats, grid, min_area_px=min_area_px, simplify_px=simplify_px)


def trace_labels(
    labels: np.ndarray, grid: Grid, *, min_area_px: float = 20.0, simplify_px: float = 1.0
) -> list[Polygon]:
    """Outline buildings that were told apart, which may touch; see `trace`.

    Args:
        labels: int32 (H, W), 0 off buildings and a number from 1 on for each, which is 4-connected.
        grid: where the labels lie.
        min_area_px: smaller shapes are dropped.
        simplify_px: how far an outline may move.

    Returns:
        Valid polygons in pixel coordinates, in the order of their labels.
    """
    places = find_objects(labels)
    stats = np.zeros((len(places) + 1, 5), np.int64)
    stats[:, cv2.CC_STAT_AREA] = np.bincount(labels.ravel(), minlength=len(places) + 1)
    for label, place in enumerate(places, start=1):
        if place is not None:
            stats[label, [cv2.CC_STAT_TOP, cv2.CC_STAT_LEFT]] = place[0].start, place[1].start
    return _traced(labels, stats, grid, min_area_px=min_area_px, simplify_px=simplify_px)


_DEGREES = CRS.from_epsg(4326)


def _read(path: Path) -> geopandas.GeoDataFrame:
    if not path.exists():
        raise FootprintError(f"cannot read footprints {path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in VECTOR_FORMATS:
        raise FootprintError(
            f"{path} ends in {suffix or 'no suffix'}, expected footprints as one of {', '.join(VECTOR_FORMATS)}"
        )
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise FootprintError(f"{path} holds no layer with geometries, expected building outlines")
        layer = "buildings" if "buildings" in layers else layers[0]
        if len(layers) > 1 and layer != "buildings":
            warnings.warn(
                f"footprints in {path.name}: {len(layers)} layers ({', '.join(layers)}), reading {layer}",
                DataWarning,
                stacklevel=3,
            )
        info = pyogrio.read_info(path, layer=layer)
        if info["driver"] != VECTOR_FORMATS[suffix]:
            raise FootprintError(
                f"{path} is a {info['driver']} by content, expected {VECTOR_FORMATS[suffix]}"
            )
        return pyogrio.read_dataframe(path, layer=layer, on_invalid="ignore", fid_as_index=False)
    except (DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        reason = " ".join(str(error).split()).partition("; It might help")[0].rstrip(".")
        raise FootprintError(f"cannot read footprints {path}: {reason}") from None


def _building_ids(frame: geopandas.GeoDataFrame) -> list[str]:
    """Unique names from the first column that has them, else running numbers."""
    columns = {str(column).lower(): column for column in frame.columns}
    for wanted in ID_COLUMNS:
        if wanted not in columns:
            continue
        values = frame[columns[wanted]]
        if values.isna().any():
            continue
        names = [_name(value) for value in values.tolist()]
        if len(set(names)) == len(names) and all(names):
            return names
    return [str(number) for number in range(1, len(frame) + 1)]


def _name(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # whole numbers come as floats out of JSON and dBase
    return str(value).strip()


def _repair(shapes: np.ndarray) -> tuple[list[BaseGeometry | None], int, int]:
    """Polygonal part of each shape, or None; how many were dropped, and how many mended."""
    repaired: list[BaseGeometry | None] = []
    dropped = mended = 0
    for shape in shapes:
        good = shape
        if shape is not None and not shape.is_valid:
            good = _make_valid(shape)
        good = None if good is None else _polygonal(shapely.force_2d(good))
        repaired.append(good)
        dropped += good is None
        mended += good is not None and not shape.is_valid
    return repaired, dropped, mended


def _make_valid(shape: BaseGeometry) -> BaseGeometry | None:
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        return None
    return shapely.make_valid(shape)


def _polygonal(shape: BaseGeometry) -> BaseGeometry | None:
    parts = [
        part
        for piece in shapely.get_parts(shape)
        for part in shapely.get_parts(piece)
        if isinstance(part, Polygon) and part.area > 0
    ]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _check_overlap(path: Path, geometry: geopandas.GeoSeries, grid: Grid, crs: object) -> None:
    corners = Polygon(grid.corners)
    if geometry.intersects(corners).any():
        return
    if grid.crs is None:
        left, top, right, bottom = geometry.total_bounds
        raise FootprintError(
            f"{path}: no footprint lies on the image: they span x {left:.0f} to {right:.0f}, "
            f"y {top:.0f} to {bottom:.0f}, the image {grid.width} x {grid.height} px: without georeference, "
            "footprints have to be in pixels"
        )
    image = geopandas.GeoSeries([corners], crs=grid.crs.to_wkt())
    spans = []
    for series in (geometry, image):
        left, bottom, right, top = series.to_crs(4326).total_bounds
        spans.append(_SHOWN.format(left, right, bottom, top))
    raise FootprintError(
        f"{path}: no footprint lies on the image: they span {spans[0]}, the image {spans[1]}: "
        f"the footprints' reference system ({_crs_name(crs)}) is probably wrong"
    )


def _crs_name(crs: object) -> str:
    return str(getattr(crs, "name", crs))


def _affine(geometry: BaseGeometry, t: Affine) -> BaseGeometry:
    return shapely.transform(
        geometry,
        lambda xy: np.column_stack(
            [t.a * xy[:, 0] + t.b * xy[:, 1] + t.c, t.d * xy[:, 0] + t.e * xy[:, 1] + t.f]
        ),
    )


@cache
def _to_degrees(crs: CRS) -> Transformer:
    return Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True)


def _traced(
    labels: np.ndarray, stats: np.ndarray, grid: Grid, *, min_area_px: float, simplify_px: float
) -> list[Polygon]:
    """Outlines of labels with their statistics in OpenCV's columns."""
    aspect = _aspect(grid)
    large = stats[:, cv2.CC_STAT_AREA] >= min_area_px
    large[0] = False
    # Each outline is fitted at the origin, so that it does not depend on where in the mask it lies.
    corners = stats[large][:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]].astype(float)
    traced = _moved(_outlines(labels, large, min_hole_px=min_area_px), -corners)
    # Right angles hold on the ground, so oblong pixels are stretched to squares for the fit.
    ground = shapely.transform(traced, lambda xy: xy * (1.0, aspect))
    fitted = regularise(ground, tolerance=simplify_px * max(1.0, aspect))
    polygons: list[Polygon] = _moved(
        shapely.transform(fitted, lambda xy: xy / (1.0, aspect)), corners
    ).tolist()
    return polygons


def _aspect(grid: Grid) -> float:
    """Height of a pixel over its width, on the ground."""
    size = grid.pixel_size_m
    if size is None or not all(math.isfinite(s) and s > 0 for s in size):
        return 1.0
    return size[1] / size[0]


def _outlines(labels: np.ndarray, chosen: np.ndarray, *, min_hole_px: float) -> np.ndarray:
    """The exact outlines of the chosen labels along pixel edges, small holes filled, in the labels' order."""
    rings: list[list[tuple[float, float]]] = []
    owner: list[int] = []
    for outline, label in trace_shapes(labels, mask=chosen[labels], connectivity=4):
        rings += outline["coordinates"]
        owner += [int(label)] * len(outline["coordinates"])
    if not rings:
        return np.zeros(0, dtype=object)
    number = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    lines = shapely.linearrings(np.concatenate(rings), indices=number)
    labelled = np.array(owner)
    shell = np.diff(labelled, prepend=-1) != 0  # comes first, and each shape comes once
    kept = np.flatnonzero(shell | (shapely.area(shapely.polygons(lines)) >= min_hole_px))
    kept = kept[np.argsort(labelled[kept], kind="stable")]
    position = np.cumsum(chosen) - 1  # of each label among those that are chosen
    outlines: np.ndarray = shapely.polygons(lines[kept], indices=position[labelled[kept]])
    return outlines


def _moved(polygons: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Polygons (n,) moved by `steps` (n, 2)."""
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    moved: np.ndarray = shapely.set_coordinates(polygons.copy(), points + steps[owner])
    return moved
