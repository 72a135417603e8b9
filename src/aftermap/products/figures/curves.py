"""Draws runs side by side: score by step, loss, learning rate, and F1 by class of the step that was kept."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from aftermap.classes import DAMAGE
from aftermap.products.figures.sheet import (
    COLOURS,
    FAINT,
    dress,
    panels,
    write_figure,
)
from aftermap.wording import counted

MAX_RUNS = 12

_DASHES = ("-", "--")


@dataclass(frozen=True, slots=True)
class RunCurves:
    """What is drawn of a run.

    Attributes:
        label: its name in the legend.
        series: (position, value) by metric name, in order of position.
        kept: metrics of the step that was kept.
    """

    label: str
    series: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    kept: Mapping[str, float] = field(default_factory=dict)


def draw_runs(path: Path, runs: Sequence[RunCurves], *, title: str, axis: str = "step") -> Path:
    """Write a PNG with one panel for each of score, loss, learning rate and F1 by class that any run has.

    Args:
        path: the file to write, in one step.
        runs: 1 to `MAX_RUNS`.
        title: heading of the picture.
        axis: what the positions count.

    Raises:
        ValueError: no run, too many, or none with anything to draw.
        OutputError: the file cannot be written.
    """
    if not 1 <= len(runs) <= MAX_RUNS:
        raise ValueError(f"{counted(len(runs), 'run')} to draw, expected 1 to {MAX_RUNS}")
    lines = [(name, heading) for name, heading in _LINES if any(run.series.get(name) for run in runs)]
    classes = _classes(runs)
    number = len(lines) + bool(classes)
    if not number:
        raise ValueError("none of the runs has a score, a loss, a learning rate or an F1 by class")
    labels = [textwrap.shorten(run.label, 60, placeholder="…") for run in runs]
    handles = [Line2D([], [], color=_colour(i), linestyle=_dash(i), linewidth=2.4) for i in range(len(runs))]
    figure, axes = panels(title, number, columns=2, panel_in=(5.4, 3.3), legend=(handles, labels))
    for panel, (name, heading) in zip(axes, lines, strict=False):
        scale = _draw_lines(panel, runs, name)
        dress(panel, heading + scale, axis)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    if classes:
        _draw_bars(axes[-1], runs, classes)
        dress(axes[-1], "F1 by class, step kept")
    return write_figure(path, figure)


_LINES = (
    ("score", "score by which the step is kept (dot: best)"),
    ("loss", "training loss"),
    ("lr", "learning rate"),
)


def _draw_lines(axes: Axes, runs: Sequence[RunCurves], name: str) -> str:
    """Draw a metric of all runs; returns what the heading must say of the scale."""
    values = [value for run in runs for _, value in run.series.get(name, ())]
    exponent = math.floor(math.log10(max(values))) if name == "lr" and max(values) > 0 else 0
    for number, run in enumerate(runs):
        points = run.series.get(name)
        if not points:
            continue
        positions = [position for position, _ in points]
        heights = [value / 10.0**exponent for _, value in points]
        style: dict[str, Any] = {"color": _colour(number), "linewidth": 1.7, "markersize": 3}
        axes.plot(positions, heights, _dash(number), marker="o" if len(points) < 3 else None, **style)
        if name == "score":
            best = max(points, key=lambda point: point[1])
            axes.plot(*best, "o", color=_colour(number), markersize=6, markeredgecolor="white")
    last = max(position for run in runs for position, _ in run.series.get(name, ()))
    axes.set_xlim(0, 1.03 * max(last, 1))
    if name == "loss" and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    elif name == "score":
        axes.set_ylim(min(0.0, *values), min(1.0, 1.12 * max(*values, 0.05)))
    elif name == "lr":
        axes.set_ylim(0, 1.1 * max(values) / 10.0**exponent or 1)
    return f" (× 1e{exponent})" if exponent else ""


def _draw_bars(axes: Axes, runs: Sequence[RunCurves], classes: Sequence[str]) -> None:
    width = min(0.82 / len(runs), 0.1 * len(classes))
    group = width * len(runs)
    for number, run in enumerate(runs):
        for place, name in enumerate(classes):
            value = run.kept.get(_metric(name))
            if value is None:
                continue
            left = place - group / 2 + number * width
            hatch = "///" if _dash(number) != "-" else None
            axes.bar(
                left, value, width * 0.92, align="edge", color=_colour(number), hatch=hatch, edgecolor="white"
            )
            if len(runs) * len(classes) <= 15:
                axes.text(
                    left + width * 0.46, value + 0.012, f"{value:.2f}", ha="center", size=7.5, color=FAINT
                )
    axes.set_xticks(range(len(classes)), [name.replace("-", "-\n", 1) for name in classes])
    axes.set_xlim(-0.55, len(classes) - 0.45)
    axes.set_ylim(0, 1.06)


def _classes(runs: Sequence[RunCurves]) -> list[str]:
    """Building and the damage classes that any run has an F1 of, then other classes by name."""
    found = {name.removeprefix("f1_") for run in runs for name in run.kept if name.startswith("f1_")}
    known = [name for name in DAMAGE.names if name in found]
    building = ["building"] if any("localization_f1" in run.kept for run in runs) else []
    return building + known + sorted(found - set(known) - {"building"})


def _metric(name: str) -> str:
    return "localization_f1" if name == "building" else f"f1_{name}"


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _dash(number: int) -> str:
    return _DASHES[number // len(COLOURS)]
