"""Draws what a leaderboard's numbers do not say: whether probabilities can be believed, and what silence buys."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from aftermap.products.figures.sheet import COLOURS, DPI, FAINT, panels

_DASHES = ("-", "--", ":")
_LEAST = 20  # buildings that a point of reliability rests on

_SHOWN = {
    "localization_f1": "localization F1",
    "auc_damaged": "AUC damaged",
    "macro_f1": "macro F1 of given buildings",
}


def draw_shots(entrants: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of three figures over the number of labelled scenes: thick lines are means over events, thin ones events.

    Args:
        entrants: rows of a few-shot `benchmark.json`; those that say no `shots` are left aside.
    """
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for entrant in entrants:
        if "shots" in entrant:
            name = entrant["name"] if not entrant["shots"] else entrant["against"]["name"]
            curves.setdefault(str(name), []).append(entrant)
    figure, axes = panels(
        "Adapted with so many labelled scenes of the event",
        len(_SHOWN),
        columns=len(_SHOWN),
        panel_in=(3.6, 3.4),
        notes=["thick: mean over events; thin: each event"],
    )
    for place, (name, rows) in enumerate(curves.items()):
        rows.sort(key=lambda row: int(row["shots"]))
        shots = [row["shots"] for row in rows]
        colour = COLOURS[place % len(COLOURS)]
        for panel, measure in zip(axes, _SHOWN, strict=True):
            for fold in rows[0]["folds"]:
                values = [_known(row["folds"][fold]["values"].get(measure)) for row in rows]
                panel.plot(shots, values, color=colour, linewidth=0.8, alpha=0.6)
            means = [_known(row["mean"]["values"].get(measure)) for row in rows]
            panel.plot(shots, means, color=colour, linewidth=2.4, marker="o", markersize=4, label=name)
    for panel, title in zip(axes, _SHOWN.values(), strict=True):
        panel.set(xlabel="labelled scenes", title=title)
        panel.set_xticks(sorted({int(row["shots"]) for rows in curves.values() for row in rows}))
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    return _png(figure)


def _known(value: float | None) -> float:
    return math.nan if value is None else value


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
            "left: on the line, a class of 80 % is right four times in five (points of 20 buildings and more); "
            "right: the surest are told first"
        ],
    )
    believed.plot([0.25, 1], [0.25, 1], color=FAINT, linewidth=1, linestyle=":")
    for place, entrant in enumerate(entrants):
        look: dict[str, Any] = {
            "color": COLOURS[place % len(COLOURS)],
            "linestyle": _DASHES[place // len(COLOURS) % len(_DASHES)],
            "label": str(entrant["name"]),
        }
        points = [(sure, right) for sure, right, count in entrant["reliability"] if count >= _LEAST]
        believed.plot(*zip(*points, strict=True) if points else ((), ()), marker="o", markersize=3.5, **look)
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
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
