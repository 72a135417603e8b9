"""The map of a report as a GeoPDF: a page that GIS place on the ground and any reader prints, with title and legend."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from PIL import Image, ImageDraw, ImageFont, features
from rasterio.io import MemoryFile
from rasterio.shutil import copy

from aftermap.errors import GeoreferenceError, OutputError
from aftermap.geo.grid import Grid
from aftermap.products.overview import draw_buildings, lettering, resized
from aftermap.products.report.content import Content
from aftermap.products.view import Kind, Objects

DRIVER = "PDF"
_SIDE_PX = 2400
_DPI = 200
_BAND_PX, _MARGIN_PX, _LINE_PX = 170, 24, 46
_INK, _SOFT = "#17212b", "#5a6875"


def geopdf(
    content: Content, after: Image.Image, objects: Objects, kinds: Sequence[Kind], grid: Grid
) -> bytes:
    """The image after the event and the buildings, georeferenced, over a band with title, status, scale and legend.

    Same map, same bytes.

    Args:
        content: what the report says.
        after: the image after the event, of the whole grid, at any size.
        objects: the buildings, with outlines in pixels of the grid.
        kinds: the legend of the picture.
        grid: the grid that was mapped, at full resolution.

    Raises:
        GeoreferenceError: the map is in pixels.
        OutputError: GDAL was built without its driver of PDF, or it fails.
    """
    if grid.crs is None:
        raise GeoreferenceError(
            "a GeoPDF needs a georeference, and this is a map in pixels: leave geopdf out"
        )
    with rasterio.Env() as environment:
        if DRIVER not in environment.drivers():
            raise OutputError("this rasterio was built without GDAL's driver of PDF: leave geopdf out")
    scale = _SIDE_PX / max(grid.width, grid.height)
    size = max(64, round(grid.width * scale)), max(64, round(grid.height * scale))
    panel = resized(np.ascontiguousarray(after.convert("RGB")), size)
    draw_buildings(panel, objects, kinds, grid)
    # the band lies below the map, on ground that is not mapped
    sheet = Image.new("RGB", (size[0], size[1] + _band_px(content, size[0])), "white")
    sheet.paste(panel)
    _draw_band(sheet, content, size[1])
    transform = grid.transform * Affine.scale(grid.width / size[0], grid.height / size[1])
    return _stored(sheet, Grid(grid.crs, transform, sheet.width, sheet.height), content)


def _stored(sheet: Image.Image, grid: Grid, content: Content) -> bytes:
    profile = {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": 3,
        "dtype": "uint8",
        "crs": grid.crs,
        "transform": grid.transform,
        "photometric": "RGB",
    }
    options = {
        "COMPRESS": "JPEG",
        "JPEG_QUALITY": "88",
        "DPI": str(_DPI),
        "LAYER_NAME": "map",
        "WRITE_INFO": "NO",
        "TITLE": content.title,
        "CREATION_DATE": _pdf_date(content.created),
    }
    try:
        with tempfile.TemporaryDirectory(prefix="aftermap-") as name, MemoryFile() as memory:
            with memory.open(**profile) as file:
                file.write(np.asarray(sheet).transpose(2, 0, 1))
            path = Path(name) / "map.pdf"
            with memory.open() as file:
                copy(file, str(path), driver=DRIVER, **options)
            return path.read_bytes()
    except rasterio.errors.RasterioError as error:
        raise OutputError(f"the map cannot be set as GeoPDF: {error}") from None


def _pdf_date(created: str) -> str:
    digits = "".join(letter for letter in created[:19] if letter.isdigit())
    return f"D:{digits}Z" if len(digits) == 14 else "D:20000101000000Z"


def _entries(content: Content, width_px: int) -> list[list[tuple[str, str]]]:
    """The legend in lines that fit."""
    font, used = lettering(12), 0.0
    lines: list[list[tuple[str, str]]] = [[]]
    for colour, name in content.legend:
        needed = font.getlength(name) + 90
        if lines[-1] and used + needed > width_px - 2 * _MARGIN_PX:
            lines.append([])
            used = 0.0
        lines[-1].append((colour, name))
        used += needed
    return lines


def _band_px(content: Content, width_px: int) -> int:
    return _BAND_PX + _LINE_PX * len(_entries(content, width_px))


def _draw_band(sheet: Image.Image, content: Content, top_px: int) -> None:
    draw = ImageDraw.Draw(sheet)
    rtl = content.rtl
    edge = sheet.width - _MARGIN_PX if rtl else _MARGIN_PX
    room = sheet.width - 2 * _MARGIN_PX
    _text(
        draw,
        (edge, top_px + 38),
        _fitted(content.title, lettering(17, bold=True), room),
        _INK,
        17,
        rtl,
        bold=True,
    )
    _text(draw, (edge, top_px + 88), _fitted(content.status, lettering(12), room), _INK, 12, rtl)
    note = content.class_notes[0]
    _text(draw, (edge, top_px + 130), _fitted(note, lettering(10), room), _SOFT, 10, rtl)
    for line, entries in enumerate(_entries(content, sheet.width)):
        at, middle = float(edge), top_px + _BAND_PX + line * _LINE_PX
        for colour, name in entries:
            left = at - 28 if rtl else at
            draw.rectangle((left, middle - 14, left + 28, middle + 14), colour)
            at += -42 if rtl else 42
            _text(draw, (at, middle), name, _INK, 12, rtl)
            length = lettering(12).getlength(name) + 48
            at += -length if rtl else length


def _fitted(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room_px: float) -> str:
    """As much of a line as there is room for."""
    if font.getlength(words) <= room_px:
        return words
    while words and font.getlength(words + "…") > room_px:
        words = words[:-1]
    return words.rstrip() + "…"


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    words: str,
    colour: str,
    points: float,
    rtl: bool,
    *,
    bold: bool = False,
) -> None:
    """A line, from the right where the language is written so; letters are joined where Pillow can."""
    shaped: dict[str, Any] = {"direction": "rtl", "language": "ar"} if rtl and features.check("raqm") else {}
    draw.text(place, words, colour, lettering(points, bold=bold), anchor="rm" if rtl else "lm", **shaped)
