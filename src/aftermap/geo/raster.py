"""Images of one date: one file, several, or a folder of tiles, read window by window onto any grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from affine import Affine

from aftermap.errors import GeoreferenceError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.ground import Nodata
from aftermap.geo.lattice import (
    lattice_offset,
    lattice_shift,
    pixels_per_pixel,
    snap,
    source_window,
)
from aftermap.geo.opening.archives import find_images
from aftermap.geo.opening.files import OpenFiles, RasterFile
from aftermap.geo.resample import MOVABLE, Interpolation, moved, reduce_blocks, warp
from aftermap.geo.rests import Rest
from aftermap.geo.tiles import Layer, agree_on_alpha, check_alike, layers_of, union_of
from aftermap.wording import counted

RGB = ("red", "green", "blue")
_STRIP_BYTES = 16 << 20


@dataclass(frozen=True)
class Patch:
    """Pixels that know where they lie.

    Attributes:
        array: (C, H, W) in the type of the source; 0 where not valid.
        valid: (H, W) True where every band holds data.
        grid: where the pixels lie.
    """

    array: np.ndarray
    valid: np.ndarray
    grid: Grid


@dataclass(frozen=True)
class RasterSource:
    """A lazy mosaic of the tiles of one date.

    Attributes:
        name: file or folder name, for messages.
        files: the tiles, sorted; where they overlap, the first with data wins.
        grid: reference system and resolution of the first tile, extent of all.
        bands: 1-based indices of the bands that `read` returns.
        band_count: bands that the files hold, alpha not counted.
        dtype: numpy name of the pixels' type.
        grids: of each of the files.
    """

    name: str
    files: tuple[Path, ...]
    grid: Grid
    bands: tuple[int, ...]
    band_count: int
    dtype: str
    has_palette: bool
    _layers: tuple[Layer, ...] = field(repr=False)
    _open: OpenFiles = field(default_factory=OpenFiles, repr=False, compare=False)
    grids: tuple[Grid, ...] = field(default=(), repr=False)

    @classmethod
    def open(
        cls,
        path_or_paths: str | Path | Sequence[str | Path],
        bands: Sequence[int] | None = None,
        *,
        grid: Grid | None = None,
        nodata: Nodata | None = None,
    ) -> "RasterSource":
        """Check the headers of all tiles; no pixels are read.

        Args:
            path_or_paths: a file, a folder of tiles, a zip archive of them, or several of these.
            bands: 1-based bands to read, in this order; all data bands by default.
            grid: georeference of a single image that carries none (xBD's PNGs).
            nodata: value of pixels without ground, in place of what the files declare and of guesses; see
                `ground.Nodata`.

        Raises:
            RasterError: a file is no usable image, or the tiles differ in bands or type.
            GeoreferenceError: the tiles cannot be placed on one grid.
        """
        paths, name = find_images(path_or_paths)
        if grid is not None and len(paths) > 1:
            raise GeoreferenceError(
                f"{name} holds {counted(len(paths), 'image')}, a georeference can be given for one only"
            )
        files = agree_on_alpha([RasterFile.inspect(path, grid=grid, nodata=nodata) for path in paths])
        first = files[0]
        for other in files[1:]:
            check_alike(first, other)
        chosen = tuple(bands) if bands is not None else first.bands
        available = first.count + all(file.alpha is not None for file in files)
        if not chosen or min(chosen) < 1 or max(chosen) > available:
            raise RasterError(
                f"{name} has {counted(available, 'band')}, --bands asks for "
                f"{','.join(map(str, chosen)) or 'none'}: pass numbers from 1 to {available}"
            )
        return cls(
            name=name,
            files=tuple(paths),
            grid=union_of(files, name),
            bands=chosen,
            band_count=first.count,
            dtype=first.dtype,
            has_palette=first.has_palette,
            _layers=layers_of(files),
            grids=tuple(file.grid for file in files),
        )

    @property
    def count(self) -> int:
        """Number of bands that `read` returns."""
        return len(self.bands)

    @property
    def is_georeferenced(self) -> bool:
        """False for a plain image in pixel coordinates."""
        return self.grid.is_georeferenced

    def read(self, grid: Grid, resampling: Interpolation = "bilinear") -> Patch:
        """Read the pixels of a target grid, which may lie anywhere and reach beyond the images.

        Pixels that already lie on the grid are copied; all others are resampled, each tile lattice once. Memory
        grows with the target grid only. A pixel comes out the same in every window that holds it, up to GDAL's
        tolerance of 1/8 pixel for warps between reference systems.

        Args:
            grid: reference system, transform and size to read onto.
            resampling: `nearest` for class indices, else `bilinear` (area-averaged where the grid is coarser).

        Raises:
            RasterError: the pixels cannot be decoded.
            GeoreferenceError: only one of image and grid is georeferenced.
        """
        if grid.is_georeferenced != self.is_georeferenced:
            kinds = {True: "georeferenced", False: "in plain pixel coordinates"}
            raise GeoreferenceError(
                f"{self.name} is {kinds[self.is_georeferenced]}, the grid to read it onto is "
                f"{kinds[grid.is_georeferenced]}: give both a reference system, or neither"
            )
        array, valid = self._resampled(self._layers[0], grid, resampling)
        for layer in self._layers[1:]:
            if valid.all():
                break
            pixels, mask = self._resampled(layer, grid, resampling)
            fresh = mask & ~valid
            np.copyto(array, pixels, where=fresh)
            valid |= fresh
        return Patch(array, valid, grid)

    def guessed(self) -> tuple[float, tuple[Rest, ...]]:
        """Share of the pixels that are rests of one colour which nothing declares, and one rest of each colour.

        Raises:
            RasterError: the pixels cannot be decoded, or no pixel of any tile is ground.
        """
        found = [(file, self._open.rests(file)) for file in self._tiles]
        each = {rest.colour: rest for _, rests in found for rest in rests}
        if not any(self._open.has_ground(file) for file, _ in found):
            what = f"is {' or '.join(sorted(each)) or 'transparent, masked or nodata'} everywhere"
            raise RasterError(
                f"{self.name} shows no ground: it {what}; pass --nodata none if that is what was seen"
            )
        total = sum(file.grid.width * file.grid.height for file, _ in found)
        pixels = sum(rest.pixels for _, rests in found for rest in rests)
        return pixels / total, tuple(each[colour] for colour in sorted(each))

    @property
    def declares_nodata(self) -> bool:
        """Whether a tile says which value means that nothing was seen."""
        return any(file.nodata is not None for file in self._tiles)

    def guess_warning(self) -> str | None:
        """What to tell of ground that was guessed to be missing, or None where nothing was guessed.

        Raises:
            RasterError: as for `guessed`.
        """
        share, rests = self.guessed()
        if not rests:
            return None
        places = " and ".join(sorted({rest.place for rest in rests}, reverse=True))
        said = min((rest.nodata for rest in rests if rest.nodata is not None), key=abs, default=None)
        right = "" if said is None else f"--nodata {said:.10g} if that is right, "
        return (
            f"{share:.1%} of {self.name} is {' or '.join(rest.colour for rest in rests)} {places} and taken for missing "
            f"ground, though the file does not say so: pass {right}--nodata none if it is ground"
        )

    @property
    def acquired(self) -> datetime | None:
        """When the first of its tiles was taken, by their metadata; None where not all of them tell."""
        told = [file.acquired for file in self._tiles]
        return min(date for date in told if date is not None) if all(told) else None

    @property
    def colours(self) -> tuple[int, int, int] | None:
        """1-based bands called red, green and blue in all tiles; None where they are not named, or not alike."""
        named = {file.colours for file in self._tiles}
        return named.pop() if len(named) == 1 else None

    @property
    def bits(self) -> int | None:
        """Of a value, where these are fewer than its type has in any tile."""
        return min((file.bits for file in self._tiles if file.bits is not None), default=None)

    @property
    def turned(self) -> tuple[Path, ...]:
        """Tiles that EXIF wants to be shown in another orientation than the stored one, which is read."""
        return tuple(file.path for file in self._tiles if file.orientation != 1)

    @property
    def _tiles(self) -> list[RasterFile]:
        return [file for layer in self._layers for file in layer.files]

    def close(self) -> None:
        """Close the files that are held open; reading opens them again."""
        self._open.close()

    def _resampled(
        self, layer: Layer, grid: Grid, resampling: Interpolation
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (C, H, W) of a layer on a grid, 0 where they are not valid, and where they are (H, W)."""
        offset = lattice_offset(grid, layer.grid)
        if offset is not None:
            row, col, down, right = offset
            native = Window(
                row if down > 0 else row - grid.height,
                col if right > 0 else col - grid.width,
                grid.height,
                grid.width,
            )
            source, mask = self._native(layer, native)
            return source[:, ::down, ::right], mask[::down, ::right]
        beside = lattice_shift(grid, layer.grid)
        if beside is not None and resampling == "bilinear" and self.dtype in MOVABLE:
            row, col = map(math.floor, beside)
            around = Window(row, col, grid.height + 1, grid.width + 1)
            return moved(*self._native(layer, around), beside[0] - row, beside[1] - col)
        nothing = np.zeros((self.count, *grid.shape), self.dtype), np.zeros(grid.shape, bool)
        region = source_window(grid, layer.grid)
        if region is None:
            return nothing
        scale = pixels_per_pixel(grid, layer.grid)
        step = max(1, math.floor(min(scale)))
        region = snap(region, step)
        source, mask = self._mosaic(layer, region, step=step, mean=resampling == "bilinear")
        if not mask.any():
            return nothing
        lattice = layer.grid.crop(region).transform * Affine.scale(step)
        source_grid = Grid(layer.grid.crs, lattice, mask.shape[1], mask.shape[0])
        return warp(source, mask, source_grid, grid, resampling, (scale[0] / step, scale[1] / step))

    def _mosaic(
        self, layer: Layer, window: Window, *, step: int, mean: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of a window on the layer's own lattice, reduced `step` times; `window` is a multiple of `step`."""
        if step == 1:
            return self._native(layer, window)
        height, width = window.height // step, window.width // step
        array = np.zeros((self.count, height, width), self.dtype)
        valid = np.zeros((height, width), bool)
        row_bytes = max(1, self.count * window.width * array.itemsize) * step
        strip = max(1, _STRIP_BYTES // row_bytes)
        for start in range(0, height, strip):
            rows = min(strip, height - start)
            part = Window(window.row + start * step, window.col, rows * step, window.width)
            pixels, mask = reduce_blocks(*self._native(layer, part), step, mean=mean)
            array[:, start : start + rows] = pixels
            valid[start : start + rows] = mask
        return array, valid

    def _native(self, layer: Layer, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of a window on the layer's own lattice, 0 where they are not valid."""
        inside = _common(window, layer.places[0])
        if inside == window and len(layer.files) == 1:
            pixels, mask = self._open.read(layer.files[0], _relative(window, layer.places[0]), self.bands)
            if not mask.all():
                pixels[:, ~mask] = 0
            return pixels, mask
        array = np.zeros((self.count, window.height, window.width), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        for file, place in zip(layer.files, layer.places, strict=True):
            inside = _common(window, place)
            if inside is None:
                continue
            pixels, mask = self._open.read(file, _relative(inside, place), self.bands)
            rows, cols = _relative(inside, window).slices
            fresh = mask & ~valid[rows, cols]
            np.copyto(array[:, rows, cols], pixels, where=fresh)
            valid[rows, cols] |= fresh
        return array, valid


def _common(window: Window, other: Window) -> Window | None:
    """What two windows share, or None."""
    top, left = max(window.row, other.row), max(window.col, other.col)
    bottom = min(window.row + window.height, other.row + other.height)
    right = min(window.col + window.width, other.col + other.width)
    return Window(top, left, bottom - top, right - left) if top < bottom and left < right else None


def _relative(window: Window, base: Window) -> Window:
    """A window counted from the upper left of another."""
    return Window(window.row - base.row, window.col - base.col, window.height, window.width)


def require_bands(source: RasterSource, bands: Sequence[str] | None = None, expected: int = 3) -> None:
    """Refuse a source whose bands do not fit the model.

    Args:
        source: the images of one date.
        bands: names of the model's bands, for the message.
        expected: number of bands the model takes.

    Raises:
        RasterError: with what to do about it.
    """
    if source.count == expected:
        return
    names = bands if bands is not None else RGB
    named = f" ({', '.join(names)})" if len(names) == expected else ""
    found = f"{source.name} has {counted(source.count, 'band')}"
    if source.count != source.band_count:
        found = f"--bands picks {source.count} of the {counted(source.band_count, 'band')} of {source.name}"
        advice = f"pass {expected} numbers, in the model's order"
    elif source.count > expected:
        colours = source.colours if tuple(names) == RGB else None
        advice = f"pass --bands {','.join(map(str, colours or source.bands[:expected]))}"
    elif source.has_palette:
        advice = "it holds indices into a colour table: expand it with 'gdal_translate -expand rgb'"
    elif source.count == 1:
        advice = f"it is grey: pass --bands {','.join('1' * expected)} to use its band {expected} times"
    else:
        advice = f"pass {expected} of its bands with --bands, repeating one if need be"
    raise RasterError(f"{found}, the model expects {expected}{named}: {advice}")
