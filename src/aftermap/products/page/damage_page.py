"""Writes the map as one HTML file that opens offline: two pictures with a swipe divider, buildings, filters, list.

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
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from PIL import Image
from pyproj import Geod

from aftermap import __version__
from aftermap.classes import DAMAGE, NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.files import to_plain, write_text
from aftermap.geo.grid import Grid
from aftermap.products.page.overview import as_image, in_pixels
from aftermap.products.summary import GRADES, grade
from aftermap.products.vectors import BUILDING_LAYER, DAMAGE_VALUES, PIXEL_NOTE, PROBABILITIES, normalise

MAX_SIDE_PX = 4096
_TILE_PX = 1024
_LONLAT_NODES = 17
_SCRIPTS = ("data.js", "view.js", "page.js", "panel.js")
_GEOD = Geod(ellps="WGS84")


def write_map(
    path: Path,
    frame: gpd.GeoDataFrame,
    pre_rgb: np.ndarray,
    post_rgb: np.ndarray,
    grid: Grid,
    summary: dict[str, Any],
    *,
    title: str,
    warnings: Sequence[str] = (),
    model: str = "",
    pre_valid: np.ndarray | None = None,
    post_valid: np.ndarray | None = None,
) -> Path:
    """Write `path`, one self-contained HTML page.

    Args:
        path: the file to write, in one step.
        frame: buildings with the columns of `products.vectors.COLUMNS`, in the grid's reference system.
        pre_rgb: the scene before, uint8 (H, W, 3) or (3, H, W), reduced to any size of the grid's proportions;
            sides above `MAX_SIDE_PX` are reduced further.
        post_rgb: the scene after, likewise.
        grid: the grid that was mapped, at full resolution.
        summary: the result of `products.summary.summarise`.
        title: heading of the page.
        warnings: shown in a banner that cannot be closed.
        model: name and version of the model, shown below the heading.
        pre_valid: bool (H, W); False is left transparent.
        post_valid: likewise for the scene after.

    Returns:
        `path`.

    Raises:
        ValueError: images of other proportions, or a frame that breaks the contract of its columns.
        OutputError: the file cannot be written.
    """
    frame = normalise(frame)
    columns = _columns(frame)
    kinds = [DAMAGE_VALUES.index(name) for name in columns["damage"]]
    damaged, assessed = summary["damaged"]["buildings"], summary["assessed"]
    words = {
        "heading": "Damage",
        "headline": [f"{damaged:,}", f" of {assessed:,} assessed buildings are damaged"]
        if assessed
        else ["", "No building was assessed"],
        "views": ["Before", "After"],
        "mode": "swipe",
        "bars": list(PROBABILITIES),
        "sorts": ["doubt", "damage", "area", "id"],
    }
    data = {
        "title": title,
        "model": model,
        "warnings": list(warnings),
        "about": _about(summary, grid),
        "summary": to_plain(summary),
        "words": words,
        "classes": _classes(),
        "columns": columns | {"damage": kinds},
    }
    pre = as_image(pre_rgb, grid, MAX_SIDE_PX, valid=pre_valid)
    post = as_image(post_rgb, grid, MAX_SIDE_PX, valid=post_valid)
    return _write_page(path, data, frame, pre, post, grid)


def write_building_map(
    path: Path,
    frame: gpd.GeoDataFrame,
    rgb: np.ndarray,
    probability_rgb: np.ndarray,
    grid: Grid,
    summary: dict[str, Any],
    *,
    title: str,
    warnings: Sequence[str] = (),
    model: str = "",
    valid: np.ndarray | None = None,
) -> Path:
    """Write `path`, the page of a single date: its image and p(building) as layers, buildings by confidence.

    Args:
        path: the file to write, in one step.
        frame: buildings with the columns of `products.vectors.BUILDING_COLUMNS`, in the grid's reference system.
        rgb: the image, uint8 (H, W, 3) or (3, H, W), reduced to any size of the grid's proportions.
        probability_rgb: p(building) as a picture, likewise.
        grid: the grid that was mapped, at full resolution.
        summary: the result of `products.summary.summarise_buildings`.
        title: heading of the page.
        warnings: shown in a banner that cannot be closed.
        model: name and version of the model, shown below the heading.
        valid: bool (H, W); False is left transparent.

    Returns:
        `path`.

    Raises:
        ValueError: images of other proportions, or a frame that breaks the contract of its columns.
        OutputError: the file cannot be written.
    """
    frame = normalise(frame, BUILDING_LAYER)
    area = summary["area_m2"]
    words = {
        "heading": "Buildings",
        "headline": [f"{len(frame):,}", " buildings" + ("" if area is None else f" on {area:,.0f} m²")],
        "views": ["Image", "Probability"],
        "mode": "pre",
        "bars": [],
        "sorts": ["doubt", "area", "id"],
    }
    data = {
        "title": title,
        "model": model,
        "warnings": list(warnings),
        "about": [
            "Confidence: mean p(building) within the outline times the share of it that was seen. "
            f"The model was shown {summary['mode']}.",
            describe_size(grid),
        ],
        "summary": to_plain(summary),
        "words": words,
        "classes": _grades(),
        "columns": _columns(frame),
        "kinds": grade(frame).tolist(),
    }
    image = as_image(rgb, grid, MAX_SIDE_PX, valid=valid)
    probability = as_image(probability_rgb, grid, MAX_SIDE_PX, valid=valid)
    return _write_page(path, data, frame, image, probability, grid)


def _write_page(
    path: Path,
    data: dict[str, Any],
    frame: gpd.GeoDataFrame,
    left: Image.Image,
    right: Image.Image,
    grid: Grid,
) -> Path:
    """Put the page together: two pictures of the grid with a divider between them, and buildings."""
    if right.size != left.size:
        right = right.resize(left.size, Image.Resampling.BILINEAR)
    data |= {
        "grid": describe_grid(grid),
        "images": {
            "width": left.width,
            "height": left.height,
            "pre": to_tiles(left),
            "post": to_tiles(right),
        },
        "outlines": _outlines(in_pixels(frame, grid)),
        "pixel_note": PIXEL_NOTE,
    }
    write_page(path, data, "map.html", _SCRIPTS)
    return path


def write_page(path: Path, data: dict[str, Any], template: str, scripts: Sequence[str]) -> None:
    """Write a page that holds its data, its style and its scripts.

    Args:
        path: the file to write, in one step.
        data: plain values with a `title`; text in it is only ever shown as text.
        template: the page, of `assets`.
        scripts: likewise, in the order in which they build on each other.

    Raises:
        OutputError: the file cannot be written.
    """
    assets = resources.files("aftermap.products.page") / "assets"
    script = "\n".join((assets / name).read_text(encoding="utf-8") for name in scripts)
    parts = {
        "title": html.escape(data["title"]),
        "version": html.escape(__version__),
        "css": (assets / "map.css").read_text(encoding="utf-8"),
        "data": _embed(data),
        "script": f'(() => {{\n"use strict";\n{script}\n}})();',
    }
    page = (assets / template).read_text(encoding="utf-8")
    # One pass over the template, so that a title that looks like a placeholder stays a title.
    write_text(path, re.sub(r"@@(\w+)@@", lambda match: parts[match.group(1)], page))


def _columns(frame: gpd.GeoDataFrame) -> dict[str, list[Any]]:
    table = frame.drop(columns=frame.geometry.name)
    columns: dict[str, list[Any]] = table.astype(object).where(table.notna(), None).to_dict("list")
    return columns


def _embed(data: Any) -> str:
    """JSON that no HTML parser can mistake for markup."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=to_plain)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _classes() -> list[dict[str, Any]]:
    colours = (*DAMAGE.colours[1:], NOT_ASSESSED_COLOUR)
    return [
        class_entry(name, name.replace("-", " ").capitalize(), colour, assessed=name != NOT_ASSESSED)
        for name, colour in zip(DAMAGE_VALUES, colours, strict=True)
    ]


def _grades() -> list[dict[str, Any]]:
    """Grades of confidence, then what was not seen."""
    graded = [
        class_entry(name, f"{name.capitalize()}, from {least:.0%}" if least else name.capitalize(), colour)
        for name, least, colour in GRADES
    ]
    return [*graded, class_entry(NOT_ASSESSED, "Not seen", NOT_ASSESSED_COLOUR, assessed=False)]


def class_entry(name: str, label: str, colour: str, *, assessed: bool = True) -> dict[str, Any]:
    """A class as the page knows it: its colour, and one to write with on that."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    ink = "#17212b" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#ffffff"
    return {"name": name, "label": label, "colour": colour, "ink": ink, "assessed": assessed}


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

    They are WebP, or PNG where `lossless`.
    """
    form, ending = ("PNG", "png") if lossless else ("WEBP", "webp")
    places = [(x, y) for y in range(0, image.height, _TILE_PX) for x in range(0, image.width, _TILE_PX)]

    def tile(place: tuple[int, int]) -> dict[str, Any]:
        x, y = place
        part = image.crop((x, y, min(x + _TILE_PX, image.width), min(y + _TILE_PX, image.height)))
        buffer = io.BytesIO()
        part.save(buffer, form, **({} if lossless else {"quality": 82, "method": 3}))
        source = f"data:image/{ending};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        return {"x": x, "y": y, "width": part.width, "height": part.height, "src": source}

    image.load()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as encoders:
        return list(encoders.map(tile, places))


def _outlines(shapes: np.ndarray) -> list[list[list[int]]]:
    """Per building its rings in tenths of a pixel, each as its first point and the steps from there.

    Every ring leaves out its closing point; shells come before their holes.
    """
    as_multi = [shapely.multipolygons(shapely.get_parts(shape)) for shape in shapes]
    if not as_multi:
        return []
    _, points, (ring_ends, polygon_ends, shape_ends) = shapely.to_ragged_array(as_multi)
    tenths = np.rint(points * 10).astype(np.int64)
    steps = np.diff(tenths, axis=0, prepend=np.zeros((1, 2), np.int64))
    steps[ring_ends[:-1]] = tenths[ring_ends[:-1]]
    flat = steps.ravel().tolist()
    rings = [flat[2 * a : 2 * (b - 1)] for a, b in pairwise(ring_ends)]
    first_rings = polygon_ends[shape_ends]
    return [rings[a:b] for a, b in pairwise(first_rings)]


def _about(summary: dict[str, Any], grid: Grid) -> list[str]:
    skipped = summary["not_assessed"]
    lines = [f"Damage classes: {DAMAGE.name.replace('-', ' ')}. Shares are of the assessed buildings."]
    if skipped["buildings"]:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in skipped["reasons"].items())
        lines.append(f"Not assessed: {skipped['buildings']:,}. Reasons: {reasons}.")
    interval = summary["damaged"]["share_interval_sampling_only"]
    if interval:
        low, high = (f"{100 * end:.1f}" for end in interval)
        lines.append(f"Share of damaged buildings: {low} to {high} % ({summary['interval']}).")
    lines.append(describe_size(grid))
    return lines


def describe_size(grid: Grid) -> str:
    """Size and resolution of a map, in words."""
    size = f"{grid.width:,} x {grid.height:,} pixels"
    if grid.crs is not None:
        size += f" of {grid.resolution_m:.2f} m, {grid.crs.to_string()[:60]}"
    return f"Mapped at {size}; the imagery on this page may be reduced. Made with aftermap {__version__}."
