"""Draws maps of many classes: images, truth and predictions side by side, and a confusion matrix."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from aftermap.classes import IGNORE, ClassScheme
from aftermap.products.figures.sheet import (
    FAINT,
    INK,
    LETTER_IN,
    blank,
    draw_legend,
    head,
    legend_columns,
    say,
    short,
    write_figure,
)
from aftermap.scoring.class_scores import ClassScores

_EMPTY = "#f2f2f2"
_UNKNOWN = ((255, 255, 255), (190, 190, 190))
_DPI = 130


@dataclass(frozen=True, slots=True)
class Place:
    """A row of maps.

    Attributes:
        name: of the tile.
        image: uint8 (H, W, 3).
        truth: uint8 (H, W), classes of the scheme and IGNORE.
        predictions: by heading of their column, of the same size and classes.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]


def draw_confusion(path: Path, scores: ClassScores, *, title: str) -> Path:
    """Write a PNG of the confusion matrix in percent of the truth's pixels of each class.

    Raises:
        ValueError: no pixel was counted.
        OutputError: the file cannot be written.
    """
    if not scores.pixels:
        raise ValueError("no pixel was counted, so there is nothing to draw")
    counts = np.array(scores.confusion)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.where(support > 0, 100 * counts / np.maximum(support, 1), np.nan)
    classes, names = len(counts), [short(name, 28) for name in scores.names]
    rows = [f"{name}  {100 * n / scores.pixels:.1f} %" for name, n in zip(names, scores.support, strict=True)]
    longest = max(len(name) for name in names)
    cell = 0.5 if classes <= 24 else 12 / classes
    is_slanted = longest * LETTER_IN > cell
    left = 0.45 + LETTER_IN * max(len(row) for row in rows)
    top_in = 0.85 + (0.64 * LETTER_IN * longest if is_slanted else 0.1)
    beyond = 0.25 + (0.64 * LETTER_IN * len(names[-1]) if is_slanted else 0.1)  # of the last column's name
    side = classes * cell
    width = max(left + side + beyond, 0.3 + 0.122 * min(len(title), 60), 5.2)
    height = top_in + side + 0.45
    figure = blank(width, height)
    head(figure, title)
    axes = figure.add_axes((left / width, 0.45 / height, side / width, side / height))
    axes.set_facecolor(_EMPTY)
    axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    if classes <= 24:
        for row, col in np.argwhere(shares >= 0.5):
            value = shares[row, col]
            ink = "white" if value > 55 else INK
            axes.text(col, row, f"{value:.0f}", ha="center", va="center", size=8.5, color=ink)
    slant: dict[str, Any] = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if is_slanted else {}
    axes.xaxis.set_ticks_position("top")
    axes.set_xticks(range(classes), names, parse_math=False, **slant)
    axes.set_yticks(range(classes), rows, parse_math=False)
    axes.tick_params(labelsize=9, labelcolor=INK, length=0)
    axes.set_xticks(np.arange(-0.5, classes), minor=True)
    axes.set_yticks(np.arange(-0.5, classes), minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    note = "rows: truth with its share of pixels; columns: prediction in % of the row"
    say(figure, note, height - 0.2, size=8.5, color=FAINT)
    return write_figure(path, figure)


def draw_strips(path: Path, places: Sequence[Place], *, scheme: ClassScheme, title: str) -> Path:
    """Write a PNG with a row per place: image, truth and one map per method, the classes' colours below.

    Args:
        path: the file, written in one step.
        places: all with predictions of the same methods; a method that lacks a place leaves a gap.
        scheme: names and colours of the classes.
        title: heading.

    Raises:
        ValueError: no place, or a map of another size than its image, or with a value that is no class.
        OutputError: the file cannot be written.
    """
    if not places:
        raise ValueError("no place to draw, expected one or more")
    methods = list(dict.fromkeys(name for place in places for name in place.predictions))
    columns, cell, gap = 2 + len(methods), 1.9, 0.06
    tall = min(max(place.image.shape[0] / place.image.shape[1] for place in places), 1.6) * cell
    headings = [
        textwrap.wrap(name, 24, max_lines=2, placeholder="…") for name in ("image", "truth", *methods)
    ]
    present = np.unique(
        np.concatenate([np.unique(m) for place in places for m in (place.truth, *place.predictions.values())])
    )
    used = [index for index in range(len(scheme)) if index in present]
    width = columns * (cell + gap) + 0.2
    handles = [Patch(facecolor=scheme.colours[i], edgecolor=FAINT, linewidth=0.5) for i in used]
    labels = [short(scheme.names[i], 30) for i in used]
    if IGNORE in present:
        handles.append(Patch(facecolor="white", edgecolor="#bebebe", hatch="////", linewidth=0.5))
        labels.append("unknown")
    per_row = legend_columns(labels, width)
    key_rows = -(-len(labels) // per_row)
    top_in = 0.62 + 0.17 * max(len(lines) for lines in headings)
    height = top_in + len(places) * (tall + 0.24) + 0.22 * key_rows + 0.15
    figure = blank(width, height)
    head(figure, title)
    for column, lines in enumerate(headings):
        centre = (0.1 + column * (cell + gap) + cell / 2) / width
        text = "\n".join(lines)
        figure.text(
            centre,
            1 - (top_in - 0.05) / height,
            text,
            size=9.5,
            ha="center",
            va="bottom",
            color=INK,
            parse_math=False,
        )
    for row, place in enumerate(places):
        top = top_in + row * (tall + 0.24)
        panels: list[np.ndarray | None] = [place.image, painted(place.truth, scheme)]
        panels += [painted(place.predictions[m], scheme) if m in place.predictions else None for m in methods]
        for column, panel in enumerate(panels):
            if panel is None:
                continue
            if panel.shape != place.image.shape:
                raise ValueError(
                    f"a map of {place.name} is {panel.shape[:2]}, its image {place.image.shape[:2]}"
                )
            corner = (0.1 + column * (cell + gap)) / width, 1 - (top + tall) / height
            axes = figure.add_axes((*corner, cell / width, tall / height))
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(color="#bebebe", linewidth=0.5)
            is_large = column == 0 and panel.shape[1] > cell * _DPI
            axes.imshow(panel, interpolation="antialiased" if is_large else "nearest")
        name = textwrap.shorten(place.name, int(width / 0.075), placeholder="…")
        say(figure, name, top + tall + 0.1, size=8, color=FAINT)
    draw_legend(figure, handles, labels, height - 0.22 * key_rows - 0.14, columns=per_row)
    return write_figure(path, figure)


def painted(mask: np.ndarray, scheme: ClassScheme) -> np.ndarray:
    """A mask (H, W) in the colours of its classes, uint8 (H, W, 3); unknown pixels in grey stripes.

    Raises:
        ValueError: it holds a value that is no class.
    """
    strange = (mask >= len(scheme)) & (mask != IGNORE)
    if strange.any():
        raise ValueError(
            f"the mask holds {mask[strange].max()}, expected 0 to {len(scheme) - 1}, or {IGNORE} where unknown"
        )
    palette = np.zeros((256, 3), np.uint8)
    for index, colour in enumerate(scheme.colours):
        palette[index] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    image: np.ndarray = palette[mask]
    rows, cols = np.nonzero(mask == IGNORE)
    spacing = max(1, min(mask.shape) // 40)
    image[rows, cols] = np.array(_UNKNOWN, np.uint8)[(rows + cols) // spacing % 2]
    return image
