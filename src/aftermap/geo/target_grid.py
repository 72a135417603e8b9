"""The grid of a map: that of its imagery, or one of another reference system or resolution around it."""

import math

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid
from aftermap.geo.lattice import pixel_outline, points_to_pixels
from aftermap.geo.limits import max_pixels

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
    if target == base.crs and resolution is None and t.b == 0 == t.d:
        if t.a > 0 > t.e:
            return base
        left, bottom, right, top = base.bounds
        return Grid(base.crs, Affine(abs(t.a), 0, left, 0, -abs(t.e), top), base.width, base.height)
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
    left, top = math.floor(left / wide + 1e-6) * wide, math.ceil(top / high - 1e-6) * high
    width, height = math.ceil((right - left) / wide - 1e-6), math.ceil((top - bottom) / high - 1e-6)
    if width * height > max(max_pixels(), 4 * base.width * base.height):
        raise GeoreferenceError(
            f"--resolution {resolution} would make {width} x {height} pixels of {base.width} x {base.height}: pass a "
            "coarser one"
        )
    return Grid(target, Affine(wide, 0, left, 0, -high, top), width, height)


def _check_size(resolution: float, target: CRS) -> None:
    if not (math.isfinite(resolution) and resolution > 0):
        raise GeoreferenceError(
            f"--resolution {resolution} is not a size: pass the pixel size in metres, such as 0.5"
        )
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
        return CRS.from_user_input(crs)
    except CRSError:
        raise GeoreferenceError(
            f"--crs {crs!r} is not a known reference system: pass one such as EPSG:32615"
        ) from None
