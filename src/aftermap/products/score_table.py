"""What `aftermap score` found, as tables for the terminal."""

import math
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from aftermap.classes import DAMAGE
from aftermap.scoring.class_scores import Averages, ClassScores

_CLASSES = DAMAGE.names[1:]


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
        number(report["score"]),
        number(rule["score"]),
        interval(intervals.get("score")),
        style="bold",
    )
    official.add_row(
        "localization F1", number(report["localization_f1"]), "", interval(intervals.get("localization_f1"))
    )
    official.add_row(
        "damage F1",
        number(report["damage_f1"]),
        number(rule["damage_f1"]),
        interval(intervals.get("damage_f1")),
    )
    for name in _CLASSES:
        beside = "absent" if name in rule["absent_classes"] else ""
        spread = interval(intervals.get(f"damage_f1_per_class.{name}"))
        official.add_row(f"  {name}", number(report["damage_f1_per_class"][name]), beside, spread)

    buildings = report["buildings"]
    objects = Table(title=f"Buildings ({buildings['buildings']} with a known class)", title_justify="left")
    for column in ("", "value", "95 % interval"):
        objects.add_column(column, justify="left" if not column else "right")
    for label, key in _BUILDING_ROWS:
        objects.add_row(label, number(buildings[key]), interval(buildings["intervals"].get(key)))
    found = buildings["localization"]
    objects.add_row(
        f"found (F1 at IoU {found['iou']:g})",
        number(found["f1"]),
        interval(buildings["intervals"].get("localization_f1")),
    )
    parts: list[Table | Text] = [official, objects]
    if report["events"]:
        parts.append(_event_table(report))
    parts.append(Text(rule["rule"], style="dim"))
    return Group(*parts)


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
            number(scores[key]),
            interval(scores["intervals"].get(key)),
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
        table.add_row(Text(name), *count, *(number(scores[key], 3) for key in _MAP_COLUMNS))
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
EVENT_COLUMNS = (
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


def benchmark_table(report: dict[str, Any]) -> Table:
    """The leaderboard for the terminal: mean over folds of the figures that decide, see `benchmark.json`."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="ellipsis")
    for _, title in _BENCHMARK_COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("CPU s/Mpx", justify="right")
    for entrant in report["entrants"]:
        values = entrant["mean"]["values"]
        cells = ["-" if values[name] is None else number(values[name], 3) for name, _ in _BENCHMARK_COLUMNS]
        table.add_row(Text(entrant["name"]), *cells, number(entrant["cpu_seconds_per_mpx"], 3))
    return table


_BENCHMARK_COLUMNS = (
    ("localization_f1", "loc. F1"),
    ("official_score", "xView2"),
    ("found_f1", "found"),
    ("phantoms", "phantoms"),
    ("auc_damaged", "AUC"),
    ("accuracy", "accuracy"),
    ("none_accuracy", "(none)"),
    ("ece", "ECE"),
)


def event_rows(report: dict[str, Any]) -> list[list[str]]:
    """A row of cells for each event, see `EVENT_COLUMNS`."""
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
                *(number(value, 3) for value in figures),
                str(buildings["buildings"]),
                *(number(value, 3) for value in objects),
            ]
        )
    return rows


def _event_table(report: dict[str, Any]) -> Table:
    title = "By event (F1 of single classes: see --json)"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    first, *others = _for_terminal(list(EVENT_COLUMNS))
    table.add_column(first, overflow="ellipsis")
    for column in others:
        width = max(len(line) for line in column.splitlines())
        table.add_column(column, justify="right", no_wrap=True, min_width=width)
    for row in event_rows(report):
        table.add_row(*_for_terminal(row))
    return table


def _for_terminal(row: list[str]) -> list[str]:
    """A row without the number of scenes and the single classes, which would not fit in 80 columns."""
    return [row[0], *row[2:6], *row[6 + len(_CLASSES) :]]


def number(value: float | None, digits: int = 4) -> str:
    """A score in digits, a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval(ends: tuple[float, float] | list[float] | None) -> str:
    """The ends of an interval in words, nothing where there is none."""
    return "" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def class_table(scores: ClassScores) -> Group:
    """F1, IoU, precision and recall by class and on average, with each class's share of the labels."""
    table = Table(title=f"{scores.pixels:,} labelled pixels, accuracy {_figure(scores.accuracy)}")
    table.add_column("class")
    for heading in ("share", "F1", "IoU", "precision", "recall"):
        table.add_column(heading, justify="right")
    for index, name in enumerate(scores.names):
        share = scores.support[index] / scores.pixels if scores.pixels else math.nan
        figures = (column[index] for column in (scores.f1, scores.iou, scores.precision, scores.recall))
        table.add_row(name, f"{share:.1%}", *(_figure(value) for value in figures))
    table.add_section()
    rows = [("mean", scores.macro)]
    if scores.background is not None:
        rows.append(("mean without background", scores.macro_without_background))
    for name, averages in rows:
        table.add_row(name, "", *_row(averages))
    return Group(table)


def _row(averages: Averages) -> tuple[str, ...]:
    return tuple(_figure(v) for v in (averages.f1, averages.iou, averages.precision, averages.recall))


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
