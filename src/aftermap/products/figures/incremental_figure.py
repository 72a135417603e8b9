"""Draws incremental learning: scores over the steps, and each class over the steps; maps are in `class_figure`."""

import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aftermap.products.figures.sheet import COLOURS, EMPTY, FAINT, INK, dress, panels, short, write_figure
from aftermap.scoring.continual import ContinualScores, StepScores

Runs = Mapping[str, Sequence[ContinualScores]]
"""By method, one run per seed."""

_MARKERS = ("o", "s", "^", "D", "v", "P")
_JOINT = "joint training"


def draw_curves(path: Path, runs: Runs, *, title: str, joint: Sequence[ContinualScores] = ()) -> Path:
    """Write a PNG of IoU of all, old and new classes and of micro F1 over the steps, a line per method.

    Several seeds are drawn as their mean in a band of one standard deviation. Joint training is a dashed bound: its
    IoU of the classes that a step calls all, old or new.

    Args:
        path: the file, written in one step.
        runs: of one task; they may have come to different steps.
        title: heading.
        joint: runs that learned all classes in one step, in any order.

    Raises:
        ValueError: no run, runs of different tasks, or none with a score.
        OutputError: the file cannot be written.
    """
    first = _task(runs)
    every = [run for seeds in runs.values() for run in seeds]
    shown = [
        curve
        for curve in _CURVES
        if any(not math.isnan(curve[1](step)) for run in every for step in run.steps)
    ]
    if not shown:
        raise ValueError("no step has a score to draw")
    figure, drawn = _panels(runs, title, joint, len(shown), columns=2, panel_in=(5.2, 2.9))
    for axes, (heading, value, classes) in zip(drawn, shown, strict=True):
        for place, seeds in enumerate(runs.values()):
            _line(axes, place, [[value(step) for step in run.steps] for run in seeds])
        if joint:
            _bound(axes, [_joint_value(joint, first, step, classes) for step in range(len(first.heads))])
        _dress(axes, heading, steps=len(first.heads))
    return write_figure(path, figure)


def draw_classes(path: Path, runs: Runs, *, title: str, joint: Sequence[ContinualScores] = ()) -> Path:
    """Write a PNG with a panel per class: its IoU over the steps, from the step in which it was learned.

    Classes that the test set lacks have no panel.

    Args:
        path: the file, written in one step.
        runs: of one task; they may have come to different steps.
        title: heading.
        joint: runs that learned all classes in one step, in any order; a dashed bound.

    Raises:
        ValueError: no run, runs of different tasks, or none with a score of any class.
        OutputError: the file cannot be written.
    """
    first = _task(runs)
    every = [run for seeds in runs.values() for run in seeds]
    shown = [name for name in first.names if not all(math.isnan(v) for run in every for v in run.iou(name))]
    if not shown:
        raise ValueError("no class has a score to draw")
    figure, drawn = _panels(runs, title, joint, len(shown), columns=4, panel_in=(3.0, 2.25))
    for axes, name in zip(drawn, shown, strict=True):
        learned = first.learned_at(name)
        if learned:
            axes.axvspan(-0.5, learned, color=EMPTY, linewidth=0)
        axes.axvline(learned, color=FAINT, linewidth=1.0)
        for place, seeds in enumerate(runs.values()):
            _line(axes, place, [run.iou(name) for run in seeds])
        if joint:
            bound = _class_bound(joint).get(name, math.nan)
            _bound(axes, [bound if step >= learned else math.nan for step in range(len(first.heads))])
        _dress(axes, short(name, 30), steps=len(first.heads))
        axes.set_xlabel(f"learned in step {learned}", size=8.5, color=FAINT, loc="right", labelpad=2)
    return write_figure(path, figure)


_CURVES: tuple[tuple[str, Callable[[StepScores], float], str], ...] = (
    ("IoU, all classes seen", lambda step: step.all.iou, "all"),
    ("micro F1, background counted", lambda step: step.micro_f1, "micro"),
    ("IoU, old classes (of earlier steps)", lambda step: step.old.iou, "old"),
    ("IoU, new classes (of this step)", lambda step: step.new.iou, "new"),
)


def _task(runs: Runs) -> ContinualScores:
    """The first run, once all are known to be of its task."""
    every = [(method, run) for method, seeds in runs.items() for run in seeds]
    if not every or not all(runs.values()):
        raise ValueError("no run to draw, expected one or more of every method")
    first = every[0][1]
    for method, run in every:
        if (run.names, run.heads) != (first.names, first.heads):
            raise ValueError(f"{method} learned other classes, or in other steps, than {every[0][0]}")
    return first


def _class_bound(joint: Sequence[ContinualScores]) -> dict[str, float]:
    """IoU of each class under joint training, mean over its seeds."""
    values: dict[str, list[float]] = {}
    for run in joint:
        for name in run.names:
            values.setdefault(name, []).append(run.iou(name)[-1])
    return {name: _mean(found) for name, found in values.items()}


def _joint_value(joint: Sequence[ContinualScores], task: ContinualScores, step: int, classes: str) -> float:
    """What joint training scores on the classes that a step of the task calls all, old or new."""
    if classes == "micro":
        return _mean([run.final.micro_f1 for run in joint])
    first, stop = max(1, sum(task.heads[:step])), sum(task.heads[: step + 1])
    names = {"all": task.names[1:stop], "old": task.names[1:first], "new": task.names[first:stop]}[classes]
    bound = _class_bound(joint)
    return _mean([bound.get(name, math.nan) for name in names])


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def _panels(
    runs: Runs,
    title: str,
    joint: Sequence[ContinualScores],
    number: int,
    *,
    columns: int,
    panel_in: tuple[float, float],
) -> tuple[Figure, list[Axes]]:
    """Empty panels under a legend of the methods, with what each step learned at their foot."""
    task = _task(runs)
    labels = [
        short(name, 40) + (f" ({len(seeds)} seeds)" if len(seeds) > 1 else "") for name, seeds in runs.items()
    ]
    handles = [Line2D([], [], **_style(place)) for place in range(len(runs))]
    if joint:
        labels.append(_JOINT)
        handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1.3))
    learned = (", ".join(task.names[max(1, a) : b]) for a, b in pairwise([0, *accumulate(task.heads)]))
    foot = [f"step {step}: {names}".replace(" ", "\u00a0") for step, names in enumerate(learned)]
    letters = int(max(min(columns, number) * panel_in[0], 6.0) / 0.068)
    lines = textwrap.wrap(" \u00a0·\u00a0 ".join(foot), letters, break_long_words=True)
    legend = handles, labels
    return panels(title, number, columns=columns, panel_in=panel_in, legend=legend, foot=lines)


def _line(axes: Axes, place: int, seeds: Sequence[Sequence[float]]) -> None:
    """Mean over the seeds by step, in a band of one standard deviation."""
    steps = range(max(len(values) for values in seeds))
    found = [[v[step] for v in seeds if step < len(v) and not math.isnan(v[step])] for step in steps]
    means = [_mean(values) for values in found]
    axes.plot(steps, means, **_style(place), clip_on=False, zorder=3)
    spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in found]
    if any(spread):
        low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(steps, low, high, color=_style(place)["color"], alpha=0.15, linewidth=0)


def _bound(axes: Axes, values: Sequence[float]) -> None:
    axes.plot(range(len(values)), values, color=INK, linestyle="--", linewidth=1.3, clip_on=False)
    known = [(step, value) for step, value in enumerate(values) if not math.isnan(value)]
    if len(known) == 1:  # a line needs two ends
        step, value = known[0]
        axes.plot([step - 0.3, step + 0.3], [value, value], color=INK, linestyle="--", linewidth=1.3)


def _style(place: int) -> dict[str, Any]:
    """Line and marker of a method: no two of the first 36 are alike."""
    colour, turn = place % len(COLOURS), place // len(COLOURS)
    marker = _MARKERS[(colour + turn) % len(_MARKERS)]
    return {"color": COLOURS[colour], "marker": marker, "markersize": 4.5, "linewidth": 1.7}


def _dress(axes: Axes, heading: str, *, steps: int) -> None:
    dress(axes, heading)
    axes.set_xlim(-0.5, steps - 0.5)
    axes.set_ylim(0, 1)
    axes.set_xlabel("step", size=8.5, color=FAINT, loc="left", labelpad=2)
    axes.set_xticks(range(0, steps, -(-steps // 12)))
