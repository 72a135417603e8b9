"""Draws a learning-rate range test, and a search: its history and how the measure depends on each parameter."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from aftermap.products.figures.sheet import FAINT, GRID, INK, blank, dress, say, write_figure

if TYPE_CHECKING:
    from aftermap.learning.range_test import RangeTest

_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"
_PANEL_IN = (3.9, 2.9)
_COLUMNS = 3

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class DrawnTrial:
    """A trial as a point.

    Attributes:
        number: counted from 0.
        state: how it ended.
        value: the measure; of a pruned trial the last one known, None where there is none.
        parameters: by recipe key.
    """

    number: int
    state: State
    value: float | None
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SearchPicture:
    """What is drawn of a search.

    Attributes:
        title: heading.
        metric: name of the measure.
        higher_is_better: its direction.
        trials: in order of number.
        keys: recipe keys that were searched; those in `log` have a logarithmic axis.
        importance: share of each key, empty where it is not known.
        method: how it was found.
    """

    title: str
    metric: str
    higher_is_better: bool
    trials: Sequence[DrawnTrial]
    keys: Sequence[str]
    log: frozenset[str] = frozenset()
    importance: Mapping[str, float] = field(default_factory=dict)
    method: str = ""


def draw_range(path: Path, result: "RangeTest", *, title: str) -> Path:
    """Write a PNG of loss against learning rate, with the suggestion.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = blank(7.2, 4.2, title)
    axes = figure.add_axes((0.09, 0.13, 0.88, 0.68))
    axes.plot(result.lr, result.loss, color=_BLUE, alpha=0.3, linewidth=1, label="loss of each step")
    axes.plot(result.lr, result.smooth, color=_BLUE, linewidth=2, label="smoothed")
    axes.set_xscale("log")
    found = result.suggestion
    if found is None:
        note = "no suggestion: the loss did not fall"
    else:
        note = f"suggested {found.lr:.1e}: {found.why}"
        marks = ((found.steepest, _GREEN, "steepest descent"), (found.tenth, _ORANGE, "tenth of the lowest"))
        for lr, colour, label in marks:
            style = "-" if lr == found.lr else "--"
            axes.axvline(lr, color=colour, linestyle=style, linewidth=1.5, label=f"{label} {lr:.1e}")
        lowest = result.lr.index(found.minimum)
        axes.plot(found.minimum, result.smooth[lowest], "o", color=_BLUE, markeredgecolor="white")
    top, bottom = max(result.smooth[0], min(result.smooth)), min(*result.smooth, *result.loss)
    rise = max(top - bottom, 1e-6)
    axes.set_ylim(bottom - 0.08 * rise, min(max(result.loss), top + 1.5 * rise) + 0.08 * rise)
    say(figure, f"{note}; {result.stopped}", 0.55, size=9, color=FAINT)
    dress(axes, "", "learning rate")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left")
    return write_figure(path, figure)


def draw_search(path: Path, picture: SearchPicture) -> Path:
    """Write a PNG: the trials in order with the best so far, the importances, and a slice for each parameter.

    Raises:
        ValueError: no trial has a value.
        OutputError: the file cannot be written.
    """
    if not any(_is_shown(trial) for trial in picture.trials):
        raise ValueError("no trial has a value")
    panels = 1 + bool(picture.importance) + len(picture.keys)
    columns = min(_COLUMNS, panels)
    rows = -(-panels // columns)
    width, height = columns * _PANEL_IN[0], rows * _PANEL_IN[1] + 0.65
    figure = blank(width, height, picture.title)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=0.6 / width,
        right=1 - 0.15 / width,
        top=1 - 0.95 / height,
        bottom=0.5 / height,
        wspace=0.68 / (_PANEL_IN[0] - 0.7),
        hspace=0.85 / (_PANEL_IN[1] - 0.8),
    )
    places = iter(grid[divmod(number, columns)] for number in range(panels))
    limits = _limits(picture)
    _history(figure.add_subplot(next(places)), picture, limits)
    if picture.importance:
        _importance(figure.add_subplot(next(places)), picture)
    for key in picture.keys:
        _slice(figure.add_subplot(next(places)), picture, key, limits)
    return write_figure(path, figure)


def best_so_far(trials: Sequence[DrawnTrial], *, higher_is_better: bool) -> list[tuple[int, float]]:
    """Number and best value up to there of every complete trial."""
    best: list[tuple[int, float]] = []
    for trial in trials:
        if trial.state != "complete" or trial.value is None:
            continue
        value = trial.value
        if best:
            value = max(best[-1][1], value) if higher_is_better else min(best[-1][1], value)
        best.append((trial.number, value))
    return best


def _history(axes: Axes, picture: SearchPicture, limits: tuple[float, float]) -> None:
    for state, marker, colour in _MARKERS:
        points = [(t.number, t.value) for t in picture.trials if t.state == state and _is_shown(t)]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=5, label=state)
    line = best_so_far(picture.trials, higher_is_better=picture.higher_is_better)
    if line:
        line.append((picture.trials[-1].number, line[-1][1]))
        axes.step(*zip(*line, strict=True), where="post", color=_ORANGE, linewidth=1.6, label="best so far")
    for number in (t.number for t in picture.trials if t.state == "failed"):
        axes.plot(number, 0.03, "x", color=INK, markersize=5, transform=axes.get_xaxis_transform())
    axes.set_ylim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    failed = sum(t.state == "failed" for t in picture.trials)
    dress(axes, f"{picture.metric} by trial" + (f" (×: {failed} failed)" if failed else ""), "trial")
    axes.set_xlabel("trial", loc="left")
    axes.legend(  # beside the axis label: nothing is hidden there
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        loc="upper right",
        bbox_to_anchor=(1.03, -0.08),
        ncols=4,
        columnspacing=1.0,
        handletextpad=0.3,
        handlelength=1.2,
    )


def _importance(axes: Axes, picture: SearchPicture) -> None:
    ordered = sorted(picture.importance.items(), key=lambda item: item[1])
    axes.barh(range(len(ordered)), [share for _, share in ordered], color=_GREEN, height=0.6)
    for row, (name, share) in enumerate(ordered):
        axes.text(0.01, row + 0.42, f"{_short(name)}  {share:.2f}", size=8, color=INK, parse_math=False)
    axes.set_yticks([])
    axes.set_ylim(-0.5, len(ordered) - 0.2)
    axes.set_xlim(0, 1)
    dress(axes, f"importance ({picture.method})", "")
    axes.grid(axis="x", color=GRID, linewidth=0.8)


def _slice(axes: Axes, picture: SearchPicture, key: str, limits: tuple[float, float]) -> None:
    shown = [t for t in picture.trials if _is_shown(t) and key in t.parameters]
    values = [t.parameters[key] for t in shown]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    names = [] if numeric else list(dict.fromkeys(str(v) for v in values))
    for state, marker, colour in _MARKERS:
        points = [
            (v if numeric else names.index(str(v)), t.value)
            for t, v in zip(shown, values, strict=True)
            if t.state == state
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=5)
    complete = [t for t in shown if t.state == "complete" and t.value is not None]
    if complete:
        choose = max if picture.higher_is_better else min
        best = choose(complete, key=lambda t: t.value or 0.0)
        x = best.parameters[key] if numeric else names.index(str(best.parameters[key]))
        axes.plot(
            x,
            best.value or 0.0,
            "o",
            markersize=10,
            color=_ORANGE,
            markerfacecolor="none",
            markeredgewidth=1.6,
        )
    if key in picture.log:
        axes.set_xscale("log")
        if max(axes.get_xlim()) < 20 * min(
            axes.get_xlim()
        ):  # hardly a power of ten to name: a few plain numbers
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif not numeric:
        axes.set_xticks(range(len(names)), [textwrap.shorten(n, 18, placeholder="…") for n in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif len(set(values)) <= 6 and _are_apart(sorted({float(v) for v in values})):
        axes.set_xticks(sorted(set(values)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_ylim(*limits)
    dress(axes, _short(key), "")


def _are_apart(values: list[float]) -> bool:
    """Whether labels at these places leave each other room."""
    width = values[-1] - values[0]
    return all(after - before > 0.12 * width for before, after in itertools.pairwise(values))


_MARKERS = (("complete", "o", _BLUE), ("pruned", "v", "#b5b5b5"))


def _is_shown(trial: DrawnTrial) -> bool:
    return trial.state != "failed" and trial.value is not None and math.isfinite(trial.value)


def _limits(picture: SearchPicture) -> tuple[float, float]:
    """Range of the measure: far outliers on the bad side, such as losses that exploded, are cut off."""
    values = sorted(t.value for t in picture.trials if t.value is not None and _is_shown(t))
    low, high = values[0], values[-1]
    if len(values) >= 4 and not picture.higher_is_better:
        high = min(high, low + 4 * max(values[len(values) // 2] - low, 1e-9))
    room = max(high - low, 1e-3 * max(abs(high), 1e-6))
    return low - 0.08 * room, high + 0.08 * room


def _short(key: str) -> str:
    return key if len(key) <= 34 else "…" + key[-33:]
