"""Draws a learning-rate range test."""

from pathlib import Path
from typing import TYPE_CHECKING

from aftermap.products.figures.sheet import COLOURS, INK, dress, panels, write_figure

if TYPE_CHECKING:
    from aftermap.learning.range_test import RangeTest

_BLUE, _ORANGE, _GREEN = COLOURS[:3]


def draw_range(path: Path, result: "RangeTest", *, title: str) -> Path:
    """Write a PNG of loss against learning rate, with the suggestion.

    Raises:
        OutputError: the file cannot be written.
    """
    found = result.suggestion
    note = "no suggestion: the loss did not fall"
    if found is not None:
        note = f"suggested {found.lr:.1e}: {found.why}"
    notes = [f"{note}; {result.stopped}"]
    figure, (axes,) = panels(title, 1, columns=1, panel_in=(7.2, 3.5), notes=notes)
    axes.plot(result.lr, result.loss, color=_BLUE, alpha=0.3, linewidth=1, label="loss of each step")
    axes.plot(result.lr, result.smooth, color=_BLUE, linewidth=2, label="smoothed")
    axes.set_xscale("log")
    if found is not None:
        marks = ((found.steepest, _GREEN, "steepest descent"), (found.tenth, _ORANGE, "tenth of the lowest"))
        for lr, colour, label in marks:
            style = "-" if lr == found.lr else "--"
            axes.axvline(lr, color=colour, linestyle=style, linewidth=1.5, label=f"{label} {lr:.1e}")
        lowest = result.lr.index(found.minimum)
        axes.plot(found.minimum, result.smooth[lowest], "o", color=_BLUE, markeredgecolor="white")
    top, bottom = max(result.smooth[0], min(result.smooth)), min(*result.smooth, *result.loss)
    rise = max(top - bottom, 1e-6)
    axes.set_ylim(bottom - 0.08 * rise, min(max(result.loss), top + 1.5 * rise) + 0.08 * rise)
    dress(axes, "", "learning rate")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left")
    return write_figure(path, figure)
