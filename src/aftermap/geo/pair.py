"""Two dates of one place on one grid: overlap checked, shift measured, read window by window."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from affine import Affine
from rasterio.crs import CRS

from aftermap.errors import (
    AftermapWarning,
    AlignmentWarning,
    DataWarning,
    GeoreferenceError,
    PixelCoordinatesWarning,
)
from aftermap.geo.alignment.align import Shift, measure_shift
from aftermap.geo.alignment.local_shift import LocalShift, measure_local_shift
from aftermap.geo.grid import Grid, Window
from aftermap.geo.lattice import pixel_outline
from aftermap.geo.raster import Patch, RasterSource
from aftermap.geo.target_grid import target_grid

Alignment = Literal["auto", "local", "off"]
Source = str | Path | Sequence[str | Path] | RasterSource


@dataclass(frozen=True)
class DatePair:
    """Images from before and after, read together.

    Attributes:
        pre: the first date.
        post: the second date.
        grid: the common grid: the first date's, or that of the `crs` and `resolution` asked for. With a
            reference system, rows run south and columns east, whatever the images do.
        shift: how far the second date lies beside the first.
        warnings: what was warned about, for the report.
        local: what is left of the shift from place to place; None where that was not asked for.
    """

    pre: RasterSource
    post: RasterSource
    grid: Grid
    shift: Shift
    warnings: list[str]
    local: LocalShift | None = None

    @classmethod
    def open(
        cls,
        pre: Source,
        post: Source,
        *,
        bands: Sequence[int] | None = None,
        crs: str | CRS | None = None,
        resolution: float | None = None,
        align: Alignment = "auto",
    ) -> "DatePair":
        """Put two dates on one grid and measure the shift between them.

        Args:
            pre: the first date: a file, several, a folder of tiles, or an open source.
            post: the second date.
            bands: 1-based bands to read from both.
            crs: reference system of the common grid; the first date's by default.
            resolution: pixel size in metres (in degrees where the reference system is geographic); the first
                date's by default.
            align: `auto` takes the measured shift out where that brings the dates measurably closer; `local` then
                takes out what is left of it from place to place, by the same rule.

        Raises:
            RasterError: an image cannot be used.
            GeoreferenceError: the dates cannot be put on one grid, or do not overlap.
        """
        first, second = (
            s if isinstance(s, RasterSource) else RasterSource.open(s, bands) for s in (pre, post)
        )
        messages: list[str] = []
        if first.is_georeferenced != second.is_georeferenced:
            plain, other = (second, first) if first.is_georeferenced else (first, second)
            raise GeoreferenceError(
                f"{plain.name} has no georeference but {other.name} has: give both dates one, or remove it from both "
                "if their pixels coincide"
            )
        if first.is_georeferenced:
            grid = target_grid(first.grid, crs, resolution, name="the first date")
        else:
            grid = _plain_grid(first, second, crs, resolution)
            _warn(
                "the images have no georeference: all outputs are in pixel coordinates",
                PixelCoordinatesWarning,
                messages,
            )
        if first.acquired is not None and second.acquired is not None and first.acquired > second.acquired:
            _warn(
                f"{first.name} was taken at {first.acquired}, after {second.name} at {second.acquired}, by their "
                "metadata: if that is right, exchange them",
                DataWarning,
                messages,
            )
        overlap = _overlap(first, second, grid)
        unaligned = cls(first, second, grid, _NOT_MEASURED, messages)
        shift = measure_shift(unaligned._read_first, unaligned._read_second, overlap, grid)
        if align == "off":
            shift = replace(shift, applied=False, reason="alignment is off")
        elif not shift.patches:
            _warn(f"the shift between the dates was not measured: {shift.reason}", AlignmentWarning, messages)
        elif not shift.applied and math.hypot(shift.dx_px, shift.dy_px) >= 1.0:
            _warn(f"the shift between the dates was not removed: {shift.reason}", AlignmentWarning, messages)
        pair = replace(unaligned, shift=shift)
        if align == "local":
            local = measure_local_shift(pair._read_first, pair._read_second, overlap, pair._translation)
            pair = replace(pair, local=local)
        return pair

    @property
    def sources(self) -> Mapping[str, RasterSource]:
        """Both dates by what they are."""
        return {"pre": self.pre, "post": self.post}

    def read(self, window: Window) -> tuple[Patch, Patch]:
        """Both dates in a window of `grid`, which may reach beyond it (not valid there)."""
        first = self._read_first(window)
        if self.local is None or not self.local.applied:
            return first, self._read_second(window, *self._translation)
        return first, replace(self.local.read(self._read_second, window, *self._translation), grid=first.grid)

    @property
    def _translation(self) -> tuple[float, float]:
        return (self.shift.dx_px, self.shift.dy_px) if self.shift.applied else (0.0, 0.0)

    def close(self) -> None:
        """Close the files of both dates."""
        self.pre.close()
        self.post.close()

    def _read_first(self, window: Window) -> Patch:
        return self.pre.read(self.grid.crop(window))

    def _read_second(self, window: Window, dx_px: float, dy_px: float) -> Patch:
        grid = self.grid.crop(window)
        return replace(self.post.read(grid.shift(dx_px, dy_px)), grid=grid)


_NOT_MEASURED = Shift(0.0, 0.0, None, None, None, 0, None, None, False, "not measured")


def _warn(message: str, category: type[AftermapWarning], messages: list[str]) -> None:
    messages.append(message)
    warnings.warn(message, category, stacklevel=3)


def _plain_grid(
    pre: RasterSource, post: RasterSource, crs: str | CRS | None, resolution: float | None
) -> Grid:
    if crs is not None or resolution is not None:
        raise GeoreferenceError(
            f"{pre.name} and {post.name} have no georeference, so --crs and --resolution cannot be used"
        )
    if pre.grid.shape != post.grid.shape:
        raise GeoreferenceError(
            f"{pre.name} has {pre.grid.width} x {pre.grid.height} pixels and {post.name} {post.grid.width} x "
            f"{post.grid.height}: without georeference both dates must have the same size"
        )
    return pre.grid


def _overlap(pre: RasterSource, post: RasterSource, grid: Grid) -> Window:
    """The part of `grid` around what both dates cover."""
    outlines = [pixel_outline(source.grid, grid) for source in (pre, post)]
    common = None
    if outlines[0] is not None and outlines[1] is not None:
        common = outlines[0].intersection(outlines[1])
    if common is None or common.area < 1:
        places = " and ".join(f"{source.name} covers {_lonlat_bounds(source.grid)}" for source in (pre, post))
        raise GeoreferenceError(f"the dates do not overlap: {places}: check that they show the same place")
    left, top, right, bottom = common.bounds
    col, row = max(0, math.floor(left)), max(0, math.floor(top))
    return Window(
        row, col, min(grid.height, math.ceil(bottom)) - row, min(grid.width, math.ceil(right)) - col
    )


def _lonlat_bounds(grid: Grid) -> str:
    if not grid.is_georeferenced:
        return f"{grid.width} x {grid.height} px"
    degrees = Grid(CRS.from_epsg(4326), Affine.identity(), 1, 1)
    outline = pixel_outline(grid, degrees)
    if outline is None:
        return "no place on the globe"
    left, bottom, right, top = outline.bounds
    return f"lon {left:.4f} to {right:.4f}, lat {bottom:.4f} to {top:.4f}"
