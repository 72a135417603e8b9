"""Georeference of xBD scenes: fitted to polygons known in pixels and degrees, or read from a geotransforms file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from shapely.geometry.base import BaseGeometry

from aftermap.data.scene import SceneGrid
from aftermap.errors import DataError
from aftermap.files import read_json
from aftermap.geo.grid import Grid

_MOST = 1e100
CORNER_TOLERANCE_PX = 2.0
"""A fit whose expected error anywhere in the scene exceeds this is not used."""


@dataclass(frozen=True, slots=True)
class Fit:
    """An affine from pixels to degrees.

    Attributes:
        transform: maps (col, row) to (longitude, latitude).
        residual_px: root mean square distance of the points used, in pixels.
        corner_px: expected error at the scene's worst corner (one standard deviation), in pixels.
        points: how many vertices took part.
    """

    transform: Affine
    residual_px: float
    corner_px: float
    points: int

    @property
    def is_usable(self) -> bool:
        """True where the error is small over the whole scene."""
        return self.corner_px <= CORNER_TOLERANCE_PX

    def grid(self) -> SceneGrid:
        """The georeference in the form that manifests keep."""
        t = self.transform
        return SceneGrid(
            crs="EPSG:4326", transform=(t.a, t.b, t.c, t.d, t.e, t.f), residual_px=self.residual_px
        )


def fit_polygons(
    pixels: Mapping[str, BaseGeometry], degrees: Mapping[str, BaseGeometry], *, height: int, width: int
) -> Fit | None:
    """Fit an affine to the vertices of polygons that are known in both systems.

    Polygons are matched by key; those with another number of vertices in the other system are left out.

    Args:
        pixels: polygons in pixel coordinates by uid.
        degrees: the same in longitude and latitude.
        height: rows of the scene, to judge the error at its corners.
        width: columns of the scene.

    Returns:
        The fit, or None where fewer than three vertices in general position are known.
    """
    pairs = [
        (source, target)
        for uid in sorted(pixels.keys() & degrees.keys())
        if len(source := shapely.get_coordinates(pixels[uid])[:-1])
        == len(target := shapely.get_coordinates(degrees[uid])[:-1])
        and len(source)
    ]
    if not pairs:
        return None
    return fit_affine(
        np.vstack([s for s, _ in pairs]), np.vstack([t for _, t in pairs]), height=height, width=width
    )


def fit_affine(pixels: np.ndarray, degrees: np.ndarray, *, height: int, width: int) -> Fit | None:
    """Robust least-squares affine from pixel points to degrees.

    Points further off than three times the typical residual (and 0.05 px) are left out, at most half of them.

    Args:
        pixels: (N, 2) columns and rows.
        degrees: (N, 2) longitudes and latitudes.
        height: rows of the scene.
        width: columns of the scene.
    """
    # Centred and scaled: degrees near +-100 with steps of 5e-6 would lose digits otherwise.
    extent = np.array([width, height], float)
    origin = degrees.mean(0)
    design = np.column_stack([pixels / extent - 0.5, np.ones(len(pixels))])
    target = degrees - origin
    keep = np.ones(len(pixels), bool)
    for _ in range(5):
        if np.linalg.matrix_rank(design[keep], tol=1e-3) < 3:
            return None
        solution = np.linalg.lstsq(design[keep], target[keep], rcond=None)[0]  # (3, 2)
        linear = (solution[:2] / extent[:, None]).T  # degrees per pixel
        if abs(np.linalg.det(linear)) < 1e-20:
            return None
        error = np.linalg.norm(np.linalg.solve(linear, (target - design @ solution).T), axis=0)
        limit = max(0.05, 3 * 1.4826 * float(np.median(error[keep])))
        chosen = error <= max(limit, float(np.median(error)))
        if (chosen == keep).all():
            break
        keep = chosen
    used = design[keep]
    freedom = max(len(used) - 3, 1)
    # Labels carry about 0.01 px of their own, also where three points fit without residual.
    sigma = max(float(np.sqrt((error[keep] ** 2).sum() / freedom)), 0.01)
    corners = np.array([[-0.5, -0.5, 1], [0.5, -0.5, 1], [0.5, 0.5, 1], [-0.5, 0.5, 1]])
    leverage = np.einsum("ci,ij,cj->c", corners, np.linalg.pinv(used.T @ used), corners)
    (a, b), (d, e) = linear
    c, f = solution[2] - 0.5 * (solution[0] + solution[1]) + origin
    return Fit(
        Affine(a, b, c, d, e, f),
        residual_px=float(np.sqrt((error[keep] ** 2).mean())),
        corner_px=sigma * float(np.sqrt(leverage.max())),
        points=int(keep.sum()),
    )


def read_geotransforms(path: Path) -> dict[str, SceneGrid]:
    """Read a geotransforms JSON: image name -> [six GDAL numbers, WKT or EPSG code].

    Returns:
        Georeference by image name without its suffix.

    Raises:
        DataError: the file is missing or not of this form.
    """
    tree = read_json(path, error=DataError)
    if not isinstance(tree, dict):
        raise DataError(
            f"{path} holds a {type(tree).__name__}, expected image names with their geotransforms"
        )
    return {Path(name).stem: _scene_grid(entry, f"{path}: {name}") for name, entry in tree.items()}


def scene_grid(grid: Grid) -> SceneGrid | None:
    """The manifest's form of a grid; None where it is not georeferenced."""
    if grid.crs is None:
        return None
    t = grid.transform
    return SceneGrid(crs=_crs_name(grid.crs), transform=(t.a, t.b, t.c, t.d, t.e, t.f))


def to_grid(grid: SceneGrid, *, height: int, width: int) -> Grid:
    """The grid of a scene's pixels.

    Raises:
        DataError: the reference system is unknown.
    """
    try:
        with rasterio.Env():
            crs = CRS.from_user_input(grid.crs)
    except (CRSError, ValueError, RecursionError):
        raise DataError(f"unknown reference system {grid.crs[:60]!r}: expected EPSG:n or WKT") from None
    return Grid(crs, Affine(*grid.transform), width, height)


def _scene_grid(entry: Any, where: str) -> SceneGrid:
    if not (isinstance(entry, Sequence) and len(entry) == 2 and _is_geotransform(entry[0])):
        raise DataError(f"{where} holds {str(entry)[:60]}, expected [six GDAL numbers, WKT or EPSG code]")
    numbers, reference = entry
    try:
        with rasterio.Env():  # else PROJ prints what it does not know
            named = isinstance(reference, int)
            crs = CRS.from_epsg(reference) if named else CRS.from_user_input(str(reference))
    except (CRSError, ValueError, OverflowError, RecursionError):
        raise DataError(f"{where} has an unknown reference system {str(reference)[:60]!r}") from None
    t = Affine.from_gdal(*(float(number) for number in numbers))
    return SceneGrid(crs=_crs_name(crs), transform=(t.a, t.b, t.c, t.d, t.e, t.f))


def _is_geotransform(numbers: Any) -> bool:
    return (
        isinstance(numbers, Sequence)
        and len(numbers) == 6
        and all(isinstance(n, int | float) and abs(n) < _MOST for n in numbers)
        and abs(numbers[1] * numbers[5] - numbers[2] * numbers[4]) > 0
    )


def _crs_name(crs: CRS) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())
