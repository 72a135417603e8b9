"""Draws a map of classes as one picture: the image beside its classes, and a legend with their shares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.geo.grid import Grid
from aftermap.products.figures.damage_overview import draw_panels
from aftermap.products.page.class_page import ground, label

_OVER_IMAGE = 0.8
_GREY = 0.75


def draw_class_overview(
    path: Path,
    rgb: np.ndarray,
    classes: np.ndarray,
    grid: Grid,
    summary: dict[str, Any],
    *,
    title: str,
    warnings: Sequence[str] = (),
) -> Path:
    """Write a PNG with the image and its classes side by side, about 1900 px wide.

    Args:
        path: the file to write, in one step.
        rgb: the image, uint8 (3, H, W), reduced to any size of the grid's proportions.
        classes: uint8 (H, W) class indices of the same size; those beyond the classes are not assessed.
        grid: the grid that was mapped, at full resolution.
        summary: the result of `products.class_layers.summarise_classes`.
        title: heading of the picture.
        warnings: one line each at the foot.

    Returns:
        `path`.

    Raises:
        ValueError: an image of other proportions.
        OutputError: the file cannot be written.
    """
    found = summary["classes"]
    painted = [(row["index"], row["colour"]) for name, row in found.items() if name != summary["background"]]
    legend = [
        (
            _name(name, summary),
            row["colour"],
            f"{100 * row['share']:.1f} %, {ground(row['area_m2'], row['pixels'])}",
        )
        for name, row in found.items()
        if row["pixels"]
    ]
    panels = [("Image", rgb), ("Classes", paint(rgb, classes, dict(painted)))]
    return draw_panels(path, panels, legend, grid, title=title, warnings=warnings)


def paint(rgb: np.ndarray, classes: np.ndarray, colours: dict[int, str]) -> np.ndarray:
    """Classes in their colours over a grey image, uint8 (3, H, W); what has no colour shows the image alone.

    Args:
        rgb: uint8 (3, H, W).
        classes: uint8 (H, W).
        colours: `#rrggbb` by class index.
    """
    table, share = np.zeros((256, 3), np.float32), np.zeros(256, np.float32)
    for index, colour in colours.items():
        table[index] = tuple(bytes.fromhex(colour.removeprefix("#")))
        share[index] = _OVER_IMAGE
    grey = _GREY * rgb.astype(np.float32).mean(axis=0)
    weight = share[classes]
    mixed: np.ndarray = np.rint(grey * (1 - weight) + table[classes].transpose(2, 0, 1) * weight).astype(
        np.uint8
    )
    return mixed


def _name(name: str, summary: dict[str, Any]) -> str:
    """A class in the legend; the background is not painted."""
    return label(name) + (" (image alone)" if name == summary["background"] else "")
