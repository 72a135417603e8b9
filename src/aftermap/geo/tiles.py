"""Tiles of one date as one image: alike in bands and type, laid on as few pixel lattices as they need."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aftermap.errors import GeoreferenceError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.lattice import ALIGNED_PX, lattice_offset, pixel_extent
from aftermap.geo.opening.files import RasterFile
from aftermap.geo.opening.limits import max_pixels


@dataclass(frozen=True)
class Layer:
    """Tiles whose pixels lie on one lattice: `places` holds each tile's window in the layer's grid."""

    grid: Grid
    files: tuple[RasterFile, ...]
    places: tuple[Window, ...]


def check_alike(first: RasterFile, other: RasterFile) -> None:
    """Refuse tiles that are not of one image.

    Raises:
        RasterError: they differ in bands or type.
        GeoreferenceError: one of them cannot be placed.
    """
    for what, a, b in (("bands", first.count, other.count), ("type", first.dtype, other.dtype)):
        if a != b:
            raise RasterError(
                f"tiles of one date must be alike: {first.path} has {what} {a}, {other.path} has {what} {b}"
            )
    if not first.grid.is_georeferenced or not other.grid.is_georeferenced:
        plain = first if not first.grid.is_georeferenced else other
        raise GeoreferenceError(
            f"{plain.path} has no georeference, so it cannot be placed beside the other tiles: pass one image per date"
        )


def agree_on_alpha(files: list[RasterFile]) -> list[RasterFile]:
    """Where a band is opacity in some tiles and data in others of the same layout, it is data in all.

    Opacity has one full value in all tiles.
    """
    totals = {file.count + (file.alpha is not None) for file in files}
    if len(totals) > 1:
        return files
    if len({file.alpha for file in files}) > 1:
        return [_with_alpha_as_data(file) for file in files]
    full = [file.opaque for file in files if file.opaque is not None]
    return [replace(file, opaque=max(full)) for file in files] if len(full) == len(files) else files


def _with_alpha_as_data(file: RasterFile) -> RasterFile:
    if file.alpha is None:
        return file
    nodata = file.nodata
    if nodata is not None:
        own = nodata[0] if len({*nodata}) == 1 else None
        nodata = (*nodata[: file.alpha - 1], own, *nodata[file.alpha - 1 :])
    return replace(file, count=file.count + 1, alpha=None, opaque=None, nodata=nodata)


def layers_of(files: Sequence[RasterFile]) -> tuple[Layer, ...]:
    """Group the tiles by pixel lattice, in the order of their first tiles."""
    groups: list[list[RasterFile]] = []
    for file in files:
        for group in groups:
            if lattice_offset(file.grid, group[0].grid, flips=False) is not None:
                group.append(file)
                break
        else:
            groups.append([file])
    layers = []
    for group in groups:
        base = group[0].grid
        places = []
        for file in group:
            offset = lattice_offset(file.grid, base, flips=False)
            assert offset is not None
            places.append(Window(offset[0], offset[1], file.grid.height, file.grid.width))
        row, col = min(p.row for p in places), min(p.col for p in places)
        bottom, right = max(p.row + p.height for p in places), max(p.col + p.width for p in places)
        grid = base.crop(Window(row, col, bottom - row, right - col))
        moved = tuple(replace(p, row=p.row - row, col=p.col - col) for p in places)
        layers.append(Layer(grid, tuple(group), moved))
    return tuple(layers)


def union_of(files: Sequence[RasterFile], name: str) -> Grid:
    """The first tile's lattice, extended over all tiles."""
    base = files[0].grid
    corners = [pixel_extent(file.grid, base) for file in files]
    if any(corner is None for corner in corners):
        raise GeoreferenceError(
            f"{name}: its tiles cannot be placed in the reference system of {files[0].path}"
        )
    lefts, tops, rights, bottoms = zip(*(corner for corner in corners if corner is not None), strict=True)
    col, row = math.floor(min(lefts) + ALIGNED_PX), math.floor(min(tops) + ALIGNED_PX)
    width = math.ceil(max(rights) - ALIGNED_PX) - col
    height = math.ceil(max(bottoms) - ALIGNED_PX) - row
    covered = sum(file.grid.width * file.grid.height for file in files)
    if width * height > max(max_pixels() / 100, 1000 * covered):
        raise GeoreferenceError(
            f"{name}: its {len(files)} tiles lie so far apart that together they would span {width} x {height} pixels: "
            "map distant places one by one"
        )
    return base.crop(Window(row, col, height, width))
