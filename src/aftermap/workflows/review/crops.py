"""What a reviewer sees of a building: its outline, those around it, and two pictures of the ground between."""

import io
import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any, Literal

import geopandas
import numpy as np
import shapely
from affine import Affine
from PIL import Image, WebPImagePlugin
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from aftermap.errors import InputError
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid, Window
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.images import MapImages

Frame = Literal["near", "wide"]
FRAMES: tuple[Frame, ...] = ("near", "wide")

MOST_PX = 640
"""Longest side of a picture."""

_TIMES = {"near": 6.0, "wide": 16.0}
_LEAST_PX = {"near": 224, "wide": 640}
_QUALITY = 82
_KEPT = 240
_MOST_AROUND = 300
_ = WebPImagePlugin  # where it is not loaded, Pillow loads forty to save one picture

Rings = list[list[list[float]]]
"""Closed rings of [col, row] in pixels of the map's grid: shells and holes alike, drawn by the even-odd rule."""


class Crops:
    """Outlines and pictures of the buildings of a map.

    Args:
        found: the map.
        images: its images; None for outlines alone.
    """

    def __init__(self, found: FinishedMap, images: MapImages | None = None) -> None:
        self.grid = found.grid
        self._shapes = in_pixels(found.buildings.geometry.to_numpy(), found.grid)
        self._images = images
        self._kept: OrderedDict[tuple[Window, int], tuple[bytes, bytes]] = OrderedDict()
        self._lock = Lock()

    def close(self) -> None:
        """Close the images."""
        if self._images is not None:
            self._images.close()

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self._shapes)

    def outline(self, row: int) -> Rings:
        """The outline of a row of the table."""
        return rings_of(self._shapes[row])

    def window(self, row: int, frame: Frame) -> Window:
        """The square around a building that a picture of it shows."""
        return window_around(self._shapes[row], frame)

    def around(self, row: int, window: Window) -> list[Rings]:
        """Outlines of other buildings in a window."""
        box = shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)
        near = [int(each) for each in self._tree.query(box) if each != row]
        return [rings_of(self._shapes[each]) for each in near[:_MOST_AROUND]]

    def pictures(self, window: Window, side_px: int = MOST_PX) -> tuple[bytes, bytes]:
        """Both dates in a window, as WebP.

        Raises:
            RasterError: they cannot be read.
        """
        assert self._images is not None, "outlines alone were asked for"
        key = window, side_px
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        before, after = self._images.read(window, side_px)
        second = as_webp(after)
        first = second if before is after else as_webp(before)
        with self._lock:
            self._kept[key] = first, second
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return first, second

    def describe(self, row: int) -> dict[str, Any]:
        """Where the pictures of a building lie, and the outlines on them, as the page draws them."""
        windows = {frame: self.window(row, frame) for frame in FRAMES}
        return {
            "outline": self.outline(row),
            "around": self.around(row, windows["wide"]),
            "frames": {
                frame: [window.col, window.row, window.width, window.height]
                for frame, window in windows.items()
            },
        }


def window_around(shape: BaseGeometry, frame: Frame) -> Window:
    """A square around a shape in pixels; at least so large that streets and neighbours are seen."""
    left, top, right, bottom = shape.bounds
    extent = max(right - left, bottom - top, 1.0)
    side = int(max(extent * _TIMES[frame], _LEAST_PX[frame])) // 2 * 2
    return Window(round((top + bottom) / 2) - side // 2, round((left + right) / 2) - side // 2, side, side)


def as_webp(pixels: np.ndarray) -> bytes:
    """Pixels uint8 (H, W, 3) as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()


def rings_of(shape: BaseGeometry) -> Rings:
    """The rings of a polygon or multipolygon, to a tenth of a pixel."""
    return [
        np.round(shapely.get_coordinates(ring), 1).tolist()
        for part in shapely.get_parts(shape)
        for ring in (part.exterior, *part.interiors)
    ]


def shape_of(rings: Sequence[Sequence[Sequence[float]]], grid: Grid) -> BaseGeometry:
    """The polygon that rings of the page mean, in pixels.

    Raises:
        InputError: they make no polygon on the map.
    """
    try:
        drawn = [shapely.Polygon(np.asarray(ring, float)) for ring in rings if len(ring) >= 3]
    except (ValueError, TypeError, shapely.errors.ShapelyError):
        raise InputError("the outline is no polygon") from None
    shape = shapely.Polygon()
    for part in drawn:  # even-odd: a ring within another is a hole
        if not np.isfinite(shapely.get_coordinates(part)).all():
            raise InputError("the outline is no polygon")
        shape = shape.symmetric_difference(shapely.make_valid(part))
    parts = [each for each in shapely.get_parts(shape) if each.geom_type == "Polygon" and each.area > 0]
    if not parts:
        raise InputError("the outline has no area: draw at least three corners")
    shape = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    if not shape.intersects(shapely.box(0, 0, grid.width, grid.height)):
        raise InputError("the outline lies outside of the map")
    return shape


def to_geojson(shape: BaseGeometry, grid: Grid) -> dict[str, Any]:
    """A shape in pixels as GeoJSON: in EPSG:4326, or in pixels where the grid has no georeference."""

    def place(points: np.ndarray) -> np.ndarray:
        if grid.crs is None:
            return np.round(points, 2)
        lons, lats = grid.lonlat(points[:, 0], points[:, 1])
        return np.round(np.column_stack([lons, lats]), 8)

    tree: dict[str, Any] = json.loads(shapely.to_geojson(shapely.transform(shape, place)))
    return tree


def from_geojson(tree: Any, found: FinishedMap) -> BaseGeometry:
    """A shape of `to_geojson` in the reference system of the map (pixels without one).

    Raises:
        InputError: it is no polygon.
    """
    try:
        shape = shapely.make_valid(shapely.from_geojson(json.dumps(tree)))
    except (shapely.errors.ShapelyError, TypeError, ValueError):
        raise InputError("the outline is no GeoJSON polygon") from None
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
        raise InputError(f"the outline is a {shape.geom_type}, expected a polygon")
    return onto(np.array([shape], object), found.grid)[0]


def page_outline(tree: Any, found: FinishedMap) -> Rings:
    """GeoJSON of an answer as the page draws it.

    Raises:
        InputError: it is no polygon.
    """
    return rings_of(in_pixels(np.array([from_geojson(tree, found)], object), found.grid)[0])


def onto(shapes: np.ndarray, grid: Grid) -> np.ndarray:
    """Shapes in EPSG:4326 in the grid's reference system; unchanged where it has none."""
    if grid.crs is None:
        return shapes
    with transforming():
        moved = geopandas.GeoSeries(shapes, crs="EPSG:4326").to_crs(CRS(grid.crs).to_wkt())
    placed: np.ndarray = moved.to_numpy()
    return placed


def in_pixels(shapes: np.ndarray, grid: Grid) -> np.ndarray:
    """Shapes in the grid's reference system, in its pixels."""
    inverse: Affine = ~grid.transform

    def move(points: np.ndarray) -> np.ndarray:
        x, y = points[:, 0], points[:, 1]
        return np.column_stack(
            [inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f]
        )

    moved: np.ndarray = shapely.transform(shapes, move)
    return moved
