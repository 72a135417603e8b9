"""Draws what `aftermap score` found: confusions, F1 by class, and a row per event."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from aftermap.classes import DAMAGE
from aftermap.products.figures.sheet import FAINT, GRID, INK, blank, dress, panels, write_figure
from aftermap.products.score_table import EVENT_COLUMNS, event_rows, interval, number
from aftermap.wording import counted

MAX_EVENT_ROWS = 20

_CLASSES = DAMAGE.names[1:]
_COLOURS = DAMAGE.colours[1:]
_PANEL_IN = (4.4, 3.7)


def write_scorecard(report: dict[str, Any], path: Path) -> None:
    """Draw the scores as a PNG: confusion of pixels and of buildings, F1 by class, and a row per event.

    Args:
        report: what `aftermap score --json` prints.
        path: the PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    title, *notes = _headlines(report)
    figure, axes = panels(title, 3, columns=3, panel_in=_PANEL_IN, notes=notes)
    _draw_confusion(axes[0], report["confusion"]["pixels"], "Pixels on target buildings", "px")
    _draw_confusion(axes[1], report["buildings"]["confusion"]["buildings"], "Buildings", "")
    _draw_f1(axes[2], report)
    rows = event_rows(report)
    write_figure(path, figure, *([_event_table(rows)] if rows else []))


def _event_table(rows: list[list[str]]) -> Figure:
    """The first rows as a table."""
    lines = rows[:MAX_EVENT_ROWS]
    if len(rows) > len(lines):
        lines.append([f"and {len(rows) - len(lines)} more: see score.json", *[""] * (len(EVENT_COLUMNS) - 1)])
    figure = blank(3 * _PANEL_IN[0], 0.27 * (len(lines) + 2))
    axes = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    axes.set_axis_off()
    widths = [0.22, *[0.78 / (len(EVENT_COLUMNS) - 1)] * (len(EVENT_COLUMNS) - 1)]
    table = axes.table(lines, colLabels=EVENT_COLUMNS, colWidths=widths, edges="horizontal", bbox=Bbox.unit())
    table.auto_set_font_size(False)
    for (row, column), cell in table.get_celld().items():
        cell.set(height=2 if row == 0 else 1, edgecolor=GRID, linewidth=0.7)
        colour, side = INK if row else FAINT, "right" if column else "left"
        cell.get_text().set(size=9, color=colour, ha=side, parse_math=False)
    return figure


def _headlines(report: dict[str, Any]) -> list[str]:
    """What stands above the picture: the score, what it is made of, and of how much."""
    rule = report["absent_class_rule"]
    spread = interval(report["intervals"].get("score"))
    absent = f" (absent: {', '.join(rule['absent_classes'])})" if rule["absent_classes"] else ""
    count = report["scenes"]
    return [
        f"xView2 score {number(report['score'])}" + (f"   95 % {spread}" if spread else ""),
        f"localization F1 {number(report['localization_f1'])}, damage F1 {number(report['damage_f1'])}; over the "
        f"classes that are present: score {number(rule['score'])}, damage F1 {number(rule['damage_f1'])}{absent}",
        f"{counted(count, 'scene')}, {counted(report['buildings']['buildings'], 'building')}",
    ]


def _draw_confusion(axes: Axes, counts: list[list[int]], title: str, unit: str) -> None:
    """Target classes as rows; the colour is the share of the row."""
    judged = np.array(counts)[1:]
    shares = judged / np.maximum(judged.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if judged[row].sum():
            colour = "white" if share > 0.55 else INK
            axes.text(column, row - 0.12, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=10)
            label = f"{_short(int(judged[row, column]))}{' ' + unit if unit else ''}"
            axes.text(column, row + 0.22, label, ha="center", va="center", color=colour, fontsize=7.5)
        elif column == 2:
            axes.text(column, row, "not in the target", ha="center", va="center", color=FAINT, fontsize=8.5)
    axes.set_xticks(range(5), ["missed", *(_wrap(name) for name in _CLASSES)])
    axes.set_yticks(range(4), [_wrap(name) for name in _CLASSES])
    dress(axes, title, "predicted")
    axes.set_ylabel("target", size=9, color=FAINT)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _draw_f1(axes: Axes, report: dict[str, Any]) -> None:
    """Pixel and building F1 by class, with intervals."""
    pixels, buildings = report["damage_f1_per_class"], report["buildings"]
    absent = report["absent_class_rule"]["absent_classes"]
    for name in absent:
        axes.text(_CLASSES.index(name), 0.015, "absent", ha="center", va="bottom", fontsize=8.5, color=FAINT)
    series = (
        (-0.2, pixels, report["intervals"], "damage_f1_per_class", 1.0, ""),
        (0.2, buildings["f1_per_class"], buildings["intervals"], "f1_per_class", 0.55, "//"),
    )
    for offset, values, intervals, prefix, alpha, hatch in series:
        for place, name in enumerate(_CLASSES):
            value = values[name]
            if value is None or name in absent:
                continue
            at = place + offset
            look: dict[str, Any] = {"alpha": alpha, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
            axes.bar(at, value, 0.37, color=_COLOURS[place], **look)
            low, high = intervals.get(f"{prefix}.{name}", (value, value))
            if high > low:
                spread = [[max(value - low, 0)], [max(high - value, 0)]]
                axes.errorbar(at, value, yerr=spread, color=INK, capsize=3, linewidth=1)
            axes.text(
                at, max(value, high) + 0.015, f"{value:.2f}", ha="center", va="bottom", fontsize=8, color=INK
            )
    axes.set_xticks(range(4), [_wrap(name) for name in _CLASSES], fontsize=8.5)
    axes.set_xlim(-0.5, 3.5)
    axes.set_ylim(0, 1.1)
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    dress(axes, "F1 by class: pixels (solid), buildings (hatched)")


def _short(count: int) -> str:
    for size, unit in ((1_000_000, "M"), (10_000, "k")):
        if count >= size:
            return f"{count / (1000 if unit == 'k' else size):.3g} {unit}"
    return str(count)


def _wrap(name: str) -> str:
    return name.replace("-", "\n")
