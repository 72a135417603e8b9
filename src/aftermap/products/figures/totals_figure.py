"""Draws totals with their intervals beside the map's counts, and risk against what is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.lines import Line2D

from aftermap.products.figures.sheet import COLOURS, FAINT, dress, panels, write_figure


@dataclass(frozen=True)
class Bar:
    """A total as it is drawn.

    Attributes:
        name: of its kind.
        mapped: what the map says; None where it says nothing.
        estimate, low, high: of the sample; None without one.
    """

    name: str
    mapped: int | None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None


def draw_totals(path: Path, bars: Sequence[Bar], *, title: str, notes: Sequence[str]) -> Path:
    """Write a PNG: a row for each total, its interval as a line, the map's count as a ring.

    Raises:
        OutputError: it cannot be written.
    """
    handles = [
        Line2D([], [], color=COLOURS[0], marker="o", lw=2.5, label="estimate, 95 % interval"),
        Line2D([], [], color=FAINT, marker="o", mfc="white", ls="", label="the map's count"),
    ]
    is_estimated = any(bar.estimate is not None for bar in bars)
    shown = handles if is_estimated else handles[1:]
    figure, (axes,) = panels(
        title,
        1,
        columns=1,
        panel_in=(7.2, 0.45 * len(bars) + 0.8),
        notes=notes,
        legend=(shown, [str(handle.get_label()) for handle in shown]),
    )
    for row, bar in enumerate(bars):
        if bar.estimate is not None and bar.low is not None and bar.high is not None:
            axes.plot([bar.low, bar.high], [row, row], color=COLOURS[0], lw=2.5, solid_capstyle="butt")
            axes.plot([bar.estimate], [row], "o", color=COLOURS[0])
        if bar.mapped is not None:
            axes.plot([bar.mapped], [row], "o", mfc="white", mec=FAINT, mew=1.6, zorder=4, ms=7)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(left=0)
    dress(axes, "", "buildings", lines="x")
    return write_figure(path, figure)


def draw_risk(path: Path, curve: Sequence[Mapping[str, float]], *, risk: float, note: str) -> Path:
    """Write a PNG: the share of wrong classes among what is told, against the share of buildings that is told.

    Raises:
        OutputError: it cannot be written.
    """
    handles = [
        Line2D([], [], color=COLOURS[0], lw=2, label="among the answers"),
        Line2D([], [], color=COLOURS[0], lw=1, ls="--", label="upper bound, 95 %"),
        Line2D([], [], color=COLOURS[1], lw=1, label=f"promised: {100 * risk:.0f} %"),
    ]
    figure, (axes,) = panels(
        "Wrong classes among the buildings that are told",
        1,
        columns=1,
        panel_in=(6.4, 3.6),
        notes=[note],
        legend=(handles, [str(handle.get_label()) for handle in handles]),
    )
    told = [100 * point["told"] for point in curve]
    axes.step(told, [100 * point["risk"] for point in curve], where="post", color=COLOURS[0], lw=2)
    axes.step(told, [100 * point["bound"] for point in curve], where="post", color=COLOURS[0], lw=1, ls="--")
    axes.axhline(100 * risk, color=COLOURS[1], lw=1)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, max(100 * risk, max(100 * point["risk"] for point in curve)) * 2)
    axes.set_ylabel("wrong class, %", fontsize=9)
    dress(axes, "", "buildings told, most confident first, %")
    return write_figure(path, figure)
