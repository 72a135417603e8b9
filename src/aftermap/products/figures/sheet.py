"""The sheet that all figures share: heading, notes and legend, then panels or rows of pictures; files written whole."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from aftermap.files import write_bytes

INK, FAINT, GRID, EMPTY, EDGE = "#222222", "#6b6b6b", "#dddddd", "#f2f2f2", "#bebebe"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of lines and points, told apart by everybody."""

DPI = 130
LETTER_IN = 0.078
"""Width of a letter of 9 points, a little more than the mean."""

CELL_IN, CAPTION_IN, GAP_IN = 1.9, 0.24, 0.06
"""Side of a picture in a row, the line below it, and the gap between two."""

_LINE_IN = 0.205

Legend = tuple[Sequence[Any], Sequence[str]]
"""Handles and labels."""


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A row of pictures.

    Attributes:
        captions: below its pictures; a single one may be as long as the row.
        pictures: uint8 (H, W, 3); words stand in an empty frame, None leaves a gap.
    """

    captions: Sequence[str]
    pictures: Sequence[np.ndarray | str | None]


def panels(
    title: str,
    number: int,
    *,
    columns: int,
    panel_in: tuple[float, float],
    notes: Sequence[str] = (),
    legend: Legend = ((), ()),
    foot: Sequence[str] = (),
) -> tuple[Figure, list[Axes]]:
    """A figure of so many empty panels, `columns` in a row, each `panel_in` inches wide and tall with its labels."""
    columns = min(columns, number)
    rows = -(-number // columns)
    width, below = columns * panel_in[0], 0.17 * len(foot) + 0.08
    figure, top = _headed(title, width, rows * panel_in[1] + below, notes, legend)
    height = figure.get_size_inches()[1]
    figure.set_layout_engine(
        "constrained", rect=(0, below / height, 1, 1 - (top + below) / height), w_pad=0.1
    )
    for line, text in enumerate(foot):
        say(figure, text, height - below + 0.05 + 0.17 * line, size=8.5, color=FAINT)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[number:]:
        spare.remove()
    return figure, axes[:number]


def pictures(
    title: str,
    headings: Sequence[str],
    rows: Sequence[PictureRow],
    *,
    notes: Sequence[str] = (),
    legend: Legend = ((), ()),
    cell_in: float = CELL_IN,
) -> tuple[Figure, list[list[Axes | None]]]:
    """A figure with a row of pictures per place under the headings of the columns, and the axes of each picture."""
    shown = [p for row in rows for p in row.pictures if isinstance(p, np.ndarray)]
    tall = min(max(p.shape[0] / p.shape[1] for p in shown), 1.6) * cell_in
    wrapped = [
        textwrap.wrap(text, int(cell_in / LETTER_IN), max_lines=4, placeholder="…") for text in headings
    ]
    names_in = 0.12 + 0.17 * max(map(len, wrapped), default=0)
    columns = max(len(row.pictures) for row in rows)
    width = columns * (cell_in + GAP_IN) + 0.2
    body = names_in + len(rows) * (tall + CAPTION_IN) + 0.1
    figure, top = _headed(title, width, body, notes, legend)
    top += names_in
    width, height = figure.get_size_inches()
    for column, lines in enumerate(wrapped):
        centre = (0.1 + column * (cell_in + GAP_IN) + cell_in / 2) / width
        place: dict[str, Any] = {"ha": "center", "va": "bottom", "color": INK, "parse_math": False}
        figure.text(centre, 1 - (top - 0.05) / height, "\n".join(lines), size=9, **place)
    made: list[list[Axes | None]] = []
    for number, row in enumerate(rows):
        upper = top + number * (tall + CAPTION_IN)
        made.append([])
        for column, picture in enumerate(row.pictures):
            corner = (0.1 + column * (cell_in + GAP_IN)) / width, 1 - (upper + tall) / height
            box = (*corner, cell_in / width, tall / height)
            made[-1].append(None if picture is None else _framed(figure.add_axes(box), picture))
        room = width if len(row.captions) == 1 else cell_in
        for column, caption in enumerate(row.captions):
            right = column * (cell_in + GAP_IN)
            say(figure, _fitting(caption, room, 8), upper + tall + 0.1, size=8, color=FAINT, right_in=right)
    return figure, made


def _framed(axes: Axes, picture: np.ndarray | str) -> Axes:
    """A picture in a thin frame, or an empty frame that says why."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=EDGE, linewidth=0.5)
    if isinstance(picture, str):
        axes.text(0.5, 0.5, picture, size=7, color=FAINT, ha="center", va="center", transform=axes.transAxes)
    else:
        is_large = min(picture.shape[:2]) > axes.get_window_extent().width
        axes.imshow(picture, interpolation="antialiased" if is_large else "nearest")
    return axes


def _headed(
    title: str, width: float, body: float, notes: Sequence[str], legend: Legend
) -> tuple[Figure, float]:
    """A sheet with all that stands above its body, and how many inches that takes."""
    width = max(width, 6.0)
    columns = legend_columns(legend[1], width)
    key = 0.46 + _LINE_IN * len(notes)
    top = key + (0.22 * -(-len(legend[1]) // columns) + 0.1 if legend[1] else 0.05)
    figure = blank(width, top + body, title)
    for line, note in enumerate(notes):
        say(figure, _fitting(note, width, 9), 0.55 + _LINE_IN * line, size=9, color=FAINT)
    if legend[1]:
        draw_legend(figure, *legend, key, columns=columns)
    return figure, top


def blank(width_in: float, height_in: float, title: str = "") -> Figure:
    """A white sheet with a heading, as much of it as fits."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        say(figure, _fitting(title, width_in, 14), 0.3, size=13, weight="bold")
    return figure


def say(
    figure: Figure,
    text: str,
    down_in: float,
    *,
    size: float,
    color: str = INK,
    weight: str = "normal",
    right_in: float = 0.0,
) -> None:
    """A line of text, `down_in` inches below the top and `right_in` from the left margin."""
    width, height = figure.get_size_inches()
    look: dict[str, Any] = {
        "size": size,
        "color": color,
        "weight": weight,
        "va": "center",
        "parse_math": False,
    }
    figure.text((0.1 + right_in) / width, 1 - down_in / height, text, **look)


def _fitting(text: str, width_in: float, size: float) -> str:
    """As much of a line as fits at a size in points."""
    return textwrap.shorten(text, int((width_in - 0.2) / (LETTER_IN * size / 9)), placeholder="…")


def dress(axes: Axes, heading: str, below: str = "", *, lines: Literal["x", "y", "both"] = "y") -> None:
    """A panel's heading, what is said below it, and thin lines behind what is drawn."""
    axes.set_title(heading, loc="left", size=10, color=INK, pad=7, parse_math=False)
    axes.set_xlabel(below, size=9, color=FAINT)
    axes.tick_params(which="both", labelsize=8.5, colors=FAINT, length=0)
    axes.grid(axis=lines, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def short(text: str, letters: int) -> str:
    """A name of at most so many letters, its end left out."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def swatches(names: Sequence[str], colours: Sequence[str]) -> tuple[list[Patch], list[str]]:
    """A legend of classes by colour."""
    handles = [Patch(facecolor=colour, edgecolor=FAINT, linewidth=0.5) for colour in colours]
    return handles, [short(name.replace("-", " "), 30) for name in names]


def unknown_swatch(colour: str = EDGE) -> Patch:
    """The handle of what is striped."""
    return Patch(facecolor="white", edgecolor=colour, hatch="////", linewidth=0.5)


def write_figure(path: Path, *figures: Figure) -> Path:
    """Write a PNG in one step, of several figures one below the other.

    Raises:
        OutputError: it cannot be written.
    """
    drawn = []
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn.append(np.asarray(canvas.buffer_rgba())[..., :3])
    width = max(image.shape[1] for image in drawn)
    right = [((0, 0), (0, width - image.shape[1]), (0, 0)) for image in drawn]
    rows = [np.pad(image, margin, constant_values=255) for image, margin in zip(drawn, right, strict=True)]
    buffer = io.BytesIO()
    Image.fromarray(np.vstack(rows)).save(buffer, "PNG")
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
    place = (0.0, 1 - down_in / figure.get_size_inches()[1])
    look: dict[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": INK, "columnspacing": 1.2}
    legend = figure.legend(
        handles=handles, labels=labels, loc="upper left", bbox_to_anchor=place, ncols=columns, **look
    )
    legend.set_in_layout(False)
    for text in legend.get_texts():
        text.set_parse_math(False)
