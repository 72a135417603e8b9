"""A map by areas as a picture: coloured by the share of damaged buildings, with scale, north and legend."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Line
from shapely.geometry.base import BaseGeometry

from aftermap.products.areas.subject import UNKNOWN_COLOUR, Subject, worst_of
from aftermap.products.figures.sheet import DPI, EDGE, FAINT, INK, write_figure

_NICE = tuple(factor * 10**power for power in range(7) for factor in (1, 2, 5))
_PLATE = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
_LABELS = 60
"""Names and counts are written into areas where there are no more."""


def draw_areas(path: Path, subject: Subject) -> Path:
    """Draw the first column that areas are coloured by.

    Raises:
        OutputError: it cannot be written.
    """
    shapes, (left, bottom, right, top), outline = subject.drawn()
    metric = subject.metrics[0]
    steps = metric.step_of(subject.frame[metric.column].to_numpy(float))
    colours = [*(step.colour for step in metric.steps), UNKNOWN_COLOUR]
    wide = (right - left) / max(top - bottom, 1e-9)
    height = min(max(8.2 / wide, 4.0), 9.0)
    figure = Figure(figsize=(11.2, height + 1.5), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.02, 1.0 / (height + 1.5), 0.74, height / (height + 1.5) - 0.06))
    rows = np.flatnonzero(~shapely.is_missing(shapes)).tolist()
    patches = [PathPatch(_line(shapes[row])) for row in rows]
    faces = [colours[steps[row]] for row in rows]
    axes.add_collection(PatchCollection(patches, facecolors=faces, edgecolors="#6d7883", linewidths=0.6))
    axes.plot(*outline.T, color=INK, linewidth=1.0, linestyle=(0, (5, 3)))
    axes.set(
        xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[], facecolor="#eef1f3"
    )
    for side in axes.spines.values():
        side.set_edgecolor(EDGE)
    for row in rows if len(rows) <= _LABELS else []:
        inside = shapely.intersection(shapes[row], shapely.box(left, bottom, right, top))
        if not inside.is_empty:
            _label(axes, inside, subject.frame.iloc[row], worst_of(subject.frame))
    length = max([m for m in _NICE if m < (right - left) / 4], default=1)
    x, y = left + (right - left) * 0.03, bottom + (top - bottom) * 0.035
    axes.plot([x, x + length], [y, y], color="white", linewidth=7, solid_capstyle="projecting")
    axes.plot([x, x + length], [y, y], color=INK, linewidth=3, solid_capstyle="butt")
    scale = f"{length // 1000} km" if length >= 1000 else f"{length} m"
    words = axes.text(x, y + (top - bottom) * 0.018, scale, fontsize=9, color=INK)
    north = axes.text(
        0.97, 0.96, "N\n↑", transform=axes.transAxes, ha="center", va="top", fontsize=11, color=INK
    )
    for text in (words, north):
        text.set_bbox(_PLATE)
    labels = [*(step.label for step in metric.steps), metric.unknown]
    handles = [
        Patch(facecolor=colour, edgecolor="#6d7883", label=f"{label}  ({int((steps[rows] == index).sum())})")
        for index, (colour, label) in enumerate(zip(colours, labels, strict=True))
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.765, 0.9),
        frameon=False,
        fontsize=9,
        title=f"{textwrap.fill(metric.label, 20)}\n(areas in brackets)",
        title_fontsize=9.5,
        alignment="left",
    )
    frame = subject.frame
    figure.text(0.02, 0.985, subject.heading, fontsize=14, weight="bold", color=INK, va="top")
    figure.text(0.02, 0.985 - 0.34 / (height + 1.5), subject.title, fontsize=10, color=FAINT, va="top")
    kinds = ["buildings"]
    if worst_of(frame):
        kinds += ["assessed", *(kind for kind in ("damaged", "destroyed") if kind in frame), "not_assessed"]
    names = {"not_assessed": "not assessable"}
    counted = "\n".join(f"{frame[kind].sum():,} {names.get(kind, kind)}" for kind in kinds)
    figure.text(0.772, 0.42, counted, fontsize=9.5, color=INK, va="top", linespacing=1.5)
    figure.text(0.02, 0.012, "\n".join(subject.facts), fontsize=8, color=FAINT, va="bottom", linespacing=1.5)
    return write_figure(path, figure)


def _label(axes: Axes, inside: BaseGeometry, area: "pd.Series[Any]", worst: str | None) -> None:
    """Write the name of an area, and how many of how many are damaged, or how many buildings there are."""
    words = [] if area["name"] is None else [textwrap.shorten(str(area["name"]), 28, placeholder="...")]
    if worst is None:
        words.append(f"{area['buildings']:,}")
    elif area["assessed"]:
        words.append(f"{area[worst]:,} of {area['assessed']:,}")
    if words:
        spot = inside.representative_point()
        text = axes.text(spot.x, spot.y, "\n".join(words), ha="center", va="center", fontsize=8, color=INK)
        text.set_bbox(_PLATE)


def _line(shape: BaseGeometry) -> Line:
    lines = [
        Line(np.asarray(ring.coords), closed=True)
        for part in shapely.get_parts(shape)
        for ring in (part.exterior, *part.interiors)
    ]
    return Line.make_compound_path(*lines)
