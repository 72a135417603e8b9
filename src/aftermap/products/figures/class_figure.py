"""Draws maps of many classes: images, truth and predictions side by side, and a confusion matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.classes import IGNORE, ClassScheme
from aftermap.products.figures.painting import painted
from aftermap.products.figures.sheet import (
    EMPTY,
    INK,
    LETTER_IN,
    PictureRow,
    panels,
    pictures,
    short,
    swatches,
    unknown_swatch,
    write_figure,
)
from aftermap.scoring.class_scores import ClassScores


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
    names_in, rows_in = (LETTER_IN * max(map(len, labels)) for labels in (names, rows))
    cell = 0.5 if classes <= 24 else 12 / classes
    is_slanted = names_in > cell
    slant_in = 0.64 * names_in if is_slanted else 0.1
    size = (classes * cell + rows_in + slant_in + 0.7, classes * cell + slant_in + 0.5)
    note = "rows: truth with its share of pixels; columns: prediction in % of the row"
    figure, (axes,) = panels(title, 1, columns=1, panel_in=size, foot=[note])
    axes.set_facecolor(EMPTY)
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
    axes.spines[:].set_visible(False)
    return write_figure(path, figure)


def draw_strips(path: Path, places: Sequence[Place], *, scheme: ClassScheme, title: str) -> Path:
    """Write a PNG with a row per place: image, truth and one map per method, under the classes' colours.

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
    rows, present = [], set()
    for place in places:
        masks = [place.truth, *(place.predictions.get(method) for method in methods)]
        for mask in masks:
            if mask is not None and mask.shape != place.image.shape[:2]:
                raise ValueError(f"a map of {place.name} is {mask.shape}, its image {place.image.shape[:2]}")
            present |= set() if mask is None else set(np.unique(mask).tolist())
        maps = [None if mask is None else painted(mask, scheme) for mask in masks]
        rows.append(PictureRow([place.name], [place.image, *maps]))
    used = [index for index in range(len(scheme)) if index in present]
    handles, labels = swatches([scheme.names[i] for i in used], [scheme.colours[i] for i in used])
    if IGNORE in present:
        handles.append(unknown_swatch())
        labels.append("unknown")
    figure, _ = pictures(title, ["image", "truth", *methods], rows, legend=(handles, labels))
    return write_figure(path, figure)
