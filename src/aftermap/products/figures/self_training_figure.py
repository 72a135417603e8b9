"""Draws a self-training: per round what was taken of the pool, its classes and the verdict; and labels over images."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aftermap.classes import IGNORE, ClassScheme
from aftermap.products.figures.sheet import write_figure

_INK, _FAINT, _GRID, _REFUSED = "#222222", "#6b6b6b", "#dddddd", "#c8203c"
_BEFORE, _AFTER, _LABELLED = "#9a9a9a", "#0072b2", "#222222"
_UNKNOWN = (255, 0, 200)
_DPI = 120
_WIDTH_IN, _ROUND_IN, _HEAD_IN, _FOOT_IN = 12.0, 2.75, 0.55, 0.45
_ROW_TITLES = {
    "sure": "labels the teacher is sure of",
    "unsure": "labels it is less sure of",
    "rejected": "rejected",
    "negative": "negatives",
}
_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What is drawn of a round.

    Attributes:
        title: number, verdict and reason.
        counts: scenes by what became of them.
        shares: of the pixels, by class with the background first: among the labelled, predicted, and as learned from.
        scores: before and after by name, and whether that was accepted; NaN where nothing was measured.
    """

    title: str
    counts: Mapping[str, int]
    shares: Mapping[str, tuple[float, float, float]]
    scores: Mapping[str, tuple[float, float, bool]]


@dataclass(frozen=True, slots=True)
class LabelSample:
    """A scene of the pool.

    Attributes:
        kind: `sure`, `unsure`, `rejected` or `negative`.
        name: of the scene.
        image: uint8 (H, W, 3).
        labels: uint8 (H, W), classes and IGNORE.
    """

    kind: str
    name: str
    image: np.ndarray
    labels: np.ndarray


def draw_self_training(
    path: Path,
    rounds: Sequence[RoundFacts],
    samples: Sequence[LabelSample],
    *,
    scheme: ClassScheme,
    title: str,
) -> Path:
    """Write a PNG with three charts per round, then a row of scenes for each kind of sample.

    Args:
        path: the file, written in one step.
        rounds: at least one.
        samples: of the last round; three of a kind are shown, each as image and with its labels.
        scheme: names and colours of the classes.
        title: heading.

    Raises:
        ValueError: no round.
        OutputError: the file cannot be written.
    """
    if not rounds:
        raise ValueError("no round to draw, expected one or more")
    kinds = [kind for kind in _ROW_TITLES if any(sample.kind == kind for sample in samples)]
    row_in = _WIDTH_IN / _COLUMNS + 0.32
    height_in = _HEAD_IN + len(rounds) * _ROUND_IN + len(kinds) * row_in + _FOOT_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, facecolor="white")
    _say(figure, title, 0.3, height_in, size=13, weight="bold")
    top = _HEAD_IN
    for facts in rounds:
        _say(figure, textwrap.shorten(facts.title, 150, placeholder=" ..."), top + 0.14, height_in, size=10)
        boxes = [(0.155, 0.145), (0.365, 0.27), (0.70, 0.285)]
        bottom = 1 - (top + _ROUND_IN - 0.5) / height_in
        panels = [figure.add_axes((x, bottom, w, (_ROUND_IN - 1.0) / height_in)) for x, w in boxes]
        _draw_counts(panels[0], facts.counts)
        _draw_shares(panels[1], facts.shares)
        _draw_scores(panels[2], facts.scores)
        top += _ROUND_IN
    for kind in kinds:
        _say(figure, _ROW_TITLES[kind], top + 0.13, height_in, size=10)
        shown = [sample for sample in samples if sample.kind == kind][: _COLUMNS // 2]
        for number, sample in enumerate(shown):
            for offset, panel in enumerate((sample.image, overlay(sample.image, sample.labels, scheme))):
                left = (2 * number + offset) / _COLUMNS
                bottom = 1 - (top + row_in - 0.04) / height_in
                axes = figure.add_axes(
                    (left + 0.003, bottom, 1 / _COLUMNS - 0.006, (row_in - 0.32) / height_in)
                )
                axes.set_axis_off()
                axes.imshow(panel, interpolation="nearest" if min(panel.shape[:2]) < 200 else "antialiased")
                if not offset:
                    name = textwrap.shorten(sample.name.replace("_", " "), 34, placeholder=" ...")
                    text = axes.text(
                        0.02, 0.02, name, transform=axes.transAxes, size=6.5, color="white", parse_math=False
                    )
                    text.set_bbox({"facecolor": "black", "alpha": 0.55, "pad": 1.5, "edgecolor": "none"})
        top += row_in
    _key(figure, scheme)
    return write_figure(path, figure)


def overlay(image: np.ndarray, labels: np.ndarray, scheme: ClassScheme, opacity: float = 0.55) -> np.ndarray:
    """Image uint8 (H, W, 3) with labels (H, W) over it: classes in their colours, unknown pixels striped.

    The background stays as it is.
    """
    palette = np.zeros((256, 3), np.float32)
    for index, colour in enumerate(scheme.colours):
        palette[index] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    palette[IGNORE] = _UNKNOWN
    rows, cols = np.indices(labels.shape)
    spacing = max(2, min(labels.shape) // 24)
    striped = (labels == IGNORE) & ((rows + cols) % (2 * spacing) < spacing)
    covered = striped | ((labels != IGNORE) & (labels != scheme.background))
    mixed = image * (1 - opacity) + palette[labels] * opacity
    painted: np.ndarray = np.where(covered[..., None], mixed, image).astype(np.uint8)
    return painted


def _say(
    figure: Figure, text: str, down_in: float, height_in: float, *, size: float, weight: str = "normal"
) -> None:
    """A line at a distance from the top."""
    figure.text(
        0.01,
        1 - down_in / height_in,
        text,
        size=size,
        weight=weight,
        color=_INK,
        va="center",
        parse_math=False,
    )


def _draw_counts(axes: Axes, counts: Mapping[str, int]) -> None:
    names = [textwrap.fill(name, 22) for name in counts]
    values = list(counts.values())
    colours = [_REFUSED if name.startswith("rejected") else _AFTER for name in counts]
    axes.barh(range(len(values)), values, color=colours, height=0.62)
    axes.set_yticks(range(len(values)), names, size=8)
    axes.invert_yaxis()
    for row, value in enumerate(values):
        axes.text(value, row, f" {value}", va="center", size=8, color=_INK)
    axes.set_xlim(0, max([*values, 1]) * 1.25)
    axes.set_xticks([])
    _plain(axes, "scenes of the pool")


def _draw_shares(axes: Axes, shares: Mapping[str, tuple[float, float, float]]) -> None:
    names = list(shares)[1:]  # the background is the rest
    where = np.arange(len(names))
    looks = [("labelled scenes", _LABELLED), ("predicted", _BEFORE), ("learned from", _AFTER)]
    largest = 0.0
    for series, (label, colour) in enumerate(looks):
        values = [100 * shares[name][series] for name in names]
        largest = max([largest, *values])
        axes.bar(where + (series - 1) * 0.27, values, 0.25, color=colour, label=label)
        for x, value in zip(where + (series - 1) * 0.27, values, strict=True):
            axes.text(x, value, f"{value:.3g}", ha="center", va="bottom", size=6.5, color=_INK)
    axes.set_ylim(0, max(largest, 1e-9) * 1.3)
    axes.set_xticks(where, [name.replace("-", "\n") for name in names], size=8)
    if len(names) == 1:
        axes.set_xlim(-0.9, 0.9)
    axes.tick_params(axis="y", labelsize=7, colors=_FAINT)
    axes.legend(fontsize=6.5, frameon=False, ncols=3, loc="upper center", handlelength=1, columnspacing=1)
    _plain(axes, "share of the known pixels, %")


def _draw_scores(axes: Axes, scores: Mapping[str, tuple[float, float, bool]]) -> None:
    _plain(axes, "teacher and student, as judged")
    if not scores:
        axes.text(0.5, 0.5, "no student was trained", ha="center", va="center", size=9, color=_FAINT)
        axes.set_axis_off()
        return
    where = np.arange(len(scores))
    for series, (label, colour) in enumerate([("teacher", _BEFORE), ("student", _AFTER)]):
        values = [entry[series] for entry in scores.values()]
        places = where + (series - 0.5) * 0.38
        axes.bar(places, [0 if math.isnan(v) else v for v in values], 0.36, color=colour, label=label)
        for x, value in zip(places, values, strict=True):
            text = "-" if math.isnan(value) else f"{value:.3f}"
            axes.text(
                x, 0 if math.isnan(value) else value, text, ha="center", va="bottom", size=6.5, color=_INK
            )
    axes.set_ylim(0, 1.25)
    axes.set_yticks([0, 0.5, 1])
    axes.tick_params(axis="y", labelsize=7, colors=_FAINT)
    names = [name.replace("-", "\n") for name in scores]
    axes.set_xticks(where, names, size=8)
    for tick, (_, _, accepted) in zip(axes.get_xticklabels(), scores.values(), strict=True):
        tick.set_color(_INK if accepted else _REFUSED)
    if len(names) < 3:
        axes.set_xlim(-0.9, len(names) - 0.1)
    axes.legend(fontsize=6.5, frameon=False, ncols=2, loc="upper center", handlelength=1)


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, size=9, loc="left", color=_INK)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.tick_params(length=0)


def _key(figure: Figure, scheme: ClassScheme) -> None:
    """Colours of the classes and of what is unknown, at the foot."""
    unknown = tuple(value / 255 for value in _UNKNOWN)
    handles = [
        Patch(color=colour, label=name.replace("-", " "))
        for index, (name, colour) in enumerate(zip(scheme.names, scheme.colours, strict=True))
        if index != scheme.background
    ]
    handles.append(Patch(facecolor="white", edgecolor=unknown, hatch="////", label="unknown"))
    handles.append(Patch(color=_REFUSED, label="rejected or refused"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=8.5)
