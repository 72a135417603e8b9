"""Draws a map as one picture: two panels over a legend with amounts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.path import Path as Outline

from aftermap.geo.grid import Grid
from aftermap.products.figures.sheet import write_figure
from aftermap.products.pictures import as_image, in_pixels
from aftermap.products.view import Kind, Objects, View

_PANEL_PX = 900
_DPI = 150
_LEGEND_CHARACTERS = 150
_INK, _SOFT, _AMBER = "#17212b", "#5a6875", "#8a5a00"


def draw_overview(path: Path, view: View, grid: Grid, *, title: str, warnings: Sequence[str] = ()) -> Path:
    """Write a PNG with both pictures side by side over the legend, about 1900 px wide.

    Args:
        path: the file to write, in one step.
        view: what the map shows.
        grid: the grid that was mapped, at full resolution.
        title: heading of the picture.
        warnings: one line each at the foot.

    Returns:
        `path`.

    Raises:
        ValueError: pictures of other proportions than the grid's.
        OutputError: the file cannot be written.
    """
    pictures = [np.asarray(as_image(picture.rgb, grid, 2 * _PANEL_PX)) for picture in view.pictures]
    classes = _legend(view)
    panel_in = _PANEL_PX / _DPI
    # Tall or flat scenes keep a readable panel: the picture is at most 2.2 times as high as a panel is wide.
    panel_height_in = panel_in * min(max(grid.height / grid.width, 0.25), 2.2)
    columns = max(1, min(len(classes), _legend_columns(classes)))
    legend_in = 0.26 * (-(-len(classes) // columns) - 1)
    foot_in = 0.5 + legend_in + 0.18 * len(warnings)
    width_in, height_in = 2 * panel_in + 0.4, panel_height_in + 0.75 + foot_in
    figure = Figure(figsize=(width_in, height_in), dpi=_DPI, facecolor="white")
    text: dict[str, Any] = {"parse_math": False, "color": _INK}
    figure.text(0.12 / width_in, 1 - 0.28 / height_in, title, size=15, weight="bold", va="center", **text)
    for column, (image, picture) in enumerate(zip(pictures, view.pictures, strict=True)):
        left = (0.12 + column * (panel_in + 0.16)) / width_in
        area = (left, foot_in / height_in, panel_in / width_in, panel_height_in / height_in)
        axes = figure.add_axes(area)
        axes.set_axis_off()
        axes.imshow(image, extent=(0, grid.width, grid.height, 0), interpolation="antialiased")
        figure.text(
            left, 1 - 0.6 / height_in, picture.heading, size=11, va="center", parse_math=False, color=_SOFT
        )
        if view.objects is not None and column == view.objects.on:
            _draw_buildings(axes, view.objects, view.kinds, grid)
    _draw_scale(axes, grid)
    handles = [Patch(facecolor=colour, label=f"{label}  {amount}") for label, colour, amount in classes]
    figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(0.04 / width_in, (foot_in - 0.25 - legend_in / 2) / height_in),
        ncols=columns,
        frameon=False,
        fontsize=11,
        handlelength=1.1,
        handleheight=1.1,
        columnspacing=1.6,
    )
    for line, warning in enumerate(warnings):
        height = (foot_in - legend_in - 0.5 - 0.18 * line) / height_in
        figure.text(0.12 / width_in, height, warning, size=9, va="center", parse_math=False, color=_AMBER)
    return write_figure(path, figure)


def _legend(view: View) -> list[tuple[str, str, str]]:
    """Label, colour and amount of each kind; of a cover only those that are there, with their shares."""
    if view.cover is None:
        return [(kind.label, kind.colour, kind.amount) for kind in view.kinds]
    return [
        (
            kind.label + (" (image alone)" if kind.background else ""),
            kind.colour,
            f"{kind.percent}, {kind.amount}",
        )
        for kind in view.kinds
        if kind.share
    ]


def _legend_columns(classes: Sequence[tuple[str, str, str]]) -> int:
    """How many columns of the longest entry fit below the panels; columns are as wide as that."""
    longest = max((len(name) + len(amount) for name, _, amount in classes), default=0)
    return max(1, int(_LEGEND_CHARACTERS / (longest + 6)))


def _draw_buildings(axes: Axes, objects: Objects, kinds: Sequence[Kind], grid: Grid) -> None:
    shapes, colours = in_pixels(objects.frame, grid), [kinds[k].colour for k in objects.kinds.tolist()]
    # Lines thin out with the buildings, so that a whole city does not become one blot of outlines.
    screen_px = (
        _PANEL_PX / grid.width * math.sqrt(float(np.median(shapely.area(shapes)))) if len(shapes) else 0
    )
    width = min(1.1, max(0.15, screen_px / 12))
    outlines = PathCollection(
        [_compound(shape) for shape in shapes],
        facecolors=[f"{colour}73" for colour in colours],
        edgecolors=colours,
        linewidths=width,
    )
    axes.add_collection(outlines)
    axes.set_xlim(0, grid.width)
    axes.set_ylim(grid.height, 0)


def _compound(shape: shapely.Geometry) -> Outline:
    """All rings as one path; holes stay open because they turn the other way."""
    rings = [ring for part in shapely.get_parts(shape) for ring in (part.exterior, *part.interiors)]
    return Outline.make_compound_path(
        *(Outline(shapely.get_coordinates(ring), closed=True) for ring in rings)
    )


def _draw_scale(axes: Axes, grid: Grid) -> None:
    unit = grid.resolution_m or 1.0
    longest = grid.width * unit / 4
    power = 10.0 ** math.floor(math.log10(longest))
    length = next(factor * power for factor in (5, 2, 1) if factor * power <= longest)
    label = f"{length:g} px" if grid.resolution_m is None else _metres(length)
    left, bottom = 0.03 * grid.width, grid.height - 0.03 * grid.width
    right = left + length / unit
    for colour, width in (("black", 4.5), ("white", 2.2)):
        axes.plot([left, right], [bottom, bottom], color=colour, lw=width, solid_capstyle="butt")
    place = ((left + right) / 2, bottom - 0.012 * grid.width)
    box = {"facecolor": "#101a24", "alpha": 0.7, "edgecolor": "none", "boxstyle": "round,pad=0.25"}
    axes.text(*place, label, color="white", size=9, ha="center", va="bottom", bbox=box)


def _metres(length: float) -> str:
    return f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
