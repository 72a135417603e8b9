"""Where many scenes lie, and the one grid that all of them go into."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as warp_points

from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid

_MOST_SIDE_PX = 2_000_000
_FAR_DEGREES = 12.0
_EDGE_POINTS = 21
_SAME = 1e-6


@dataclass(frozen=True)
class Part:
    """A scene that is mapped.

    Attributes:
        number: its place in the list.
        name: of the scene.
        file: its archive, on this machine.
        grid: of its map.
        provenance: what the map's `provenance.json` holds.
    """

    number: int
    name: str
    file: Path
    grid: Grid
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def footprints(self) -> str:
        """The checksum of the buildings that were judged; empty where they were traced."""
        found = self.provenance.get("inputs", {}).get("footprints")
        return "" if found is None else str(found.get("sha256") or found)

    def raster(self, name: str) -> str:
        """A raster of the scene, as GDAL opens it within the archive."""
        return f"/vsizip/{{{self.file.absolute()}}}/{name}.tif"


def grid_of(provenance: Mapping[str, Any]) -> Grid:
    """The grid that a map's report describes."""
    told = provenance["grid"]
    crs = None if told["crs"] is None else CRS.from_user_input(told["crs"])
    return Grid(crs, Affine(*told["transform"]), int(told["width"]), int(told["height"]))


def common_grid(parts: Sequence[Part], *, crs: str | None = None) -> Grid:
    """One grid around all scenes.

    Its reference system is the one that most scenes have, the first of them where several are as frequent; its pixels
    are as fine as the finest of these. Where they share their pixels' corners, so does it, and nothing is resampled.

    Args:
        parts: at least one.
        crs: in place of that reference system.

    Raises:
        GeoreferenceError: the scenes lie too far apart for one map.
    """
    systems = Counter(_text(part.grid) for part in parts)
    chosen = (
        CRS.from_user_input(crs) if crs is not None else CRS.from_user_input(systems.most_common(1)[0][0])
    )
    _check_near(parts, chosen)
    own = [part.grid for part in parts if part.grid.crs == chosen and _is_upright(part.grid)]
    if own:
        finest = min(own, key=lambda grid: abs(grid.transform.a))
        across, down = abs(finest.transform.a), abs(finest.transform.e)
        left, top = finest.transform.c, finest.transform.f
    else:
        across = down = _pixel_in(parts[0].grid, chosen)
        left, top = 0.0, 0.0
    boxes = np.array([outline(part.grid, chosen).bounds for part in parts])
    (west, south), (east, north) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    first_col, last_col = _floor((west - left) / across), -_floor((left - east) / across)
    first_row, last_row = _floor((top - north) / down), -_floor((south - top) / down)
    width, height = last_col - first_col, last_row - first_row
    if max(width, height) > _MOST_SIDE_PX:
        raise GeoreferenceError(
            f"the scenes lie {width:,} x {height:,} pixels apart, more than {_MOST_SIDE_PX:,} on a side: split the list"
        )
    origin = Affine(across, 0, left + first_col * across, 0, -down, top - first_row * down)
    return Grid(chosen, origin, width, height)


def offset_in(grid: Grid, other: Grid) -> tuple[int, int] | None:
    """(row, column) of a grid's upper left pixel in another one; None where their pixels do not coincide."""
    a, b = grid.transform, other.transform
    size = abs(b.a)
    if grid.crs != other.crs or any(abs(x - y) > _SAME * size for x, y in zip(a[:6:4], b[:6:4], strict=True)):
        return None
    if any(abs(value) > _SAME * size for value in (a.b, a.d, b.b, b.d)):
        return None
    col, row = (a.c - b.c) / b.a, (a.f - b.f) / b.e
    if abs(col - round(col)) > 1e-3 or abs(row - round(row)) > 1e-3:
        return None
    return round(row), round(col)


def outline(grid: Grid, crs: CRS) -> shapely.Polygon:
    """The ground of a grid in a reference system, with points along its sides."""
    steps = np.linspace(0, 1, _EDGE_POINTS)[:-1]
    zero, one = 0 * steps, 0 * steps + 1
    cols = np.concatenate([steps, one, 1 - steps, zero]) * grid.width
    rows = np.concatenate([zero, steps, one, 1 - steps]) * grid.height
    t = grid.transform
    xs, ys = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    if grid.crs != crs:
        xs, ys = (np.array(each) for each in warp_points(grid.crs, crs, xs.tolist(), ys.tolist())[:2])
    return shapely.Polygon(np.column_stack([xs, ys]))


def overlapping(parts: Sequence[Part], grid: Grid) -> list[int]:
    """Numbers of the scenes that share ground with another one."""
    assert grid.crs is not None
    outlines = np.array([outline(part.grid, grid.crs) for part in parts], dtype=object)
    first, second = shapely.STRtree(outlines).query(outlines, predicate="intersects")
    apart = first != second
    first, second = first[apart], second[apart]
    pixel = abs(grid.transform.determinant)
    shared = shapely.area(shapely.intersection(outlines[first], outlines[second])) > pixel
    return [int(number) for number in np.unique(first[shared])]


def _check_near(parts: Sequence[Part], crs: CRS) -> None:
    """Refuse scenes that one reference system does not hold well."""
    if not crs.is_projected or crs.to_epsg() in (3857, 6933, 8857):
        return
    middles = [
        part.grid.lonlat(np.array([part.grid.width / 2]), np.array([part.grid.height / 2])) for part in parts
    ]
    lons = np.array([float(lon[0]) for lon, _ in middles])
    apart = (lons - lons[0] + 180) % 360 - 180
    far = int(np.abs(apart).argmax())
    if apart.max() - apart.min() > _FAR_DEGREES:
        raise GeoreferenceError(
            f"{parts[far].name} lies {abs(apart[far]):.0f} degrees of longitude from {parts[0].name}, too far for one "
            f"map in {crs.to_string()}: split the list, or pass --merge-crs EPSG:6933"
        )


def _text(grid: Grid) -> str:
    assert grid.crs is not None
    return str(grid.crs.to_wkt()) if grid.crs.to_epsg() is None else f"EPSG:{grid.crs.to_epsg()}"


def _is_upright(grid: Grid) -> bool:
    t = grid.transform
    return bool(t.b == t.d == 0 and t.a > 0 > t.e)


def _pixel_in(grid: Grid, crs: CRS) -> float:
    """Side of a grid's pixels in another reference system."""
    area = outline(grid, crs).area
    return math.sqrt(area / (grid.width * grid.height))


def _floor(value: float) -> int:
    """Rounded down, but for the last digits."""
    return math.floor(value + 1e-3)
