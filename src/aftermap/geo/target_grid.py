"""The grid of a map: that of its imagery, or one of another reference system or resolution around it."""

import math

import numpy as np
import pyproj
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid
from aftermap.geo.lattice import pixel_outline, points_to_pixels
from aftermap.geo.opening.georeference import horizontal
from aftermap.geo.opening.limits import GDAL_OPTIONS, max_pixels

COARSEST_DEGREES = 0.01
"""A pixel of more degrees is a kilometre wide: somebody meant metres."""

FINEST_M = 0.0001
"""A pixel of fewer metres shows nothing that flies: somebody meant degrees."""

_METRES_PER_DEGREE = 111_320


def target_grid(base: Grid, crs: str | CRS | None, resolution: float | None, *, name: str) -> Grid:
    """The grid of an image made upright, or one in another reference system or resolution around it.

    Args:
        base: the image's own grid, with a reference system.
        crs: reference system of the new grid; the image's by default.
        resolution: pixel size in metres (in degrees where the reference system is geographic); the image's by default.
        name: what errors call the image.

    Raises:
        GeoreferenceError: unknown reference system, a size that is none or counts in the wrong unit, or an image that
            cannot be projected.
    """
    assert base.crs is not None
    target = base.crs if crs is None else _parse_crs(crs)
    t = base.transform
    compass = _compass(target, base)
    if target == base.crs and resolution is None and (t.b == 0 == t.d or t.a == 0 == t.e):
        steps = abs(t.a + t.b), abs(t.d + t.e)  # one of each is 0
        numbers = base.shape[::-1] if t.a else base.shape
        return _upright(target, base.bounds, steps, numbers, compass)
    if resolution is not None:
        _check_size(resolution, target)
    plane = Grid(target, Affine.identity(), 1, 1)  # its pixel coordinates are the coordinates of `target`
    c, r = base.width / 2, base.height / 2
    xs, ys = t * (np.array([c, c + 1, c]), np.array([r, r, r + 1]))
    us, vs = points_to_pixels(xs, ys, base.crs, plane)
    outline = pixel_outline(base, plane)
    if outline is None or us.size < 3:
        raise GeoreferenceError(
            f"{name} cannot be projected to {target.to_string()[:40]}: pass another --crs"
        )
    wide, high = math.hypot(us[1] - us[0], us[2] - us[0]), math.hypot(vs[1] - vs[0], vs[2] - vs[0])
    if target.is_projected:
        wide = high = math.sqrt(wide * high)
    if resolution is not None:
        wide = high = resolution / (target.linear_units_factor[1] if target.is_projected else 1.0)
    left, bottom, right, top = outline.bounds
    if resolution is not None and (right - left < wide or top - bottom < high):
        unit = "m" if target.is_projected else "degrees"
        side = min(right - left, top - bottom) * resolution / wide
        raise GeoreferenceError(
            f"--resolution {resolution:g} is larger than the scene: {name} is only {side:.3g} {unit} wide or high; pass "
            "a smaller one"
        )
    left, top = math.floor(left / wide + 1e-6) * wide, math.ceil(top / high - 1e-6) * high
    right, bottom = math.ceil(right / wide - 1e-6) * wide, math.floor(bottom / high + 1e-6) * high
    width, height = round((right - left) / wide), round((top - bottom) / high)
    if width * height > max(max_pixels(), 4 * base.width * base.height):
        raise GeoreferenceError(
            f"--resolution {resolution} would make {width} x {height} pixels of {base.width} x {base.height}: pass a "
            "coarser one"
        )
    return _upright(target, (left, bottom, right, top), (wide, high), (width, height), compass)


def _upright(
    crs: CRS,
    bounds: tuple[float, float, float, float],
    steps: tuple[float, float],
    numbers: tuple[int, int],
    compass: tuple[tuple[int, int], tuple[int, int]],
) -> Grid:
    """The grid whose columns run east and whose rows run south, of pixel sizes and numbers along x and y."""
    (east_x, east_y), (north_x, north_y) = compass
    left, bottom, right, top = bounds
    x, y = left if east_x - north_x > 0 else right, bottom if east_y - north_y > 0 else top
    turned = Affine(east_x * steps[0], -north_x * steps[0], x, east_y * steps[1], -north_y * steps[1], y)
    return Grid(crs, turned, *(numbers if east_x else numbers[::-1]))


def _compass(crs: CRS, base: Grid) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where east and north lie along (x, y): (1, 0) and (0, 1) unless the system counts west or south."""
    axes = {axis.direction.lower() for axis in pyproj.CRS.from_wkt(crs.to_wkt()).axis_info}
    if not (axes & {"west", "south"} and axes & {"east", "west"} and axes & {"north", "south"}):
        return (1, 0), (0, 1)
    lons, lats = base.lonlat(np.array([base.width / 2]), np.array([base.height / 2]))
    degrees = CRS.from_epsg(4326)
    step = 1e-3
    xs, ys = points_to_pixels(
        np.array([0, step, 0]) + lons[0],
        np.array([0, 0, step]) + lats[0],
        degrees,
        Grid(crs, Affine.identity(), 1, 1),
    )
    if xs.size < 3:
        return (1, 0), (0, 1)
    east, north = _main(xs[1] - xs[0], ys[1] - ys[0]), _main(xs[2] - xs[0], ys[2] - ys[0])
    return (east, north) if bool(east[0]) != bool(north[0]) else ((1, 0), (0, 1))


def _main(x: float, y: float) -> tuple[int, int]:
    return (int(np.sign(x)), 0) if abs(x) >= abs(y) else (0, int(np.sign(y)))


def check_resolution(resolution: float) -> None:
    """Refuse what is no size of a pixel, in whatever unit.

    Raises:
        GeoreferenceError: not above 0, or not finite.
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise GeoreferenceError(
            f"--resolution {resolution} is not a size: pass the pixel size in metres, such as 0.5"
        )


def _check_size(resolution: float, target: CRS) -> None:
    check_resolution(resolution)
    if target.is_geographic and resolution > COARSEST_DEGREES:
        degrees = f"{resolution / _METRES_PER_DEGREE:.2g}"
        raise GeoreferenceError(
            f"--resolution {resolution:g} would be degrees in {target.to_string()[:40]}: pass degrees such as "
            f"{degrees}, or a projected --crs"
        )
    if target.is_projected and resolution < FINEST_M:
        metres = f"{resolution * _METRES_PER_DEGREE:.2g}"
        raise GeoreferenceError(
            f"--resolution {resolution:g} would be metres in {target.to_string()[:40]}: pass metres such as {metres}, or "
            "a geographic --crs"
        )


def _parse_crs(crs: str | CRS) -> CRS:
    try:
        with rasterio.Env(**GDAL_OPTIONS):
            found = horizontal(CRS.from_user_input(crs), f"--crs {crs}")
    except CRSError:
        found = None
    if found is None:
        raise GeoreferenceError(
            f"--crs {crs!r} is not a known reference system with a place on the globe: pass one such as EPSG:32615"
        )
    return found
