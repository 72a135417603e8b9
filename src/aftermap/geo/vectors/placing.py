"""Where vectors lie and where the image lies: projected onto its grid, and told apart where they do not meet."""

import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.geometry.base import BaseGeometry

from aftermap.errors import FootprintError, GeoreferenceError
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import to_pixels
from aftermap.geo.vectors.repair import valid_polygons

_SHOWN = "lon {:.4f} to {:.4f}, lat {:.4f} to {:.4f}"
_SIDE = 64  # steps along each side of an image, and along the longest edge of an area
_MARGIN = 0.05
_DEGREES = CRS.from_epsg(4326)


def onto_grid(shapes: np.ndarray, crs: CRS, grid: Grid) -> np.ndarray:
    """Shapes in the grid's reference system; None where they cannot be projected there."""
    found = np.array(shapes, dtype=object)
    system = _system(grid)
    if crs != system:
        transformer = _between(crs, system)
        with np.errstate(all="ignore"):
            found = shapely.transform(found, transformer.transform, interleaved=False)
        points, owner = shapely.get_coordinates(found, return_index=True)
        lost = np.unique(owner[~np.isfinite(points).all(axis=1)])
        found[lost] = None
    return found


def touch(shapes: np.ndarray, grid: Grid) -> np.ndarray:
    """Bool (n,), which shapes in the grid's reference system lie on the image, be it with an edge."""
    touching: np.ndarray = shapely.intersects(shapes, shapely.Polygon(grid.corners))
    return touching


def area_in_pixels(shapes: np.ndarray, crs: CRS, grid: Grid) -> BaseGeometry:
    """The part of an area on the image, in pixels; empty where they do not meet.

    The area is cut to the surroundings of the image in its own reference system first, so that a world box or half a
    world stays finite, and gets more corners, because long edges bend between reference systems.
    """
    image = shapely.box(0, 0, grid.width, grid.height)
    system = _system(grid)
    pieces: list[BaseGeometry] = []
    for around, turn in _surroundings(crs, grid):
        near = shapely.intersection(shapes[shapely.intersects(shapes, around)], around)
        parts = np.array(valid_polygons(near), dtype=object)
        if crs != system:
            left, bottom, right, top = around.bounds
            parts = shapely.segmentize(parts, max(right - left, top - bottom) / _SIDE)
        there = shapely.transform(parts, lambda xy, turn=turn: xy - (turn, 0.0))
        pieces += [to_pixels(shape, grid) for shape in onto_grid(there, crs, grid) if shape is not None]
    whole: BaseGeometry = shapely.union_all(valid_polygons(np.array(pieces, dtype=object)))
    inside: BaseGeometry = shapely.intersection(whole, image)
    return inside


def apart(shapes: np.ndarray, crs: CRS, grid: Grid, *, degrees_by_default: bool = False) -> str:
    """Why shapes in `crs` and the image do not meet, as far as coordinates can tell: both places, and what may be wrong.

    Args:
        shapes: valid polygons.
        crs: of the shapes.
        grid: the image.
        degrees_by_default: the file named no system, so its numbers were taken for degrees.
    """
    odd = _odd_numbers(shapes, crs, grid, degrees_by_default=degrees_by_default)
    if odd is not None:
        return odd
    swapped = shapely.transform(shapes, lambda xy: xy[:, ::-1])
    if (crs.is_projected or _in_range(swapped)) and _meet(swapped, crs, grid):
        first, second = ("latitude", "longitude") if crs.is_geographic else ("northing", "easting")
        return (
            f"{_span(shapes, crs)}, {_image_span(grid)}: {first} comes before {second}, expected {second} first: swap "
            "the coordinates (in QGIS: Swap X and Y coordinates)"
        )
    other = f"it is for another place, or its reference system ({crs.name}) is wrong"
    return f"{_span(shapes, crs)}, {_image_span(grid)}: {other}"


def apart_in_pixels(shapes: np.ndarray, grid: Grid) -> str:
    """Where pixel coordinates and the image lie."""
    left, top, right, bottom = shapely.total_bounds(shapes)
    return (
        f"they span x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}, the image {grid.width} x {grid.height} px: "
        "without georeference, coordinates have to be in pixels"
    )


def _system(grid: Grid) -> CRS:
    if grid.crs is None:
        raise GeoreferenceError("the image has no georeference, so nothing can be placed on it")
    return CRS.from_wkt(grid.crs.to_wkt())


def _between(source: CRS, target: CRS) -> Transformer:
    try:
        with transforming():
            return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        reason = " ".join(str(error).split())
        raise FootprintError(f"{source.name} cannot be brought into {target.name}: {reason}") from None


def _surroundings(crs: CRS, grid: Grid) -> list[tuple[BaseGeometry, float]]:
    """Boxes around the image in another reference system, each with the degrees by which it is turned."""
    along = np.linspace(0, 1, _SIDE + 1)
    none = np.zeros_like(along)
    cols = np.concatenate([along, along, none, none + 1]) * grid.width
    rows = np.concatenate([none, none + 1, along, along]) * grid.height
    with np.errstate(all="ignore"):
        xs, ys = _between(_system(grid), crs).transform(*(grid.transform @ (cols, rows)))
    points = np.column_stack([xs, ys])[np.isfinite(xs) & np.isfinite(ys)]
    if not len(points):
        return []
    if not crs.is_geographic:
        return [(_box(points), 0.0)]
    for pole in (90.0, -90.0):
        if _holds_pole(crs, grid, pole):
            edge = np.sign(pole) * (np.abs(points[:, 1]).min() - 1.0)
            return [(shapely.box(-180, min(pole, edge), 180, max(pole, edge)), 0.0)]
    if np.ptp(points[:, 0]) > 180:
        points[:, 0] = np.where(points[:, 0] < 0, points[:, 0] + 360, points[:, 0])
    return [(_box(points + np.array([turn, 0.0])), turn) for turn in (-360.0, 0.0, 360.0)]


def _box(points: np.ndarray) -> BaseGeometry:
    low, high = points.min(axis=0), points.max(axis=0)
    margin = max(float((high - low).max()) * _MARGIN, 1e-9)
    return shapely.box(*(low - margin), *(high + margin))


def _holds_pole(crs: CRS, grid: Grid, latitude: float) -> bool:
    with np.errstate(all="ignore"):
        place = _between(crs, _system(grid)).transform(0.0, latitude)
    if not np.isfinite(place).all():
        return False
    col, row = ~grid.transform @ place
    return bool(0 <= col <= grid.width and 0 <= row <= grid.height)


def _odd_numbers(shapes: np.ndarray, crs: CRS, grid: Grid, *, degrees_by_default: bool) -> str | None:
    """What is odd about coordinates that do not go with their reference system; None where nothing is."""
    left, bottom, right, top = shapely.total_bounds(shapes)
    in_degrees = max(abs(left), abs(right)) <= 360 and max(abs(bottom), abs(top)) <= 90
    span = f"x {left:.6g} to {right:.6g}, y {bottom:.6g} to {top:.6g}"
    code = crs.to_epsg()
    name = crs.name if code is None else f"EPSG:{code}"
    if crs.is_projected and in_degrees:
        return (
            f"its coordinates should be metres ({name}), but they look like degrees ({span}): set its reference "
            "system right, such as with 'ogr2ogr -a_srs EPSG:4326'"
        )
    if crs.is_geographic and max(abs(left), abs(right), abs(bottom), abs(top)) > 360:
        fits = shapely.box(left, bottom, right, top).intersects(shapely.box(*grid.bounds))
        cause = "a GeoJSON without reference system counts as degrees: " if degrees_by_default else ""
        assert grid.crs is not None
        advice = (
            f"they fit the image's, so set 'ogr2ogr -a_srs {grid.crs.to_string()[:20]}'"
            if fits
            else "set the one that they are in with 'ogr2ogr -a_srs'"
        )
        return (
            f"it counts as degrees ({name}), but its numbers are too large for that ({span}): {cause}{advice}"
        )
    return None


def _in_range(shapes: np.ndarray) -> bool:
    return bool((np.abs(shapely.get_coordinates(shapes)[:, 1]) <= 90).all())


def _meet(shapes: np.ndarray, crs: CRS, grid: Grid) -> bool:
    there = onto_grid(shapes, crs, grid)
    return bool(touch(there[~shapely.is_missing(there)], grid).any())


def _span(shapes: np.ndarray, crs: CRS) -> str:
    with np.errstate(all="ignore"):
        there = shapely.transform(shapes, _between(crs, _DEGREES).transform, interleaved=False)
    points = shapely.get_coordinates(there)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return "they lie nowhere on the Earth"
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    return f"they span {_SHOWN.format(left, right, bottom, top)}"


def _image_span(grid: Grid) -> str:
    w, h = grid.width, grid.height
    lon, lat = grid.lonlat(np.array([0, w, w, 0], float), np.array([0, 0, h, h], float))
    return f"the image {_SHOWN.format(lon.min(), lon.max(), lat.min(), lat.max())}"
