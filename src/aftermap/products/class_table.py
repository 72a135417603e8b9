"""Prints the scores of a map of many classes."""

import math

from rich.console import Group
from rich.table import Table

from aftermap.scoring.class_scores import Averages, ClassScores


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
