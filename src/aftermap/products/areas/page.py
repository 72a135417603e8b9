"""Writes a map by areas as one HTML file that opens offline: coloured by a column that can be switched, and the table.

Everything stands inside it, and its content security policy forbids the network. Text from outside enters as JSON
without `<`, and the page only ever shows it as text.
"""

import math
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.files import to_plain
from aftermap.products.areas.subject import UNKNOWN_COLOUR, Subject, worst_of
from aftermap.products.page.page import fill_template

WIDTH = 1000.0
"""Units of the drawing across; a unit is a pixel on most screens."""

_SHOWN = (
    *("area_id", "name", "pcode", "buildings", "assessed", "damaged", "damaged_share"),
    *("destroyed_share", "damaged_estimate", "damaged_low", "damaged_high", "estimate_kind", "answers"),
    *(
        "not_destroyed",
        "no_damage",
        "minor_damage",
        "major_damage",
        "destroyed",
        "not_assessed",
        "not_surveyed",
    ),
    *("built_m2", "damaged_m2", "area_km2", "surveyed_share", "sources"),
)


def write_area_page(path: Path, subject: Subject) -> Path:
    """Write the page.

    Raises:
        OutputError: it cannot be written.
    """
    shapes, (left, bottom, right, top), outline = subject.drawn()
    scale = WIDTH / max(right - left, 1e-9)
    height = (top - bottom) * scale
    frame = subject.frame
    columns = [name for name in _SHOWN if name in frame.columns and _says(frame[name])]
    columns += [metric.column for metric in subject.metrics if metric.column not in columns]
    columns += [name for name in frame.columns if name.startswith("units_")]

    def on_page(xy: np.ndarray) -> np.ndarray:
        return np.column_stack([(xy[:, 0] - left) * scale, (top - xy[:, 1]) * scale])

    data = {
        "title": subject.heading,
        "areas": subject.title,
        "facts": list(subject.facts),
        "width": WIDTH,
        "height": round(height, 1),
        "metres": 1 / scale,
        "paths": [None if shape is None else _path(shapely.transform(shape, on_page)) for shape in shapes],
        "outline": _ring(on_page(outline)),
        "columns": columns,
        "titles": {metric.column: metric.label for metric in subject.metrics}
        | {
            name: f"of how many ({name.removeprefix('units_')})"
            for name in columns
            if name.startswith("units_")
        },
        "rows": [[_cell(value) for value in frame[name].astype(object)] for name in columns],
        "metrics": [_metric(subject, number) for number in range(len(subject.metrics))],
        "unknown": UNKNOWN_COLOUR,
        "worst": worst_of(frame),
    }
    assets = resources.files("aftermap.products.areas") / "assets"
    return fill_template(
        path,
        assets,
        "areas.html",
        title=f"{subject.heading}: {subject.title}",
        data=to_plain(data),
        style="areas.css",
        script=(assets / "areas.js").read_text(encoding="utf-8"),
    )


def _says(column: "pd.Series[Any]") -> bool:
    return bool(column.notna().any() and (column.name != "not_surveyed" or column.any()))


def _metric(subject: Subject, number: int) -> dict[str, Any]:
    metric = subject.metrics[number]
    values = subject.frame[metric.column].to_numpy(float)
    return {
        "column": metric.column,
        "label": metric.label,
        "unit": metric.unit,
        "unknown": metric.unknown,
        "steps": [{"colour": step.colour, "label": step.label} for step in metric.steps],
        "step": metric.step_of(values).tolist(),
    }


def _path(shape: BaseGeometry) -> str:
    return "".join(
        _ring(np.asarray(ring.coords))
        for part in shapely.get_parts(shape)
        for ring in (part.exterior, *part.interiors)
    )


def _ring(points: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1].tolist()) + "Z"


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
