"""Writes a map as one HTML file that opens offline: two pictures with a swipe divider, and what is told of the ground.

The page is put together from `assets`: everything stands inside it, and its content security policy
forbids the network. Text from outside enters as JSON without `<`, and the page only ever shows it as text.
"""

import base64
import html
import io
import json
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from pyproj import Geod

from aftermap import __version__
from aftermap.files import to_plain, write_text
from aftermap.geo.grid import Grid
from aftermap.products.page.compact import pack
from aftermap.products.page.stored import MAX_SIDE_PX, StoredPage
from aftermap.products.pictures import as_image
from aftermap.products.vectors import PIXEL_NOTE
from aftermap.products.view import Kind, Objects, Times, View

_TILE_PX = 1024
_LONLAT_NODES = 17
_SCRIPTS = ("data.js", "view.js", "page.js")
_GEOD = Geod(ellps="WGS84")
# where these are not loaded, Pillow loads forty to save one picture
_FORMATS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)


def write_page(
    path: Path,
    view: View,
    grid: Grid,
    *,
    title: str,
    model: str = "",
    warnings: Sequence[str] = (),
    stored: StoredPage | None = None,
    times: Times | None = None,
) -> Path:
    """Write `path`, one self-contained HTML page.

    Args:
        path: the file to write, in one step.
        view: what the map shows; pictures with sides above `MAX_SIDE_PX` are reduced.
        grid: the grid that was mapped, at full resolution.
        title: heading of the page.
        model: name and version of the model, shown below the heading.
        warnings: shown in a banner that cannot be closed.
        stored: pictures of another page of this grid, in place of the view's.
        times: several dates of the view's buildings; the view shows the last.

    Returns:
        `path`.

    Raises:
        ValueError: pictures of other proportions than the grid's.
        OutputError: the file cannot be written.
    """
    objects = view.objects
    data = {
        "title": title,
        "model": model,
        "warnings": list(warnings),
        "about": list(view.about),
        "words": {
            "heading": view.heading,
            "headline": list(view.headline),
            "views": [picture.name for picture in view.pictures],
            "labels": [picture.heading for picture in view.pictures],
            "mode": view.mode,
        },
        "classes": [_entry(kind) for kind in view.kinds],
        "grid": describe_grid(grid),
        "images": _images(view, grid) if stored is None else stored.images(),
        "objects": None if objects is None else _objects(objects),
        "times": None if times is None else asdict(times),
    }
    return _write(path, to_plain(data))


def with_areas(page: StoredPage, areas: Sequence[dict[str, Any]]) -> Path:
    """Write a page again with areas over its pictures; all else is as it was.

    Args:
        page: as it was before.
        areas: see `products.areas.on_map`.

    Raises:
        OutputError: the file cannot be written.
    """
    return _write(page.path, dict(page.data) | {"areas": list(areas)})


def _write(path: Path, data: dict[str, Any]) -> Path:
    """The page of some data, with the scripts that it takes."""
    kind = "objects.js" if data["objects"] is not None else "cover.js"
    also = [f"{name}.js" for name in ("times", "areas") if data.get(name)]
    assets = resources.files("aftermap.products.page") / "assets"
    parts = [(assets / name).read_text(encoding="utf-8") for name in (*_SCRIPTS, kind, *also)]
    lines = "\n".join(parts)
    script = f'window.aftermap = {{}};\naftermap.ready = (async () => {{\n"use strict";\n{lines}\n}})();'
    title = str(data["title"])
    return fill_template(path, assets, "map.html", title=title, data=data, style="map.css", script=script)


def rewrite_page(path: Path, page: StoredPage, view: View) -> Path:
    """Write a page with other buildings and the same pictures, byte for byte.

    Args:
        path: the file to write, in one step.
        page: as it was before.
        view: what it shows; its pictures are not used.
    """
    data = dict(page.data) | {
        "about": list(view.about),
        "words": page.data["words"] | {"heading": view.heading, "headline": list(view.headline)},
        "classes": [_entry(kind) for kind in view.kinds],
        "objects": None if view.objects is None else _objects(view.objects),
    }
    if data.pop("areas", None):  # counted before
        return _write(path, to_plain(data))
    head, tail = page.around
    return write_text(path, head + embed(to_plain(data)) + tail)


def _images(view: View, grid: Grid) -> dict[str, Any]:
    """Both pictures, and what a cover is painted over, as tiles of one size."""
    before, after = view.pictures
    picture = as_image(before.rgb, grid, MAX_SIDE_PX, valid=before.valid)
    size, pre = picture.size, to_tiles(picture)
    del picture  # one after the other, as each takes four bytes a pixel
    if view.cover is not None:
        picture = Image.fromarray(np.ascontiguousarray(view.cover)).resize(size, Image.Resampling.NEAREST)
    else:
        picture = as_image(after.rgb, grid, MAX_SIDE_PX, valid=after.valid)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
    post = to_tiles(picture, lossless=view.cover is not None)
    images = {"width": size[0], "height": size[1], "pre": pre, "post": post}
    del picture
    if view.under is not None:
        images["under"] = to_tiles(as_image(view.under.rgb, grid, MAX_SIDE_PX, valid=view.under.valid))
    return images


def fill_template(
    path: Path, assets: Traversable, name: str, *, title: str, data: dict[str, Any], style: str, script: str
) -> Path:
    """Write a page that holds its data, its style and its script, with the head and the policy that all pages have.

    Args:
        path: the file to write, in one step.
        assets: where the template lies, and the style.
        name: of the template.
        title: of the page.
        data: what the page knows.
        style: name of the style sheet.
        script: what it runs.

    Raises:
        OutputError: the file cannot be written.
    """
    parts = {
        "title": html.escape(title),
        "version": html.escape(__version__),
        "css": (assets / style).read_text(encoding="utf-8"),
        "data": embed(data),
        "script": script,
    }
    head = (resources.files("aftermap.products.page") / "assets" / "head.html").read_text(encoding="utf-8")
    page = (assets / name).read_text(encoding="utf-8").replace("@@head@@", head, 1)
    # One pass over the template, so that a title that looks like a placeholder stays a title.
    return write_text(path, re.sub(r"@@(\w+)@@", lambda match: parts[match.group(1)], page))


def _objects(objects: Objects) -> dict[str, Any]:
    """Attributes, kinds and outlines of buildings."""
    return {
        "packed": pack(objects.frame, objects.outlines, objects.kinds),
        "bars": list(objects.bars),
        "tinted": objects.tinted,
        "pixel_note": PIXEL_NOTE,
    }


def embed(data: Any) -> str:
    """JSON that no HTML parser can mistake for markup."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=to_plain)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _entry(kind: Kind) -> dict[str, Any]:
    """A kind as the page knows it: its colour, and one to write with on that."""
    red, green, blue = bytes.fromhex(kind.colour.removeprefix("#"))
    ink = "#17212b" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#ffffff"
    return asdict(kind) | {"share": kind.share or 0, "percent": kind.percent, "ink": ink}


def describe_grid(grid: Grid) -> dict[str, Any]:
    """Size, shape of a pixel on the ground, a table of longitudes and latitudes, and the direction of north."""
    tree: dict[str, Any] = {"width": grid.width, "height": grid.height, "stretch": [1, 1]}
    tree |= {"unit_m": None, "lonlat": None, "north": None}
    if not grid.is_georeferenced:
        return tree
    across_m, down_m, north = _orientation(grid)
    unit_m = math.sqrt(across_m * down_m)
    if abs(across_m / down_m - 1) > 0.02:
        tree["stretch"] = [across_m / unit_m, down_m / unit_m]
    cols, rows = np.meshgrid(
        np.linspace(0, grid.width, _LONLAT_NODES), np.linspace(0, grid.height, _LONLAT_NODES)
    )
    lons, lats = grid.lonlat(cols.ravel(), rows.ravel())
    if lons.max() - lons.min() > 180:
        lons = np.where(lons < 0, lons + 360, lons)
    table = {"side": _LONLAT_NODES, "lon": np.round(lons, 9), "lat": np.round(lats, 9)}
    return tree | {"unit_m": unit_m, "lonlat": table, "north": round(north, 1)}


def _orientation(grid: Grid) -> tuple[float, float, float]:
    """Metres per column and per row at the grid's centre, and north in degrees clockwise from up."""
    col, row = grid.width / 2, grid.height / 2
    lons, lats = grid.lonlat(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
    azimuth_across, _, across_m = _GEOD.inv(lons[0], lats[0], lons[1], lats[1])
    azimuth_down, _, down_m = _GEOD.inv(lons[0], lats[0], lons[2], lats[2])
    # Columns and rows as vectors on the ground (east, north); the pixel step that leads due north.
    ground = np.array(
        [
            [math.sin(math.radians(azimuth_across)), math.sin(math.radians(azimuth_down))],
            [math.cos(math.radians(azimuth_across)), math.cos(math.radians(azimuth_down))],
        ]
    )
    right, down = np.linalg.solve(ground, np.array([0.0, 1.0]))
    return across_m, down_m, math.degrees(math.atan2(right, -down)) + 0.0


def to_tiles(image: Image.Image, *, lossless: bool = False) -> list[dict[str, Any]]:
    """The image as data URIs of at most `_TILE_PX`: small to decode, and only those in view are drawn.

    They are JPEG, which takes a tenth of the time, WebP where something is transparent, or PNG where `lossless`.
    """
    places = [(x, y) for y in range(0, image.height, _TILE_PX) for x in range(0, image.width, _TILE_PX)]

    def tile(place: tuple[int, int]) -> dict[str, Any]:
        x, y = place
        part = image.crop((x, y, min(x + _TILE_PX, image.width), min(y + _TILE_PX, image.height)))
        buffer = io.BytesIO()
        if lossless:
            form: str = "PNG"
            part.save(buffer, form)
        elif part.mode == "RGBA" and np.asarray(part.getchannel("A")).min() < 255:
            form = "WEBP"
            part.save(buffer, form, quality=82, method=2)
        else:
            form = "JPEG"
            part.convert("RGB").save(buffer, form, quality=82)
        source = f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        return {"x": x, "y": y, "width": part.width, "height": part.height, "src": source}

    image.load()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as encoders:
        return list(encoders.map(tile, places))
