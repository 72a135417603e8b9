"""Rests of mosaics that nothing declares: black, white or a number that no sensor measures, told from dark and bright
ground.

Cells of 8 x 8 pixels that hold nothing but such a colour, hang together and cover enough of an image are a candidate.
Water, shadow, snow and roofs look alike where a stretch has cut them off, but they pass into what lies around them by
degrees, vary within themselves and seldom fill a corner; the end of a mosaic is abrupt, of one value, and takes a corner
of the image with it, and what was cut out of its middle is a rectangle. Thresholds come from 872 real images, about 90 of
them with a black end: of what lies 8 to 32 pixels from one, at most 1 % is dark without being black, and around water
that a stretch had made black, 22 %.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from aftermap.geo.grid import Window

REST_SHARE = 0.01
REST_PX = (1024, 1 << 16)
"""A rest covers a hundredth of its image, but at least and at most these many pixels are asked for."""

ABRUPT = 0.1
"""At most this share of what lies 8 to 32 pixels around a rest, and is none of it, resembles it."""

ALIKE, UNIFORM = 0.65, 0.98
"""Shares of a rest that its commonest value has at least, and where the value alone is enough."""

RECTANGULAR = 0.86
"""What lies within an image fills this share of the smallest rectangle around it."""

_CELL_PX = 8
_MOST_CELLS = 1 << 21
_STRIP_PX = 1 << 20
_NEAR = 3  # whole numbers beside black, and beside white in 8 bits: what compression and rounding leave
_RINGING = 16 / 255  # of the brightest value: what compression leaves at an edge
_RINGS = 0.15  # share of what lies along a rest and resembles it, from which it was compressed
_NO_MEASURE = (-9999.0, -99999.0, -32768.0)  # what tools write where a signed or decimal value is missing
_SHARP = 0.02
_FULL_BITS = range(8, 17)
_BRIGHTEST = 1e6
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))

ReadPixels = Callable[[Window], tuple[np.ndarray, np.ndarray]]
"""Reads (C, H, W) pixels and (H, W) declared validity of a window."""


@dataclass(frozen=True)
class Rest:
    """A rest of a mosaic in one colour that nothing declares.

    Attributes:
        value: of all bands.
        tolerance: how far from it pixels of the rest may be; 0 where they all have it.
        colour: what it is called.
        pixels: how many there are.
        at_edge: it reaches the image's edge.
        cell_px: side of the cells.
        cells: bool (rows, columns), the cells in and around the rest; pixels of that value in them are not ground.
    """

    value: float
    tolerance: float
    colour: str
    pixels: int
    at_edge: bool
    cell_px: int
    cells: np.ndarray = field(repr=False, compare=False)

    @property
    def place(self) -> str:
        """Where it lies, in words."""
        return "up to its edge" if self.at_edge else "within it"

    @property
    def nodata(self) -> float | None:
        """The value that says the same where it is declared; None where no single one does."""
        return self.value if self.tolerance == 0 else None

    def covers(self, array: np.ndarray, window: Window) -> np.ndarray:
        """Pixels (H, W) of a window (C, H, W) that belong to the rest."""
        found = np.zeros((window.height, window.width), bool)
        # only what lies around its cells is compared
        rows = self._pixels(0, window.row, window.height)
        cols = self._pixels(1, window.col, window.width)
        part: np.ndarray = self.cells[rows // self.cell_px][:, cols // self.cell_px]
        if part.any():
            low, high = self.value - self.tolerance, self.value + self.tolerance
            top, left = int(rows[0]) - window.row, int(cols[0]) - window.col
            place = (slice(top, top + len(rows)), slice(left, left + len(cols)))
            for band in array[(slice(None), *place)]:
                part &= (band >= low) & (band <= high)
            found[place] = part
        return found

    def _pixels(self, axis: int, start: int, length: int) -> np.ndarray:
        """Rows (0) or columns (1) of pixels from the first to the last cell of the rest that a window shows."""
        first, last = np.flatnonzero(self.cells.any(axis=1 - axis))[[0, -1]].tolist()
        return np.arange(max(start, first * self.cell_px), min(start + length, (last + 1) * self.cell_px))


@dataclass(frozen=True)
class _Colour:
    """A value that rests may have, with how far from it they may be."""

    value: float
    near: int

    @property
    def is_measure(self) -> bool:
        return self.value >= 0

    def distance(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """From it to the furthest band, of the lowest and highest values of the bands."""
        if low.dtype == np.uint8 and self.value in (0, 255):
            return high if self.value == 0 else np.uint8(255) - low
        if low.dtype == np.uint8:
            low, high = low.astype(np.float32), high.astype(np.float32)
        with np.errstate(over="ignore"):
            furthest: np.ndarray = np.maximum(high - self.value, self.value - low)
        return furthest

    def named(self, value: float, *, nearly: bool, brightest: float) -> str:
        """What a rest near it is called."""
        if self.value == 0:
            return "nearly black" if nearly or value else "black"
        bright = self.value >= brightest
        return f"{value:g}" if not bright else "nearly white" if nearly or value != self.value else "white"


class _Tally:
    """What the cells of an image hold of a colour.

    Attributes:
        blank: bool (rows, columns): nothing but it, or no ground by declaration.
        near: int (near + 1, rows, columns): pixels by their distance.
        alike: int (rows, columns): pixels that resemble it.
        valid: int (rows, columns): declared ground.
    """

    def __init__(self, colour: _Colour, shape: tuple[int, int], cell: int, brightest: float) -> None:
        self.colour, self._cell, self._brightest = colour, cell, brightest
        self.ringing = max(_RINGING * brightest, colour.near)
        self.blank = np.zeros(shape, bool)
        self.near = np.zeros((colour.near + 1, *shape), np.int32)
        self.alike = np.zeros(shape, np.int32)
        self.valid = np.zeros(shape, np.int32)

    def add(self, rows: slice, low: np.ndarray, high: np.ndarray, valid: np.ndarray) -> None:
        """Count the cells of a strip; only those are looked into that hold a pixel which resembles the colour."""
        distance, cell = self.colour.distance(low, high), self._cell
        height, width = valid.shape
        if valid.all():
            down, across = (np.minimum(cell, n - np.arange(0, n, cell)) for n in (height, width))
            seen = down[:, None] * across
        else:
            seen = _cells(valid, cell, pad=False).sum(axis=1, dtype=np.int32).sum(axis=-1)
        self.valid[rows] = seen
        blank, near, alike = seen == 0, self.near[:, rows], self.alike[rows]
        row, col = np.nonzero(_least(distance, cell) <= self.ringing)
        if len(row):
            inside = _cells(distance, cell, pad=0)[row, :, col]
            ground = _cells(valid, cell, pad=False)[row, :, col]
            blank[row, col] |= ((inside <= self.colour.near) | ~ground).all(axis=(1, 2))
            alike[row, col] = np.count_nonzero((inside <= self.ringing) & ground, axis=(1, 2))
            for step, counts in enumerate(near):
                same = (inside <= step) & (inside > step - 1) & ground
                counts[row, col] = np.count_nonzero(same, axis=(1, 2))
        self.blank[rows] = blank

    def rest(self, least: float) -> Rest | None:
        """The parts that are no ground, as one."""
        count, labels = cv2.connectedComponents(self.blank.astype(np.uint8), connectivity=4)
        sizes = np.bincount(labels.ravel(), weights=self.near.sum(axis=0).ravel(), minlength=count)
        edges = labels[0], labels[-1], labels[:, 0], labels[:, -1]
        edge = {label for side in edges for label in np.unique(side).tolist()}
        corners = {int(labels[row, col]) for row in (0, -1) for col in (0, -1)}
        core = np.zeros(labels.shape, bool)
        at_edge = False
        for label in np.flatnonzero(sizes >= least).tolist():
            if label == 0:
                continue
            part = labels == label
            if self._is_missing(part, at_edge=label in edge, at_corner=label in corners):
                core |= part
                at_edge |= label in edge
        if not core.any():
            return None
        return self._of(core, at_edge=at_edge)

    def _of(self, core: np.ndarray, *, at_edge: bool) -> Rest:
        """The rest that fills these cells, with the pixels beside them that belong to it."""
        near = self.near[:, core].sum(axis=1)
        step = int(near.argmax())
        value = self.colour.value + (-step if self.colour.value > 0 else step)
        (beside, ringing), (around, like) = self._around(core, 0, 1), self._around(core, 1, 4)
        if self.colour.near and ringing > _RINGS * beside and like <= ABRUPT * around:
            cells, tolerance, pixels = _wider(core, 2), self.ringing, self.alike
        elif near[step] == near.sum():
            cells, tolerance, pixels = _wider(core, 1), 0.0, self.near[step]
        else:
            cells, tolerance, pixels = _wider(core, 1), float(self.colour.near), self.near.sum(axis=0)
        return Rest(
            value=self.colour.value if tolerance else value,
            tolerance=tolerance,
            colour=self.colour.named(value, nearly=tolerance > 0, brightest=self._brightest),
            pixels=int(pixels[cells].sum()),
            at_edge=at_edge,
            cell_px=self._cell,
            cells=cells,
        )

    def _is_missing(self, part: np.ndarray, *, at_edge: bool, at_corner: bool) -> bool:
        """Whether cells of this colour that hang together are missing ground."""
        if not self.colour.is_measure:
            return True
        near = self.near[:, part].sum(axis=1)
        share = near.max() / max(1, near.sum())
        if share < ALIKE:
            return False
        around, like = self._around(part, 1, 4)
        abrupt = like <= ABRUPT * around
        if self.colour.value > 0:  # white: roofs end abruptly too, but are less even, and fill no corner
            return at_corner and share >= UNIFORM and abrupt
        is_rectangle = self._fill(part) >= RECTANGULAR
        if at_corner:
            return (abrupt and around > 0) or (share >= UNIFORM and (is_rectangle or not around))
        beside, passing = self._around(part, 0, 1)
        return abrupt and (is_rectangle or (at_edge and share == 1 and passing <= _SHARP * beside))

    def _around(self, part: np.ndarray, start: int, stop: int) -> tuple[int, int]:
        """Pixels that have another colour in the cells that lie so far away, and how many of them resemble it."""
        ring = _wider(part, stop) & ~_wider(part, start)
        same = int(self.near[:, ring].sum())
        return int(self.valid[ring].sum()) - same, int(self.alike[ring].sum()) - same

    def _fill(self, part: np.ndarray) -> float:
        """Share of the smallest rectangle around some cells, turned or not, that pixels of the colour fill."""
        side = self._cell
        points = np.argwhere(part)[:, ::-1].astype(np.float32) * side
        corners = np.concatenate([points + np.array(at, np.float32) * side for at in _CORNERS])
        (_, (width, height), _) = cv2.minAreaRect(corners)
        beyond = 0.75 * side  # cells that it cuts lie outside of it
        pixels = float(self.near[:, _wider(part, 1)].sum())
        return float(pixels / ((width + beyond) * (height + beyond)))


def find_rests(read: ReadPixels, height: int, width: int, dtype: str) -> tuple[Rest, ...]:
    """Look for rests of the colours that nothing declares, in all bands.

    Where rows that are read here and there show none, the image is not read further.
    """
    if min(height, width) < _CELL_PX:
        return ()
    least = min(max(REST_PX[0], REST_SHARE * height * width), REST_PX[1])
    suspects, brightest = _suspects(read, height, width, np.dtype(dtype), least)
    if not suspects:
        return ()
    cell = _CELL_PX
    while (height / cell) * (width / cell) > _MOST_CELLS:
        cell *= 2
    shape = -(-height // cell), -(-width // cell)
    tallies = [_Tally(colour, shape, cell, brightest) for colour in suspects]
    for window in strips(height, width, cell):
        low, high, valid = _extremes(read, window)
        rows = slice(window.row // cell, -(-(window.row + window.height) // cell))
        for tally in tallies:
            tally.add(rows, low, high, valid)
    return tuple(rest for tally in tallies if (rest := tally.rest(least)) is not None)


def strips(height: int, width: int, multiple: int) -> Iterator[Window]:
    """Windows over a whole image, from the top down, of a few million pixels each."""
    rows = max(1, _STRIP_PX // max(1, width) // multiple) * multiple
    for row in range(0, height, rows):
        yield Window(row, 0, min(rows, height - row), width)


def _colours(kind: np.dtype[Any]) -> list[_Colour]:
    if kind.kind == "f":
        most = float(np.finfo(kind).max)
        ends = (0.0, 1.0, *(2.0**bits - 1 for bits in _FULL_BITS), most, -most)
        return [_Colour(value, 0) for value in (*ends, *_NO_MEASURE)]
    limits = np.iinfo(kind)
    full = {float(limits.max), *(2.0**bits - 1 for bits in _FULL_BITS if 2**bits - 1 <= limits.max)}
    gone = {float(limits.min), *_NO_MEASURE} if limits.min < 0 else set()
    white = _NEAR if limits.max == 255 else 0
    return [
        _Colour(0.0, _NEAR),
        *(_Colour(value, white) for value in sorted(full)),
        *(_Colour(value, 0) for value in sorted(gone) if value >= limits.min),
    ]


def _suspects(
    read: ReadPixels, height: int, width: int, kind: np.dtype[Any], least: float
) -> tuple[list[_Colour], float]:
    """The colours that fill a cell somewhere, as far as rows show that any rest has to reach; the brightest value."""
    side = _CELL_PX
    apart = max(side, int(least**0.5 / 2) // side * side)
    colours = _colours(kind)
    brightest = 1.0 if kind.kind == "f" else 255.0 if kind.itemsize == 1 else 1.0
    starts = np.arange(0, width, side)
    cells: list[tuple[np.ndarray, np.ndarray]] = []
    for row in sorted({*range(0, height - side + 1, apart), height - side}):
        low, high, valid = _extremes(read, Window(row, 0, side, width))
        whole = np.logical_and.reduceat(valid.all(axis=0), starts)
        whole[width // side :] = False
        lowest = np.minimum.reduceat(low.min(axis=0), starts)
        highest = np.maximum.reduceat(high.max(axis=0), starts)
        cells.append((lowest[whole], highest[whole]))
        if kind.itemsize == 1:  # 255 it is
            continue
        measured = high[valid & (np.abs(high) < _BRIGHTEST)]
        if measured.size:
            brightest = max(brightest, float(np.median(measured)))
    lows, highs = (np.concatenate(part) for part in zip(*cells, strict=True))
    return [colour for colour in colours if (colour.distance(lows, highs) <= colour.near).any()], brightest


def _extremes(read: ReadPixels, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest value of the bands, uint8 or float32 (H, W) or finer, and declared validity."""
    array, valid = read(window)
    if array.dtype == np.uint8:
        return array.min(axis=0), array.max(axis=0), valid
    exact = np.float32 if array.dtype.itemsize <= 2 else np.float64
    return array.min(axis=0).astype(exact), array.max(axis=0).astype(exact), valid


def _cells(values: np.ndarray, cell: int, *, pad: float | bool) -> np.ndarray:
    """(rows, cell, columns, cell) of values (H, W); cells that reach beyond them are filled with `pad`."""
    height, width = values.shape
    rows, cols = -(-height // cell), -(-width // cell)
    if (rows * cell, cols * cell) != values.shape:
        values = np.pad(values, ((0, rows * cell - height), (0, cols * cell - width)), constant_values=pad)
    return values.reshape(rows, cell, cols, cell)


def _least(distance: np.ndarray, cell: int) -> np.ndarray:
    """The least of distances (H, W) in each cell; those that are not a number are passed over."""
    pad = 255 if distance.dtype == np.uint8 else np.inf
    rows = np.fmin.reduce(_cells(distance, cell, pad=pad), axis=1)
    least: np.ndarray = np.fmin.reduce(rows, axis=-1)
    return least


def _wider(cells: np.ndarray, by: int) -> np.ndarray:
    if by == 0:
        return cells
    grown: np.ndarray = cv2.dilate(cells.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=by) != 0
    return grown
