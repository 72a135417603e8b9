"""Writes the map of any classes as one HTML file that opens offline: the image, and classes painted over it.

Each class can be shown or hidden, so the page holds their indices and not a picture of their colours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aftermap.files import to_plain
from aftermap.geo.grid import Grid
from aftermap.products.page.damage_page import (
    MAX_SIDE_PX,
    class_entry,
    describe_grid,
    describe_size,
    to_tiles,
    write_page,
)
from aftermap.products.page.overview import as_image

_SCRIPTS = ("data.js", "view.js", "page.js", "classes.js")
_HECTARE_FROM_M2 = 10_000


def write_class_map(
    path: Path,
    rgb: np.ndarray,
    classes: np.ndarray,
    grid: Grid,
    summary: dict[str, Any],
    *,
    title: str,
    warnings: Sequence[str] = (),
    model: str = "",
    valid: np.ndarray | None = None,
) -> Path:
    """Write `path`, one self-contained HTML page.

    Args:
        path: the file to write, in one step.
        rgb: the image, uint8 (H, W, 3) or (3, H, W), reduced to any size of the grid's proportions; sides above
            `MAX_SIDE_PX` are reduced further.
        classes: uint8 (H, W) class indices of the same size; those beyond the classes are not assessed.
        grid: the grid that was mapped, at full resolution.
        summary: the result of `products.class_layers.summarise_classes`.
        title: heading of the page.
        warnings: shown in a banner that cannot be closed.
        model: name and version of the model, shown below the heading.
        valid: bool (H, W); False is left transparent.

    Returns:
        `path`.

    Raises:
        ValueError: an image of other proportions.
        OutputError: the file cannot be written.
    """
    image = as_image(rgb, grid, MAX_SIDE_PX, valid=valid)
    painted = Image.fromarray(np.ascontiguousarray(classes))
    if painted.size != image.size:
        painted = painted.resize(image.size, Image.Resampling.NEAREST)
    data = {
        "title": title,
        "model": model,
        "warnings": list(warnings),
        "about": _about(summary, grid),
        "words": {"headline": _headline(summary)},
        "classes": [_entry(name, found, summary) for name, found in summary["classes"].items()],
        "columns": {"building_id": [], "damage": [], "confidence": []},
        "grid": describe_grid(grid),
        "images": {
            "width": image.width,
            "height": image.height,
            "pre": to_tiles(image),
            "post": to_tiles(painted, lossless=True),
        },
        "outlines": [],
    }
    write_page(path, to_plain(data), "classes.html", _SCRIPTS)
    return path


def ground(area_m2: float | None, pixels: int) -> str:
    """An area in words, in pixels where it is not known."""
    if area_m2 is None:
        return f"{pixels:,} px"
    if area_m2 >= _HECTARE_FROM_M2:
        return f"{area_m2 / _HECTARE_FROM_M2:,.1f} ha"
    return f"{area_m2:,.0f} m²"


def label(name: str) -> str:
    """A class's name to be read: `low_vegetation` as `Low vegetation`."""
    words = name.replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]


def _entry(name: str, found: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    share = found["share"]
    return class_entry(name, label(name), found["colour"]) | {
        "amount": ground(found["area_m2"], found["pixels"]),
        "percent": "" if share is None else f"{100 * share:.1f} %",
        "share": share or 0,
        "background": name == summary["background"],
    }


def _headline(summary: dict[str, Any]) -> list[str]:
    if not summary["assessed_px"]:
        return ["", "Nothing was assessed"]
    return [ground(summary["area_m2"], summary["assessed_px"]), f" in {len(summary['classes'])} classes"]


def _about(summary: dict[str, Any], grid: Grid) -> list[str]:
    lines = [f"Legend: {summary['legend']}. Shares are of the assessed area."]
    missed = summary["not_assessed"]
    if missed["pixels"]:
        reasons = ", ".join(f"{reason} ({pixels:,} px)" for reason, pixels in missed["reasons"].items())
        lines.append(f"Not assessed: {100 * missed['share_of_all']:.1f} %. Reasons: {reasons}.")
    lines.append(describe_size(grid))
    return lines
