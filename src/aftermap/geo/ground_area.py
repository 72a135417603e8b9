"""Areas of pixels on the ground, so that counts of pixels become square metres."""

import numpy as np

from aftermap.geo.grid import Grid

_A_M, _E2 = 6_378_137.0, 6.694379990141317e-3  # WGS84: major half axis, first eccentricity squared
_ROWS, _COLS = 33, 9
_STEP_PX = 8.0


def row_areas_m2(grid: Grid) -> np.ndarray | None:
    """Area in square metres on the ellipsoid of a pixel of each row, float64 (H,); None without reference system.

    The mean over the row's columns, linear between 33 rows: exact to about 1e-6 for scenes of some kilometres, whatever
    their projection.

    Source: the area element of the ellipsoid, M N cos(latitude), from its radii of curvature M and N.
    """
    if grid.crs is None:
        return None
    rows = np.unique(np.linspace(0.5, grid.height - 0.5, _ROWS))
    cols = np.linspace(0.5, grid.width - 0.5, _COLS)
    x, y = np.meshgrid(cols, rows)
    (lon_x, lat_x), (lon_y, lat_y) = (
        _steps(grid, (x - dx, y - dy), (x + dx, y + dy)) for dx, dy in ((_STEP_PX, 0.0), (0.0, _STEP_PX))
    )
    lat = np.radians(grid.lonlat(x.ravel(), y.ravel())[1].reshape(x.shape))
    curvature = 1 - _E2 * np.sin(lat) ** 2
    element = _A_M**2 * (1 - _E2) * np.cos(lat) / curvature**2
    areas = element * np.abs(lon_x * lat_y - lon_y * lat_x) / (2 * _STEP_PX) ** 2
    interpolated: np.ndarray = np.interp(np.arange(grid.height) + 0.5, rows, areas.mean(axis=1))
    return interpolated


def _steps(
    grid: Grid, start: tuple[np.ndarray, np.ndarray], stop: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """From one set of pixel coordinates to another, in radians of longitude and latitude."""
    (lon_a, lat_a), (lon_b, lat_b) = (grid.lonlat(cols.ravel(), rows.ravel()) for cols, rows in (start, stop))
    across = (lon_b - lon_a + 180) % 360 - 180  # the short way round
    shape = start[0].shape
    return np.radians(across).reshape(shape), np.radians(lat_b - lat_a).reshape(shape)
