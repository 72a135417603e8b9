"""Draws a map as one picture: two panels over a legend with amounts.

Painted with Pillow and OpenCV, so that a map starts without matplotlib; only the letters are matplotlib's.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import shapely
from PIL import Image, ImageColor, ImageDraw, ImageFont

from aftermap.files import write_bytes
from aftermap.geo.grid import Grid
from aftermap.products.pictures import as_pixels
from aftermap.products.view import Kind, Objects, View

_PANEL_PX = 900
_PX_PER_INCH = 150
_PX_PER_POINT = _PX_PER_INCH / 72
_LEFT_PX, _BETWEEN_PX = 18, 24
_HEAD_PX, _FOOT_PX = 112, 75
_LEGEND_LINE_PX, _WARNING_LINE_PX = 39, 27
_INK, _SOFT, _AMBER, _BOX = "#17212b", "#5a6875", "#8a5a00", "#101a24"
_TINT = 0.45
_SUBPIXEL_BITS = 4
_PNG = (
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
)
_FAR_PX = 1 << 20  # outlines are cut off this far outside, where OpenCV could not count any more


def draw_overview(path: Path, view: View, grid: Grid, *, title: str, warnings: Sequence[str] = ()) -> Path:
    """Write a PNG with both pictures side by side over the legend, 1860 px wide.

    Args:
        path: the file to write, in one step.
        view: what the map shows.
        grid: the grid that was mapped, at full resolution.
        title: heading of the picture.
        warnings: shown at the foot.

    Returns:
        `path`.

    Raises:
        ValueError: pictures of other proportions than the grid's.
        OutputError: the file cannot be written.
    """
    # Tall or flat scenes keep a readable panel: it is at most 2.2 times as high as it is wide.
    height = round(_PANEL_PX * min(max(grid.height / grid.width, 0.25), 2.2))
    width = 2 * _LEFT_PX + 2 * _PANEL_PX + _BETWEEN_PX
    legend, small = lettering(11), lettering(9)
    lines = [line for warning in warnings for line in _wrapped(warning, small, width - 2 * _LEFT_PX)]
    entries = _legend(view)
    columns = _columns(entries, legend, width - 2 * _LEFT_PX)
    below = _HEAD_PX + height
    legend_px = _LEGEND_LINE_PX * max(0, -(-len(entries) // columns) - 1)
    foot = _FOOT_PX + legend_px + _WARNING_LINE_PX * len(lines)
    sheet = Image.new("RGB", (width, below + foot), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_LEFT_PX, 42), _one_line(title), _INK, lettering(15, bold=True), anchor="lm")
    for column, picture in enumerate(view.pictures):
        scale = min(_PANEL_PX / grid.width, height / grid.height)
        size = max(1, round(grid.width * scale)), max(1, round(grid.height * scale))
        panel = resized(as_pixels(picture.rgb, grid), size)
        if view.objects is not None and column == view.objects.on:
            draw_buildings(panel, view.objects, view.kinds, grid)
        if column == len(view.pictures) - 1:
            _draw_scale(panel, grid)
        left = _LEFT_PX + column * (_PANEL_PX + _BETWEEN_PX)
        draw.text((left, 90), _one_line(picture.heading), _SOFT, legend, anchor="lm")
        sheet.paste(panel, (left + (_PANEL_PX - size[0]) // 2, _HEAD_PX + (height - size[1]) // 2))
    _draw_legend(draw, entries, columns, below + 38)
    for line, words in enumerate(lines):
        draw.text(
            (_LEFT_PX, below + legend_px + 75 + _WARNING_LINE_PX * line), words, _AMBER, small, anchor="lm"
        )
    # Runs of equal bytes are all that is looked for: a fifth of the time of Pillow's own way, and as small.
    pixels = cv2.cvtColor(np.asarray(sheet), cv2.COLOR_RGB2BGR)
    stored = cv2.imencode(".png", pixels, _PNG)[1]
    write_bytes(path, stored.tobytes())
    return path


@cache
def lettering(points: float, *, bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which knows most scripts, or Pillow's own where it is not there."""
    size, folder = points * _PX_PER_POINT, fonts_folder()
    if folder is not None:
        file = folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


def fonts_folder() -> Path | None:
    """Where matplotlib keeps the fonts that come along with it; None where it is not installed."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room_px: float) -> list[str]:
    """Lines of words that fit."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= room_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _legend(view: View) -> list[tuple[str, str]]:
    """Words and colour of each kind; of a cover only those that are there, with their shares."""
    if view.cover is None:
        return [(f"{kind.label}  {kind.amount}", kind.colour) for kind in view.kinds]
    return [
        (
            f"{kind.label}{' (image alone)' if kind.background else ''}  {kind.percent}, {kind.amount}",
            kind.colour,
        )
        for kind in view.kinds
        if kind.share
    ]


def _widths(
    entries: Sequence[tuple[str, str]], columns: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> list[float]:
    """Width of each column of a legend that is filled column by column, with its square and the space after it."""
    rows = -(-len(entries) // columns)
    return [
        max(font.getlength(words) for words, _ in entries[start : start + rows]) + 80
        for start in range(0, len(entries), rows)
    ]


def _columns(
    entries: Sequence[tuple[str, str]], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room_px: float
) -> int:
    """The most columns of a legend that fit, at least one."""
    fitting = (n for n in range(len(entries), 1, -1) if sum(_widths(entries, n, font)) - 38 <= room_px)
    return next(fitting, 1)


def _draw_legend(
    draw: ImageDraw.ImageDraw, entries: Sequence[tuple[str, str]], columns: int, middle_px: float
) -> None:
    """Squares and words, the first line at `middle_px`."""
    if not entries:
        return
    font, left, rows = lettering(11), _LEFT_PX + 9.0, -(-len(entries) // columns)
    for column, width in enumerate(_widths(entries, columns, font)):
        for row, (words, colour) in enumerate(entries[column * rows : (column + 1) * rows]):
            middle = middle_px + row * _LEGEND_LINE_PX
            draw.rectangle((round(left), middle - 12, round(left) + 24, middle + 12), colour)
            draw.text((left + 43, middle), words, "black", font, anchor="lm")
        left += width


def resized(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A picture of another size: means over areas where it is smaller."""
    smaller = size[0] <= pixels.shape[1]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return Image.fromarray(cv2.resize(pixels, size, interpolation=way))


def draw_buildings(
    panel: Image.Image, objects: Objects, kinds: Sequence[Kind], grid: Grid, *, tint: float = _TINT
) -> None:
    """Draw outlines on a picture of the whole grid, filled with a share of their colour.

    Args:
        panel: of the grid's proportions; it is changed.
        objects: the buildings.
        kinds: the legend.
        grid: what the picture shows.
        tint: how much of the fill covers the picture, 0 to 1.
    """
    shapes = objects.outlines
    scale = panel.width / grid.width, panel.height / grid.height
    # Lines thin out with the buildings, so that a whole city does not become one blot of outlines.
    typical_px = scale[0] * math.sqrt(float(np.median(shapely.area(shapes)))) if len(shapes) else 0
    line_px = min(1.1, max(0.15, typical_px / 12)) * _PX_PER_POINT
    thick = max(1, round(line_px))
    fills = {kind: np.zeros((panel.height, panel.width), np.uint8) for kind in set(objects.kinds.tolist())}
    lines = {kind: mask.copy() for kind, mask in fills.items()}
    outlines: dict[int, list[np.ndarray]] = {kind: [] for kind in fills}
    for kind, rings in zip(objects.kinds.tolist(), _rings(shapes, np.array(scale)), strict=True):
        cv2.fillPoly(fills[kind], rings, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        outlines[kind] += rings
    for kind, rings in outlines.items():
        cv2.polylines(lines[kind], rings, True, 255, thick, cv2.LINE_AA, _SUBPIXEL_BITS)
    for masks, share in ((fills, tint), (lines, min(1.0, line_px / thick))):
        for kind, mask in masks.items():
            left, top, width, height = cv2.boundingRect(mask)
            if not width:
                continue
            drawn = mask[top : top + height, left : left + width]
            shown = Image.fromarray(cv2.convertScaleAbs(drawn, alpha=share))
            panel.paste(ImageColor.getrgb(kinds[kind].colour), (left, top), shown)


def _rings(shapes: np.ndarray, scale: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The rings of each polygon, shells and holes, as OpenCV draws them: int32 (n, 2) parts of a panel's pixel."""
    parts, shape = shapely.get_parts(shapes, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    placed = np.clip(points * scale - 0.5, -_FAR_PX, _FAR_PX) * (1 << _SUBPIXEL_BITS)
    ends = np.searchsorted(ring, np.arange(len(rings) + 1)).tolist()
    whole = np.rint(placed).astype(np.int32)
    outlines = [whole[begin:end] for begin, end in pairwise(ends)]
    last = np.searchsorted(shape[part], np.arange(len(shapes) + 1))
    for start, stop in zip(last[:-1].tolist(), last[1:].tolist(), strict=True):
        yield outlines[start:stop]


def _draw_scale(panel: Image.Image, grid: Grid) -> None:
    """A bar of a round length at the lower left, its length above it on a dark ground."""
    unit = grid.resolution_m or 1.0
    longest = grid.width * unit / 4
    power = 10.0 ** math.floor(math.log10(longest))
    length = next(factor * power for factor in (5, 2, 1) if factor * power <= longest)
    label = f"{length:g} px" if grid.resolution_m is None else metres(length)
    draw, font = ImageDraw.Draw(panel), lettering(9)
    left, bottom = round(0.03 * panel.width), panel.height - round(0.03 * panel.width)
    right = left + round(length / unit * panel.width / grid.width)
    draw.rectangle((left, bottom - 4, right, bottom + 4), "black")
    draw.rectangle((left, bottom - 2, right, bottom + 2), "white")
    place = (left + right) / 2, bottom - 17
    x0, y0, x1, y1 = draw.textbbox(place, label, font, anchor="ms")
    box = [round(v) for v in (x0 - 5, y0 - 5, x1 + 5, y1 + 5)]
    size = box[2] - box[0], box[3] - box[1]
    mask = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), 20, round(0.7 * 255))
    panel.paste(ImageColor.getrgb(_BOX), (box[0], box[1]), mask.resize(size, Image.Resampling.BOX))
    draw.text(place, label, "white", font, anchor="ms")


def metres(length: float) -> str:
    """A round length as a scale bar says it."""
    return f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
