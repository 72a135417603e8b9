"""What `aftermap score` found, as terminal tables and as one picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from aftermap.classes import DAMAGE
from aftermap.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_EVENT_ROWS = 20

_CLASSES = DAMAGE.names[1:]
_COLOURS = DAMAGE.colours[1:]
_HEADER_ROWS = 1.6
_INK, _FAINT, _GRID = "#222222", "#6b6b6b", "#dddddd"


def score_tables(report: dict[str, Any]) -> Group:
    """Tables for the terminal; those of a building map where nothing else was predicted.

    Args:
        report: what `aftermap score --json` prints.
    """
    if "building_map" in report:
        return _map_tables(report["building_map"])
    rule = report["absent_class_rule"]
    intervals = report["intervals"]
    official = Table(title="xView2 score (pixels, pooled)", title_justify="left")
    for column in ("", "official", "present classes", "95 % interval (official)"):
        official.add_column(column, justify="left" if not column else "right")
    official.add_row(
        "score",
        _number(report["score"]),
        _number(rule["score"]),
        _range(intervals.get("score")),
        style="bold",
    )
    official.add_row(
        "localization F1", _number(report["localization_f1"]), "", _range(intervals.get("localization_f1"))
    )
    official.add_row(
        "damage F1",
        _number(report["damage_f1"]),
        _number(rule["damage_f1"]),
        _range(intervals.get("damage_f1")),
    )
    for name in _CLASSES:
        beside = "absent" if name in rule["absent_classes"] else ""
        spread = _range(intervals.get(f"damage_f1_per_class.{name}"))
        official.add_row(f"  {name}", _number(report["damage_f1_per_class"][name]), beside, spread)

    buildings = report["buildings"]
    objects = Table(title=f"Buildings ({buildings['buildings']} with a known class)", title_justify="left")
    for column in ("", "value", "95 % interval"):
        objects.add_column(column, justify="left" if not column else "right")
    for label, key in _BUILDING_ROWS:
        objects.add_row(label, _number(buildings[key]), _range(buildings["intervals"].get(key)))
    found = buildings["localization"]
    objects.add_row(
        f"found (F1 at IoU {found['iou']:g})",
        _number(found["f1"]),
        _range(buildings["intervals"].get("localization_f1")),
    )
    parts: list[Table | Text] = [official, objects]
    if report["events"]:
        parts.append(_event_table(report))
    parts.append(Text(rule["rule"], style="dim"))
    return Group(*parts)


def write_scorecard(report: dict[str, Any], path: Path) -> None:
    """Draw the scores as a PNG: confusion of pixels and of buildings, F1 by class, and a row per event.

    Args:
        report: what `aftermap score --json` prints.
        path: the PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = min(len(report["events"]), MAX_EVENT_ROWS)
    table_height = 0.27 * (_HEADER_ROWS + rows + (len(report["events"]) > rows)) if rows else 0.0
    height = 4.9 + table_height
    figure = Figure(figsize=(13, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    top = 1 - 1.25 / height
    bottom = (table_height + 0.75) / height
    grid = figure.add_gridspec(
        1, 3, left=0.075, right=0.985, top=top, bottom=bottom, wspace=0.34, width_ratios=[1, 1, 1.15]
    )
    _headline(figure, report, height)
    _draw_confusion(
        figure.add_subplot(grid[0]), report["confusion"]["pixels"], "Pixels on target buildings", "px"
    )
    _draw_confusion(
        figure.add_subplot(grid[1]), report["buildings"]["confusion"]["buildings"], "Buildings", ""
    )
    _draw_f1(figure.add_subplot(grid[2]), report)
    if rows:
        axes = figure.add_axes((0.03, 0.2 / height, 0.955, table_height / height))
        _draw_events(axes, report, rows)
    with replacing(path) as part:
        figure.savefig(part, format="png")


_MAP_ROWS = (
    ("Jaccard (IoU of pixels)", "jaccard"),
    ("  precision", "precision"),
    ("  recall", "recall"),
    ("  F1", "f1"),
    ("boundary IoU", "boundary_iou"),
    ("buildings found, F1", "object_f1"),
    ("  precision", "object_precision"),
    ("  recall", "object_recall"),
)
_MAP_COLUMNS = ("jaccard", "f1", "boundary_iou", "object_f1")
_LOWEST_SCENES = 5


def _map_tables(scores: dict[str, Any]) -> Group:
    count = scores["scenes"]
    title = f"Building map ({count} scene{'s' * (count != 1)}, pooled)"
    table = Table(title=title, title_justify="left")
    for column in ("", "value", "95 % interval"):
        table.add_column(column, justify="left" if not column else "right")
    for label, key in _MAP_ROWS:
        table.add_row(
            label,
            _number(scores[key]),
            _range(scores["intervals"].get(key)),
            style="bold" if key == "jaccard" else None,
        )
    parts: list[Table | Text] = [table]
    resolutions = [(_metres(group["resolution_m"]), group) for group in scores["resolutions"].values()]
    if len(resolutions) > 1:
        parts.append(_map_groups("By ground resolution", resolutions))
    if scores["events"]:
        parts.append(_map_groups("By event", list(scores["events"].items())))
    measured = [scene for scene in scores["by_scene"] if scene["jaccard"] is not None]
    if len(measured) > _LOWEST_SCENES:
        lowest = sorted(measured, key=lambda scene: float(scene["jaccard"]))[:_LOWEST_SCENES]
        title = "Lowest Jaccard (all scenes: see --json)"
        parts.append(_map_groups(title, [(scene["scene"], scene) for scene in lowest]))
    parts.append(
        Text(
            f"A building is found where outlines overlap by more than {scores['iou']:g}. Boundary IoU compares what "
            f"lies within {scores['boundary']} of the outlines.",
            style="dim",
        )
    )
    return Group(*parts)


def _map_groups(title: str, rows: list[tuple[str, dict[str, Any]]]) -> Table:
    """One row (name, scores) each, with the number of scenes where it is one of several."""
    counted = "scenes" in rows[0][1]
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="ellipsis", no_wrap=True)
    for column in (*(["scenes"] if counted else []), "Jaccard", "F1", "boundary", "buildings"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, scores in rows:
        count = [str(scores["scenes"])] if counted else []
        table.add_row(Text(name), *count, *(_number(scores[key], 3) for key in _MAP_COLUMNS))
    return table


def _metres(resolutions: list[float] | None) -> str:
    """A range of ground resolutions in words."""
    if resolutions is None:
        return "unknown"
    low, high = (f"{value:.2g}" for value in resolutions)
    return f"{low} m" if low == high else f"{low} to {high} m"


_BUILDING_ROWS = (
    ("destroyed against the rest, F1", "f1_destroyed"),
    ("damaged against not, F1", "f1_damaged"),
    ("macro-F1, four classes", "macro_f1"),
    ("macro-F1, present classes", "macro_f1_present"),
    ("accuracy", "accuracy"),
)
_EVENT_COLUMNS = (
    "\nevent",
    "\nscenes",
    "\nscore",
    "present\nclasses",
    "local-\nization",
    "\ndamage",
    *(name.replace("-", "\n") if "-" in name else f"\n{name}" for name in _CLASSES),
    "build-\nings",
    "destroyed\nbuild.",
    "macro\nbuild.",
)


def _event_rows(report: dict[str, Any]) -> list[list[str]]:
    rows = []
    for event, scores in report["events"].items():
        buildings, rule = report["buildings"]["events"][event], scores["absent_class_rule"]
        classes = scores["damage_f1_per_class"]
        figures = [
            scores["score"],
            rule["score"],
            scores["localization_f1"],
            scores["damage_f1"],
            *(None if name in rule["absent_classes"] else classes[name] for name in _CLASSES),
        ]
        objects = [buildings["f1_destroyed"], buildings["macro_f1_present"]]
        rows.append(
            [
                event,
                str(scores["scenes"]),
                *(_number(value, 3) for value in figures),
                str(buildings["buildings"]),
                *(_number(value, 3) for value in objects),
            ]
        )
    return rows


def _event_table(report: dict[str, Any]) -> Table:
    title = "By event (F1 of single classes: see --json)"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    first, *others = _for_terminal(list(_EVENT_COLUMNS))
    table.add_column(first, overflow="ellipsis")
    for column in others:
        width = max(len(line) for line in column.splitlines())
        table.add_column(column, justify="right", no_wrap=True, min_width=width)
    for row in _event_rows(report):
        table.add_row(*_for_terminal(row))
    return table


def _for_terminal(row: list[str]) -> list[str]:
    """A row without the number of scenes and the single classes, which would not fit in 80 columns."""
    return [row[0], *row[2:6], *row[6 + len(_CLASSES) :]]


def _headline(figure: "Figure", report: dict[str, Any], height: float) -> None:
    rule = report["absent_class_rule"]
    spread = _range(report["intervals"].get("score"))
    first = f"xView2 score {_number(report['score'])}" + (f"   95 % {spread}" if spread else "")
    absent = f" (absent: {', '.join(rule['absent_classes'])})" if rule["absent_classes"] else ""
    second = (
        f"localization F1 {_number(report['localization_f1'])}, damage F1 {_number(report['damage_f1'])}; over the "
        f"classes that are present: score {_number(rule['score'])}, damage F1 {_number(rule['damage_f1'])}{absent}"
    )
    count = report["scenes"]
    third = f"{count} scene{'s' * (count != 1)}, {report['buildings']['buildings']} buildings"
    figure.text(0.03, 1 - 0.40 / height, first, fontsize=16, weight="bold", color=_INK)
    figure.text(0.03, 1 - 0.66 / height, second, fontsize=10, color=_INK)
    figure.text(0.03, 1 - 0.86 / height, third, fontsize=10, color=_FAINT)


def _draw_confusion(axes: "Axes", counts: list[list[int]], title: str, unit: str) -> None:
    """Target classes as rows; the colour is the share of the row."""
    judged = np.array(counts)[1:]
    shares = judged / np.maximum(judged.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if judged[row].sum():
            colour = "white" if share > 0.55 else _INK
            axes.text(column, row - 0.12, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=10)
            label = f"{_short(int(judged[row, column]))}{' ' + unit if unit else ''}"
            axes.text(column, row + 0.22, label, ha="center", va="center", color=colour, fontsize=7.5)
        elif column == 2:
            axes.text(column, row, "not in the target", ha="center", va="center", color=_FAINT, fontsize=8.5)
    axes.set_xticks(range(5), ["missed", *(_wrap(name) for name in _CLASSES)], fontsize=8.5)
    axes.set_yticks(range(4), [_wrap(name) for name in _CLASSES], fontsize=8.5)
    axes.set_xlabel("predicted", fontsize=9, color=_FAINT)
    axes.set_ylabel("target", fontsize=9, color=_FAINT)
    axes.set_title(title, fontsize=11, loc="left", color=_INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_f1(axes: "Axes", report: dict[str, Any]) -> None:
    """Pixel and building F1 by class, with intervals."""
    pixels, buildings = report["damage_f1_per_class"], report["buildings"]
    absent = report["absent_class_rule"]["absent_classes"]
    for name in absent:
        axes.text(_CLASSES.index(name), 0.015, "absent", ha="center", va="bottom", fontsize=8.5, color=_FAINT)
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
            axes.bar(
                at,
                value,
                0.37,
                color=_COLOURS[place],
                alpha=alpha,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
            )
            low, high = intervals.get(f"{prefix}.{name}", (value, value))
            if high > low:
                spread = [[max(value - low, 0)], [max(high - value, 0)]]
                axes.errorbar(at, value, yerr=spread, color=_INK, capsize=3, linewidth=1)
            axes.text(
                at, max(value, high) + 0.015, f"{value:.2f}", ha="center", va="bottom", fontsize=8, color=_INK
            )
    axes.set_xticks(range(4), [_wrap(name) for name in _CLASSES], fontsize=8.5)
    axes.set_xlim(-0.5, 3.5)
    axes.set_ylim(0, 1.1)
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=_GRID, linewidth=0.7)
    axes.tick_params(length=0, labelsize=8.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title("F1 by class: pixels (solid), buildings (hatched)", fontsize=11, loc="left", color=_INK)


def _draw_events(axes: "Axes", report: dict[str, Any], rows: int) -> None:
    axes.set_axis_off()
    cells = _event_rows(report)
    lines = cells[:rows]
    if len(cells) > rows:
        lines.append([f"and {len(cells) - rows} more: see score.json", *[""] * (len(_EVENT_COLUMNS) - 1)])
    edges = [0.0, *np.linspace(0.25, 0.995, len(_EVENT_COLUMNS) - 1)]
    axes.set_xlim(0, 1)
    axes.set_ylim(len(lines), -_HEADER_ROWS)
    for row, line in enumerate([list(_EVENT_COLUMNS), *lines], -1):
        colour, y, align = (_FAINT, -0.15, "bottom") if row < 0 else (_INK, row + 0.5, "center")
        for edge, cell in zip(edges, line, strict=True):
            side = "right" if edge else "left"
            axes.text(edge, y, cell, ha=side, va=align, fontsize=9, color=colour, linespacing=1.15)
        axes.axhline(row + 1, color=_GRID, linewidth=0.7)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _range(interval: tuple[float, float] | list[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _short(count: int) -> str:
    for size, unit in ((1_000_000, "M"), (10_000, "k")):
        if count >= size:
            return f"{count / (1000 if unit == 'k' else size):.3g} {unit}"
    return str(count)


def _wrap(name: str) -> str:
    return name.replace("-", "\n")
