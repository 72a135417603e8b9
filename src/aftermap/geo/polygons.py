"""Building outlines: ground to pixels and back, masks to polygons, areas in square metres."""

import math
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import cv2
import numpy as np
import shapely
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.geo.outlines import regularise
from aftermap.geo.pixel_rings import trace_rings

_GEOD = Geod(ellps="WGS84")
_SMALL = 0.003  # degrees of latitude, 330 m
_NEAR_POLE = 88.0

Shapes = TypeVar("Shapes", BaseGeometry, np.ndarray)


def to_pixels(geometry: Shapes, grid: Grid) -> Shapes:
    """A geometry, or an array of them, in the grid's reference system as pixel coordinates (x = column, y = row)."""
    return _affine(geometry, ~grid.transform)


def from_pixels(geometry: Shapes, grid: Grid) -> Shapes:
    """A geometry, or an array of them, in pixel coordinates in the grid's reference system."""
    return _affine(geometry, grid.transform)


def area_m2(geometry: BaseGeometry, crs: CRS | None) -> float | None:
    """Area on the ellipsoid in square metres, holes taken out; None without reference system."""
    return None if crs is None else float(areas_m2(np.array([geometry], dtype=object), crs)[0])


def areas_m2(geometries: np.ndarray, crs: CRS | None) -> np.ndarray:
    """`area_m2` of each of (n,) geometries; NaN without reference system.

    Rings of at most about 300 m are measured all at once on the sphere of the same area, within 1e-7 of the area or
    0.0001 square metres, which is how exact the ellipsoid's own series is for a building; larger ones by that.
    """
    if crs is None:
        return np.full(len(geometries), np.nan)
    parts, shape = shapely.get_parts(geometries, return_index=True)
    polygons = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    rings, part = shapely.get_rings(parts[polygons], return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    lons, lats = points.T
    if crs != _DEGREES:
        lons, lats = _to_degrees(crs).transform(lons, lats)
    areas = _small_areas(lons, lats, ring, len(rings))
    large = np.flatnonzero(np.isnan(areas))
    starts, stops = (np.searchsorted(ring, large, side=side).tolist() for side in ("left", "right"))
    areas[large] = [
        abs(_GEOD.polygon_area_perimeter(lons[start:stop], lats[start:stop])[0])
        for start, stop in zip(starts, stops, strict=True)
    ]
    holes = np.diff(part, prepend=-1) == 0  # a polygon's outer ring comes before its holes
    total: np.ndarray = np.bincount(
        shape[polygons][part], weights=np.where(holes, -areas, areas), minlength=len(geometries)
    )
    return total


def _small_areas(lons: np.ndarray, lats: np.ndarray, ring: np.ndarray, count: int) -> np.ndarray:
    """Areas (count,) of small rings of points in degrees; NaN of large ones and of those near a pole.

    Source: Snyder 1987, "Map projections: a working manual", p. 16 (authalic latitude).
    """
    areas = np.full(count, np.nan)
    if not len(ring):
        return areas
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    extent = [np.maximum.reduceat(some, starts) - np.minimum.reduceat(some, starts) for some in (lats, lons)]
    polewards = np.maximum.reduceat(np.abs(lats), starts)
    small = (polewards < _NEAR_POLE) & (extent[0] < _SMALL)
    small[small] = (extent[1] * np.cos(np.radians(polewards)))[small] < _SMALL
    lons, lats = (np.where(np.repeat(small, np.diff([*starts, len(ring)])), some, 0) for some in (lons, lats))
    lon, sine = np.radians(lons), np.sin(np.radians(lats))
    eccentricity = math.sqrt(_GEOD.es)

    def zone(
        sine: np.ndarray | float,
    ) -> np.ndarray:  # twice the area from the equator on, of a radian, over a^2
        lens = np.arctanh(eccentricity * sine) / eccentricity
        area: np.ndarray = (1 - _GEOD.es) * (sine / (1 - _GEOD.es * sine * sine) + lens)
        return area

    authalic = zone(sine) / zone(1.0)  # sine of the latitude on the sphere
    half = authalic / (1 + np.sqrt(np.maximum(1 - authalic**2, 0)))  # tangent of half that latitude
    # between a great circle and the equator, as on the sphere
    turn = np.tan(np.diff(lon) / 2) * (half[1:] + half[:-1]) / (1 + half[1:] * half[:-1])
    excess = np.where(ring[1:] == ring[:-1], 2 * np.arctan(turn), 0)
    found = np.abs(np.bincount(ring[1:], weights=excess, minlength=count)) * _GEOD.a**2 / 2 * zone(1.0)
    areas[ring[starts][small]] = found[ring[starts][small]]
    return areas


@dataclass(frozen=True)
class Sheet:
    """Parts of a scene side by side in one array, to be traced at once.

    Attributes:
        columns: int (n,), where each part begins.
        places: int (n, 2), column and row of its upper left pixel in the scene.
    """

    columns: np.ndarray
    places: np.ndarray


def trace(
    mask: np.ndarray,
    grid: Grid,
    *,
    min_area_px: float = 20.0,
    simplify_px: float = 1.0,
    sheet: Sheet | None = None,
) -> list[Polygon]:
    """Outline the buildings of a mask, one polygon per 4-connected shape.

    Outlines are snapped to the building's own directions where that keeps its shape (see `geo.outlines`). Holes
    smaller than `min_area_px` are filled, larger ones kept.

    Args:
        mask: bool (H, W), True on buildings.
        grid: where the mask lies; its pixels may be oblong on the ground.
        min_area_px: smaller shapes are slivers and dropped.
        simplify_px: how far an outline may move.
        sheet: what the mask consists of, where it is no part of a scene; polygons lie in the scene.

    Returns:
        Valid polygons in pixel coordinates, from top to bottom.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    return _traced(labels, areas, grid, min_area_px, simplify_px, sheet)


def trace_labels(
    labels: np.ndarray,
    grid: Grid,
    *,
    min_area_px: float = 20.0,
    simplify_px: float = 1.0,
    sheet: Sheet | None = None,
    areas: np.ndarray | None = None,
) -> list[Polygon]:
    """Outline buildings that were told apart, which may touch; see `trace`.

    Args:
        labels: int32 (H, W), 0 off buildings and a number from 1 on for each, which is 4-connected.
        grid: where the labels lie.
        min_area_px: smaller shapes are dropped.
        simplify_px: how far an outline may move.
        sheet: see `trace`.
        areas: pixels of each number, where they are known.

    Returns:
        Valid polygons in pixel coordinates, in the order of their labels.
    """
    areas = np.bincount(labels.ravel()) if areas is None else areas
    return _traced(labels, areas, grid, min_area_px, simplify_px, sheet)


_DEGREES = CRS.from_epsg(4326)


def _affine(geometry: Shapes, t: Affine) -> Shapes:
    moved: Shapes = shapely.transform(
        geometry,
        lambda xy: np.column_stack(
            [t.a * xy[:, 0] + t.b * xy[:, 1] + t.c, t.d * xy[:, 0] + t.e * xy[:, 1] + t.f]
        ),
    )
    return moved


@cache
def _to_degrees(crs: CRS) -> Transformer:
    with transforming():
        return Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True)


def _traced(
    labels: np.ndarray,
    areas: np.ndarray,
    grid: Grid,
    min_area_px: float,
    simplify_px: float,
    sheet: Sheet | None,
) -> list[Polygon]:
    """Outlines of labels that cover so many pixels each."""
    aspect = _aspect(grid)
    large = areas >= min_area_px
    large[0] = False
    outlines = _outlines(labels, large, min_hole_px=min_area_px)
    # Each outline is fitted at the origin, so that it does not depend on where in the mask it lies.
    corners = shapely.bounds(outlines)[:, :2]
    traced = _moved(outlines, -corners)
    # Right angles hold on the ground, so oblong pixels are stretched to squares for the fit.
    ground = traced if aspect == 1 else shapely.transform(traced, lambda xy: xy * (1.0, aspect))
    fitted = regularise(ground, tolerance=simplify_px * max(1.0, aspect))
    if aspect != 1:
        fitted = shapely.transform(fitted, lambda xy: xy / (1.0, aspect))
    if sheet is not None:
        part = np.searchsorted(sheet.columns, corners[:, 0], side="right") - 1
        corners[:, 0] -= sheet.columns[part]
        # whole numbers, moved once: it does not matter where the scene was cut
        corners += sheet.places[part]
    polygons: list[Polygon] = _moved(fitted, corners).tolist()
    return polygons


def _aspect(grid: Grid) -> float:
    """Height of a pixel over its width, on the ground."""
    size = grid.pixel_size_m
    if size is None or not all(math.isfinite(s) and s > 0 for s in size):
        return 1.0
    return size[1] / size[0]


def _outlines(labels: np.ndarray, chosen: np.ndarray, *, min_hole_px: float) -> np.ndarray:
    """The exact outlines of the chosen labels along pixel edges, small holes filled, in the labels' order."""
    rings = trace_rings(labels if chosen[1:].all() else np.where(chosen[labels], labels, 0))
    if not len(rings.label):
        return np.zeros(0, dtype=object)
    lines = shapely.linearrings(rings.points, indices=rings.ring)
    kept = (rings.area > 0) | (-rings.area >= min_hole_px)
    position = np.cumsum(chosen) - 1  # of each label among those that are chosen
    outlines: np.ndarray = shapely.polygons(lines[kept], indices=position[rings.label[kept]])
    return outlines


def _moved(polygons: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Polygons (n,) moved by `steps` (n, 2)."""
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    moved: np.ndarray = shapely.set_coordinates(polygons.copy(), points + steps[owner])
    return moved
