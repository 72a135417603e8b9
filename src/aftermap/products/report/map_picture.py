"""The map of a report as one picture: the image after the event, buildings, a frame with coordinates, scale and north.

Its letters are digits and units that every language reads; title, legend and caption are set beside it by the pages.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from aftermap.geo.grid import Grid
from aftermap.products.overview import draw_buildings, lettering, metres, resized
from aftermap.products.page.page import describe_grid
from aftermap.products.view import Kind, Objects

WIDTH_PX = 1900
_TALLEST, _FLATTEST = 1.5, 0.2
_MARGIN_LEFT, _MARGIN_BELOW, _MARGIN = 64, 58, 8
GROUND = "#d9dde1"
"""Where an image shows nothing."""
_INK, _SOFT = "#17212b", "#5a6875"
_TICKS = 5
_PAIR_PX = 1000


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report, JPEG: the map, and the images before (None where there is none) and after."""

    map: bytes
    before: bytes | None
    after: bytes

    @property
    def dates(self) -> tuple[bytes, ...]:
        """The images by themselves, as `Content.pair_captions` names them."""
        return (self.after,) if self.before is None else (self.before, self.after)


def draw_map(after: Image.Image, objects: Objects, kinds: Sequence[Kind], grid: Grid) -> bytes:
    """The picture as a JPEG, at most 1,900 px wide.

    Args:
        after: the image after the event, of the whole grid, at any size.
        objects: the buildings, with outlines in pixels of the grid.
        kinds: the legend.
        grid: the grid that was mapped, at full resolution.
    """
    room = WIDTH_PX - _MARGIN_LEFT - _MARGIN
    scale = min(room / grid.width, room * _TALLEST / grid.height)
    size = max(80, round(grid.width * scale)), max(80, round(grid.height * scale))
    panel = resized(np.ascontiguousarray(after.convert("RGB")), size)
    panel = ImageEnhance.Brightness(ImageEnhance.Color(panel).enhance(0.6)).enhance(1.08)
    draw_buildings(panel, objects, kinds, grid, tint=0.6)
    sheet = Image.new("RGB", (size[0] + _MARGIN_LEFT + _MARGIN, size[1] + _MARGIN_BELOW + _MARGIN), "white")
    _draw_lines(panel, grid)
    sheet.paste(panel, (_MARGIN_LEFT, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    right, bottom = _MARGIN_LEFT + size[0], _MARGIN + size[1]
    draw.rectangle((_MARGIN_LEFT - 1, _MARGIN - 1, right, bottom), outline=_INK, width=2)
    _draw_numbers(sheet, grid, size)
    _draw_bar(sheet, grid, (_MARGIN_LEFT, bottom), size)
    north = describe_grid(grid)["north"]
    if north is not None:
        _draw_north(sheet, (right - 84, _MARGIN + 84), float(north))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88, subsampling=0, optimize=False)
    return buffer.getvalue()


def small_picture(image: Image.Image) -> bytes:
    """An image by itself as a JPEG, at most 1,000 px a side."""
    small = image.convert("RGB")
    small.thumbnail((_PAIR_PX, _PAIR_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, optimize=False)
    return buffer.getvalue()


def lines_of(grid: Grid) -> tuple[list[float], list[float]]:
    """Round coordinates of the grid's reference system (pixels where there is none) that lines are drawn at: (xs, ys)."""
    left, bottom, right, top = grid.bounds
    step = _round_step(max(right - left, top - bottom) / _TICKS)
    return _multiples(left, right, step), _multiples(bottom, top, step)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)][:50]


def _round_step(about: float) -> float:
    power = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= about * 0.999)


def _places(grid: Grid, size: tuple[int, int]) -> list[tuple[str, float, tuple[float, float, float, float]]]:
    """Each line: its axis, its coordinate, and where it runs over the picture (x0, y0, x1, y1)."""
    inverse, (width, height) = ~grid.transform, size
    across, down = width / grid.width, height / grid.height
    left, bottom, right, top = grid.bounds
    xs, ys = lines_of(grid)
    ends = [("x", x, (x, bottom), (x, top)) for x in xs] + [("y", y, (left, y), (right, y)) for y in ys]
    found = []
    for axis, value, start, stop in ends:
        (c0, r0), (c1, r1) = inverse * start, inverse * stop
        cut = _clipped((c0 * across, r0 * down, c1 * across, r1 * down), width, height)
        if cut is not None:
            found.append((axis, value, cut))
    return found


def _clipped(
    line: tuple[float, float, float, float], width: int, height: int
) -> tuple[float, float, float, float] | None:
    """The part of a line within the picture (Liang and Barsky 1984)."""
    x0, y0, x1, y1 = line
    dx, dy, enter, leave = x1 - x0, y1 - y0, 0.0, 1.0
    for step, room in ((-dx, x0), (dx, width - x0), (-dy, y0), (dy, height - y0)):
        if step == 0:
            if room < 0:
                return None
        elif step < 0:
            enter = max(enter, room / step)
        else:
            leave = min(leave, room / step)
    if enter >= leave:
        return None
    return x0 + enter * dx, y0 + enter * dy, x0 + leave * dx, y0 + leave * dy


def _draw_lines(panel: Image.Image, grid: Grid) -> None:
    veil = Image.new("L", panel.size)
    pen = ImageDraw.Draw(veil)
    for _, _, line in _places(grid, panel.size):
        pen.line(line, fill=70, width=1)
    panel.paste((255, 255, 255), (0, 0), veil)


def _draw_numbers(sheet: Image.Image, grid: Grid, size: tuple[int, int]) -> None:
    """Ticks and coordinates: of x below the picture, of y at its left, turned."""
    draw, letters = ImageDraw.Draw(sheet), lettering(15)
    bottom = _MARGIN + size[1]
    last_end = -1.0
    for axis, value, (x0, y0, x1, y1) in _places(grid, size):
        words = _coordinate(value, grid)
        if axis == "x":
            at = x0 if y0 > y1 else x1
            if max(y0, y1) < size[1] - 1:
                continue  # it leaves the picture at a side
            place, half = _MARGIN_LEFT + at, letters.getlength(words) / 2
            draw.line((place, bottom, place, bottom + 10), _INK, 3)
            start = min(max(place - half, 2), sheet.width - 2 * half - 2)
            if start > last_end + 14:
                draw.text((start, bottom + 14), words, _SOFT, letters, anchor="la")
                last_end = start + 2 * half
        else:
            at = y0 if x0 < x1 else y1
            if min(x0, x1) > 1:
                continue
            place = _MARGIN + at
            draw.line((_MARGIN_LEFT - 10, place, _MARGIN_LEFT, place), _INK, 3)
            length = math.ceil(letters.getlength(words)) + 2
            tag = Image.new("RGB", (length, 42), "white")
            ImageDraw.Draw(tag).text((1, 21), words, _SOFT, letters, anchor="lm")
            top = min(max(round(place - length / 2), 0), max(0, bottom - length))
            sheet.paste(tag.rotate(90, expand=True), (_MARGIN_LEFT - 56, top))


def _coordinate(value: float, grid: Grid) -> str:
    """A coordinate of a round line; thousands apart by a thin space."""
    if grid.crs is not None and grid.crs.is_geographic:
        return f"{value:.6f}".rstrip("0").rstrip(".") + "°"
    decimals = 0 if abs(value - round(value)) < 1e-6 else 2
    return f"{value:,.{decimals}f}".replace(",", "\u2009").replace("-", "\u2212")


def _draw_bar(sheet: Image.Image, grid: Grid, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """A scale bar in two halves, black and white, in a white box at the lower left of the picture."""
    unit = (grid.pixel_size_m or (1.0, 1.0))[0]
    longest = grid.width * unit / 4
    power = 10.0 ** math.floor(math.log10(longest))
    length = next(factor * power for factor in (5, 2, 1) if factor * power <= longest)
    words = metres(length) if grid.is_georeferenced else f"{length:g} px"
    px = round(length / unit * size[0] / grid.width)
    letters = lettering(16)
    words_px = letters.getlength(words)
    left, bottom = corner[0] + 18, corner[1] - 18
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle((left, bottom - 92, left + px + words_px / 2 + 58, bottom), 10, "white")
    x, y = left + 30, bottom - 24
    draw.rectangle((x, y - 8, x + px, y + 8), "white", _INK, 3)
    draw.rectangle((x, y - 8, x + px // 2, y + 8), _INK)
    draw.text((x, y - 18), "0", _INK, letters, anchor="ms")
    draw.text((x + px, y - 18), words, _INK, letters, anchor="ms")


def _draw_north(sheet: Image.Image, middle: tuple[int, int], degrees: float) -> None:
    """An arrow to true north, its letter at the tip; `degrees` clockwise from up."""
    turn = math.radians(degrees)
    draw = ImageDraw.Draw(sheet)
    x, y = middle
    draw.ellipse((x - 68, y - 68, x + 68, y + 68), "white")

    def at(right: float, up: float) -> tuple[float, float]:
        return (
            x + right * math.cos(turn) + up * math.sin(turn),
            y + right * math.sin(turn) - up * math.cos(turn),
        )

    draw.polygon([at(0, 60), at(-24, -8), at(0, 6)], fill=_INK)
    draw.line([at(0, 60), at(24, -8), at(0, 6), at(0, 60)], _INK, 3)
    draw.text(at(0, -34), "N", _INK, lettering(16, bold=True), anchor="mm")
