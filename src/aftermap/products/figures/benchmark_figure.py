"""Draws what a leaderboard's numbers do not say: whether probabilities can be believed, and what silence buys."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from aftermap.products.figures.sheet import COLOURS, DPI, FAINT, panels

_DASHES = ("-", "--", ":")


def draw_benchmark(entrants: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of two panels: reliability of the probabilities, and risk against coverage, a line for each entrant.

    Args:
        entrants: rows of `benchmark.json`: `name`, `reliability` [[p, share right, n]], `risk_coverage` [[told, wrong]].
    """
    figure, (believed, told) = panels(
        "Given buildings: what the probabilities are worth",
        2,
        columns=2,
        panel_in=(5.2, 4.0),
        notes=[
            "left: on the line, a class of 80 % is right four times in five; right: the surest are told first"
        ],
    )
    believed.plot([0.25, 1], [0.25, 1], color=FAINT, linewidth=1, linestyle=":")
    for place, entrant in enumerate(entrants):
        look: dict[str, Any] = {
            "color": COLOURS[place % len(COLOURS)],
            "linestyle": _DASHES[place // len(COLOURS) % len(_DASHES)],
            "label": str(entrant["name"]),
        }
        if entrant["reliability"]:
            sure, right, _ = zip(*entrant["reliability"], strict=True)
            believed.plot(sure, right, marker="o", markersize=3.5, **look)
        if entrant["risk_coverage"]:
            share, risk = zip(*entrant["risk_coverage"], strict=True)
            told.plot(share, risk, **look)
    believed.set(xlabel="probability of the likeliest class", ylabel="share that is right", ylim=(0, 1.02))
    told.set(xlabel="share of the buildings that is told", ylabel="share of these that is wrong", xlim=(0, 1))
    told.set_ylim(bottom=0)
    for axes in (believed, told):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    believed.legend(frameon=False, fontsize=8, loc="upper left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
