"""Draws a self-training: per round what was taken of the pool, its classes and the verdict; and labels over images."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from aftermap.classes import ClassScheme
from aftermap.products.figures.painting import UNKNOWN, overlay
from aftermap.products.figures.sheet import (
    FAINT,
    INK,
    PictureRow,
    dress,
    panels,
    pictures,
    swatches,
    unknown_swatch,
    write_figure,
)

_REFUSED = "#c8203c"
_BEFORE, _AFTER, _LABELLED = "#9a9a9a", "#0072b2", "#222222"
_ROW_TITLES = {
    "sure": "labels the teacher is sure of",
    "unsure": "labels it is less sure of",
    "rejected": "rejected",
    "negative": "negatives",
}
_SAMPLES = 3


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
    shown = [index for index in range(len(scheme)) if index != scheme.background]
    handles, labels = swatches([scheme.names[i] for i in shown], [scheme.colours[i] for i in shown])
    handles += [unknown_swatch(UNKNOWN), Patch(color=_REFUSED)]
    labels += ["unknown", "rejected or refused"]
    verdicts = [facts.title for facts in rounds]
    legend = handles, labels
    size = (4.0, 2.5)
    charts, axes = panels(title, 3 * len(rounds), columns=3, panel_in=size, notes=verdicts, legend=legend)
    for number, facts in enumerate(rounds):
        _draw_counts(axes[3 * number], facts.counts)
        _draw_shares(axes[3 * number + 1], facts.shares)
        _draw_scores(axes[3 * number + 2], facts.scores)
    strips = []
    for kind, heading in _ROW_TITLES.items():
        chosen = [sample for sample in samples if sample.kind == kind][:_SAMPLES]
        if chosen:
            names = [caption for s in chosen for caption in (s.name.replace("_", " "), "")]
            labelled = [overlay(s.image, s.labels, scheme, opacity=0.55, striped=True) for s in chosen]
            both = [picture for s, over in zip(chosen, labelled, strict=True) for picture in (s.image, over)]
            strips.append(pictures(heading, [], [PictureRow(names, both)])[0])
    return write_figure(path, charts, *strips)


def _draw_counts(axes: Axes, counts: Mapping[str, int]) -> None:
    names = [textwrap.fill(name, 22) for name in counts]
    values = list(counts.values())
    colours = [_REFUSED if name.startswith("rejected") else _AFTER for name in counts]
    axes.barh(range(len(values)), values, color=colours, height=0.62)
    axes.set_yticks(range(len(values)), names, size=8)
    axes.invert_yaxis()
    for row, value in enumerate(values):
        axes.text(value, row, f" {value}", va="center", size=8, color=INK)
    axes.set_xlim(0, max([*values, 1]) * 1.25)
    axes.set_xticks([])
    dress(axes, "scenes of the pool")


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
            axes.text(x, value, f"{value:.3g}", ha="center", va="bottom", size=6.5, color=INK)
    axes.set_ylim(0, max(largest, 1e-9) * 1.3)
    axes.set_xticks(where, [name.replace("-", "\n") for name in names], size=8)
    if len(names) == 1:
        axes.set_xlim(-0.9, 0.9)
    axes.tick_params(axis="y", labelsize=7, colors=FAINT)
    axes.legend(fontsize=6.5, frameon=False, ncols=3, loc="upper center", handlelength=1, columnspacing=1)
    dress(axes, "share of the known pixels, %")


def _draw_scores(axes: Axes, scores: Mapping[str, tuple[float, float, bool]]) -> None:
    dress(axes, "teacher and student, as judged")
    if not scores:
        axes.text(0.5, 0.5, "no student was trained", ha="center", va="center", size=9, color=FAINT)
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
                x, 0 if math.isnan(value) else value, text, ha="center", va="bottom", size=6.5, color=INK
            )
    axes.set_ylim(0, 1.25)
    axes.set_yticks([0, 0.5, 1])
    axes.tick_params(axis="y", labelsize=7, colors=FAINT)
    names = [name.replace("-", "\n") for name in scores]
    axes.set_xticks(where, names, size=8)
    for tick, (_, _, accepted) in zip(axes.get_xticklabels(), scores.values(), strict=True):
        tick.set_color(INK if accepted else _REFUSED)
    if len(names) < 3:
        axes.set_xlim(-0.9, len(names) - 0.1)
    axes.legend(fontsize=6.5, frameon=False, ncols=2, loc="upper center", handlelength=1)
