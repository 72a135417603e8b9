"""What figures have in common: lines of text at a distance from the top, names that fit, files written whole."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aftermap.files import write_bytes

INK, FAINT, GRID = "#222222", "#6b6b6b", "#dddddd"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of lines and points, told apart by everybody."""

DPI = 130
LETTER_IN = 0.078
"""Width of a letter of 9 points, a little more than the mean."""


def head(figure: Figure, title: str) -> None:
    """The heading, as much of it as fits."""
    room = int((figure.get_size_inches()[0] - 0.2) / 0.122)
    say(figure, textwrap.shorten(title, room, placeholder="…"), 0.3, size=13, weight="bold")


def say(
    figure: Figure, text: str, down_in: float, *, size: float, color: str = INK, weight: str = "normal"
) -> None:
    """A line of text at the left, `down_in` inches below the top."""
    width, height = figure.get_size_inches()
    figure.text(
        0.1 / width,
        1 - down_in / height,
        text,
        size=size,
        color=color,
        weight=weight,
        va="center",
        parse_math=False,
    )


def blank(width_in: float, height_in: float, title: str = "") -> Figure:
    """A white sheet with a heading."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        head(figure, title)
    return figure


def dress(axes: Axes, heading: str, below: str = "", *, lines: Literal["x", "y", "both"] = "y") -> None:
    """A panel's heading, what is said below it, and thin lines behind what is drawn."""
    axes.set_title(heading, loc="left", size=10, color=INK, pad=7, parse_math=False)
    axes.set_xlabel(below, size=9, color=FAINT)
    axes.tick_params(which="both", labelsize=8.5, colors=FAINT, length=0)
    axes.grid(axis=lines, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def short(text: str, letters: int) -> str:
    """A name of at most so many letters, its end left out."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def write_figure(path: Path, figure: Figure) -> Path:
    """Write a PNG in one step.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
    return path


def legend_columns(labels: Sequence[str], width_in: float) -> int:
    """As many columns of a legend of 9 points as fit."""
    longest = max((len(label) for label in labels), default=0)
    return max(1, int(width_in / (LETTER_IN * longest + 0.62)))


def draw_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], down_in: float, *, columns: int
) -> None:
    """A legend at the left, its upper edge `down_in` inches below the top."""
    height = figure.get_size_inches()[1]
    legend = figure.legend(
        handles=handles,
        labels=labels,
        loc="upper left",
        bbox_to_anchor=(0.0, 1 - down_in / height),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        columnspacing=1.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
