"""What is ground and what is not: the one rule for maps, data sets, training and self-training.

A pixel is ground unless something says that nothing was seen there: an opacity band (ground from more than half of
its full value on), a mask beside the bands, a nodata value that all bands hold, a value that is not finite, or a
block that a sparse TIFF leaves out. Where several are given, each can take ground away. Mosaics often end in black,
white or a number that no sensor measures and say nothing about it; `find_rest` guesses that, and whoever uses the guess
tells the user.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np

from aftermap.errors import RasterError
from aftermap.geo.grid import Window

Nodata = float | Literal["declared", "none"]
"""What a user says of missing ground: its value, `declared` for what the files say and no guess, or `none` where every
pixel is ground."""

REST_SHARE = 0.01
REST_PX = (1024, 1 << 16)
"""A rest covers a hundredth of its image, but at least and at most these many pixels are asked for."""

_CELL_PX = 8
_MOST_CELLS = 1 << 21
_STRIP_PX = 1 << 20
_EDGE_PROBES = 48
_NO_HEIGHT = -9999.0  # what tools write where a signed or decimal value is missing

ReadPixels = Callable[[Window], tuple[np.ndarray, np.ndarray]]
"""Reads (C, H, W) pixels and (H, W) declared validity of a window."""


def parse_nodata(text: str) -> Nodata:
    """What `--nodata` says.

    Raises:
        RasterError: neither a number nor one of the words.
    """
    match text.strip().lower():
        case "none":
            return "none"
        case "declared":
            return "declared"
    try:
        return float(text)
    except ValueError:
        raise RasterError(
            f"--nodata {text} is no value: pass the value of pixels without ground, such as 0, declared to believe "
            "the files and guess nothing, or none where every pixel is ground"
        ) from None


@dataclass(frozen=True)
class Rest:
    """A rest of a mosaic in one colour that nothing declares.

    Attributes:
        value: of all bands.
        pixels: how many there are.
        cell_px: side of the cells.
        cells: bool (rows, columns), the cells in and around the rest; pixels of that value in them are not ground.
    """

    value: float
    pixels: int
    cell_px: int
    cells: np.ndarray = field(repr=False, compare=False)

    def named(self, dtype: str) -> str:
        """The colour of the rest in pixels of a type."""
        if self.value == 0:
            return "black"
        return "white" if np.dtype(dtype).kind == "u" else f"{self.value:g}"

    def covers(self, array: np.ndarray, window: Window) -> np.ndarray:
        """Pixels (H, W) of a window (C, H, W) that belong to the rest."""
        side = self.cell_px
        rows = np.arange(window.row, window.row + window.height) // side
        cols = np.arange(window.col, window.col + window.width) // side
        found: np.ndarray = self.cells[np.ix_(rows, cols)]
        return found & (array == self.value).all(axis=0) if found.any() else found


def check_nodata(value: float | None, dtype: str, name: object) -> None:
    """Refuse a value that the user gave and that no pixel of a type can have.

    Raises:
        RasterError: says which values it can have.
    """
    kind = np.dtype(dtype)
    if value is None or kind.kind == "f" or _in_type(value, dtype) is not None:
        return
    limits = np.iinfo(kind)
    raise RasterError(
        f"--nodata {value:g}: {name} holds {dtype} values, expected a whole number from {limits.min} to {limits.max}, "
        "declared or none"
    )


def band_nodata(declared: Sequence[float | None], dtype: str) -> tuple[float | None, ...] | None:
    """Nodata value of every band, None for bands whose values do not count; None where no band has one.

    A value that only some bands declare holds for the others too, unless the declared ones differ.
    """
    usable = [_in_type(value, dtype) for value in declared]
    known = {value for value in usable if value is not None}
    if not known:
        return None
    return (known.pop(),) * len(usable) if len(known) == 1 else tuple(usable)


def holds_nodata(array: np.ndarray, nodata: Sequence[float | None]) -> np.ndarray:
    """Pixels (H, W) of (C, H, W) where every band that has a nodata value holds it."""
    empty = np.ones(array.shape[1:], bool)
    for band, value in zip(array, nodata, strict=True):
        if value is not None:
            empty &= band == band.dtype.type(value)
    return empty


def opaque_value(samples: np.ndarray) -> float | None:
    """Full value of an opacity band, or None where the band is data.

    GDAL's writers call the fourth band of any 8-bit image alpha unless told otherwise, so near infrared often carries
    that name. Of the pixels that are not 0, at least half of an opacity band are at its full value, whatever that is.
    """
    values = (
        samples[np.isfinite(samples) & (samples > 0)] if samples.dtype.kind == "f" else samples[samples > 0]
    )
    if not values.size:
        return 0.0
    full = values.max()
    return float(full) if np.mean(values == full) >= 0.5 else None


def is_opaque(alpha: np.ndarray, full: float) -> np.ndarray:
    """Where an opacity band lets ground be seen: above half of its full value."""
    seen: np.ndarray = alpha.astype(np.float64) * 2 > full if full > 0 else np.zeros(alpha.shape, bool)
    return seen


def find_rest(read: ReadPixels, height: int, width: int, dtype: str) -> tuple[Rest, ...]:
    """Look for rests that are black (0), white (the largest value of an unsigned type), or for other types -9999 or the
    lowest value, exactly and in all bands.

    They are found by cells that hold nothing else, hang together, reach the image's edge and cover enough of it. Where
    samples along the edge show none, the image is not read further.
    """
    values = _rest_values(np.dtype(dtype))
    if min(height, width) < _CELL_PX:
        return ()
    suspects = _at_edge(read, height, width, values)
    if not suspects:
        return ()
    cell = _CELL_PX
    while (height / cell) * (width / cell) > _MOST_CELLS:
        cell *= 2
    shape = -(-height // cell), -(-width // cell)
    blank = {value: np.zeros(shape, bool) for value in suspects}
    number = {value: np.zeros(shape, np.int32) for value in suspects}
    for window in strips(height, width, cell):
        array, valid = read(window)
        rows = slice(window.row // cell, -(-(window.row + window.height) // cell))
        for value in suspects:
            same = (array == value).all(axis=0)
            blank[value][rows] = _cells(same | ~valid, cell, pad=True).all(axis=(1, 3))
            number[value][rows] = _cells(same & valid, cell, pad=False).sum(axis=(1, 3))
    least = min(max(REST_PX[0], REST_SHARE * height * width), REST_PX[1])
    found = (_rest(value, blank[value], number[value], cell, least) for value in suspects)
    return tuple(rest for rest in found if rest is not None)


def _rest_values(kind: np.dtype[Any]) -> list[float]:
    if kind.kind == "u":
        return [0.0, float(np.iinfo(kind).max)]
    lowest = np.finfo(kind).min if kind.kind == "f" else np.iinfo(kind).min
    return [0.0, float(lowest), *([_NO_HEIGHT] if lowest < _NO_HEIGHT else [])]


def strips(height: int, width: int, multiple: int) -> Iterator[Window]:
    """Windows over a whole image, from the top down, of a few million pixels each."""
    rows = max(1, _STRIP_PX // max(1, width) // multiple) * multiple
    for row in range(0, height, rows):
        yield Window(row, 0, min(rows, height - row), width)


def _rest(value: float, blank: np.ndarray, number: np.ndarray, cell: int, least: float) -> Rest | None:
    _, labels = cv2.connectedComponents(blank.astype(np.uint8), connectivity=4)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    sizes = np.bincount(labels.ravel(), weights=number.ravel())
    large = [label for label in edge if label and sizes[label] >= least]
    if not large:
        return None
    around = np.isin(labels, large).astype(np.uint8)
    cells = cv2.dilate(around, np.ones((3, 3), np.uint8)) != 0
    return Rest(value, int(number[cells].sum()), cell, cells)


def _cells(mask: np.ndarray, cell: int, *, pad: bool) -> np.ndarray:
    """(rows, cell, columns, cell) of a mask (H, W); cells that reach beyond it are filled with `pad`."""
    height, width = mask.shape
    rows, cols = -(-height // cell), -(-width // cell)
    if (rows * cell, cols * cell) != mask.shape:
        mask = np.pad(mask, ((0, rows * cell - height), (0, cols * cell - width)), constant_values=pad)
    return mask.reshape(rows, cell, cols, cell)


def _at_edge(read: ReadPixels, height: int, width: int, values: Sequence[float]) -> list[float]:
    """The values that fill a cell somewhere along the edge, as far as samples show; rows are asked for in order."""
    side = _CELL_PX
    windows = [Window(0, 0, side, width)]
    if height > 2 * side:
        for row in np.unique(
            np.linspace(side, height - 2 * side, _EDGE_PROBES).astype(int) // side * side
        ).tolist():
            windows += [Window(row, 0, side, side), Window(row, width - side, side, side)]
    windows.append(Window(height - side, 0, side, width))
    found: list[float] = []
    for window in windows:
        array, valid = read(window)
        for value in values:
            same = (array == value).all(axis=0)
            if value not in found and _cells((same & valid), side, pad=False).all(axis=(1, 3)).any():
                found.append(value)
        if len(found) == len(values):
            break
    return found


def _in_type(value: float | None, dtype: str) -> float | None:
    """The value as pixels of a type hold it, or None where they cannot."""
    if value is None or np.isnan(value):
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return float(kind.type(value))
    limits = np.iinfo(kind)
    return float(value) if float(value).is_integer() and limits.min <= value <= limits.max else None
