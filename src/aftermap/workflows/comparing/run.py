"""Holds a finished map against what others found on the same ground.

OUT/compare/NAME.json      what was counted
OUT/compare/NAME.gpkg      every building and every mark without one; also .geojson, .csv and a style
OUT/compare/NAME.html      the same as a page
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import geopandas
import numpy as np
import shapely

from aftermap.errors import DataWarning, InputError
from aftermap.files import make_folder, write_json
from aftermap.geo.polygons import to_pixels
from aftermap.geo.vectors import read_area_of_interest
from aftermap.products.page.page import write_page
from aftermap.products.page.stored import page_or_ground
from aftermap.products.styles import style_layer
from aftermap.products.vectors import write_layer
from aftermap.wording import counted
from aftermap.workflows.comparing.grades import NO, Meaning, SourceName
from aftermap.workflows.comparing.imported import Imported, import_answers
from aftermap.workflows.comparing.layer import STYLE, comparison_frame, comparison_view
from aftermap.workflows.comparing.matching import Pairs, Several, choose, match, on_the_ground
from aftermap.workflows.comparing.scores import (
    LINES,
    Graded,
    Unlisted,
    score_classes,
    score_found,
    score_line,
)
from aftermap.workflows.comparing.truth import Truth, open_truth
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.mapping.inputs.memory import Vectors, on_disk

FOLDER = "compare"
_UNSAFE = set('/\\:*?"<>|')


@dataclass(frozen=True)
class Rules:
    """How marks and buildings are brought together.

    Attributes:
        within: how far a point may lie from its building's outline, metres (pixels without georeference).
        iou: least intersection over union of a polygon and its building.
        several: which of several marks on a building counts.
        unlisted: what the source says of buildings that it does not list.
        area: polygons within which it looked; all of the map by default.
    """

    within: float = 10.0
    iou: float = 0.2
    several: Several = "worst"
    unlisted: Unlisted = "unknown"
    area: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.within < 1000:
            raise InputError(f"--within {self.within:g} is no distance in metres from 0 to 1000")
        if not 0 < self.iou <= 1:
            raise InputError(f"--iou {self.iou:g} is no share above 0 and up to 1")


@dataclass(frozen=True, repr=False)
class Comparison:
    """A map held against a source.

    Attributes:
        name: of its files.
        files: that were written.
        summary: what `NAME.json` holds.
        buildings: every building and every mark without one; see `layer.comparison_frame`.
        imported: what went into the journal of answers; None where that was not asked for.
    """

    name: str
    files: tuple[Path, ...]
    summary: dict[str, Any]
    buildings: geopandas.GeoDataFrame = field(compare=False)
    imported: Imported | None = None

    def __repr__(self) -> str:
        scored = self.summary["classes"]["accuracy"]
        return f"<comparison with {self.name}: {scored['count']} of {scored['of']} buildings of one class>"


class CompareOptions(TypedDict, total=False):
    """Keywords of `compare`."""

    kind: SourceName | None
    column: str | None
    mapping: Mapping[str, str] | None
    within: float
    iou: float
    several: Several
    unlisted: Unlisted
    area: str | Path | None
    name: str | None
    as_answers: bool


def compare(
    out: Path,
    source: Vectors,
    *,
    kind: SourceName | None = None,
    column: str | None = None,
    mapping: Mapping[str, str] | None = None,
    within: float = 10.0,
    iou: float = 0.2,
    several: Several = "worst",
    unlisted: Unlisted = "unknown",
    area: str | Path | None = None,
    name: str | None = None,
    as_answers: bool = False,
) -> Comparison:
    """Hold a finished map of damage against a source; an earlier comparison of the same name is replaced.

    Args:
        out: the map's folder.
        source: see `truth.open_truth`; or a table of points and polygons.
        kind: whose scale it is in: `ems`, `dins`, `unosat`, `fema`, `xbd`; by default told by its columns.
        column: that holds the grades; by default likewise.
        mapping: what words mean: a class of the map, `damaged`, `undamaged`, `possibly-damaged` or `unknown`.
        within: how far a point may lie from its building's outline, metres (pixels without georeference).
        iou: least intersection over union of a polygon and its building.
        several: which of several marks on a building counts, the `worst` or the `most` frequent grade.
        unlisted: what the source says of buildings that it does not list: nothing (`unknown`), that they are
            `undamaged`, or that there are none (`no-building`).
        area: polygons within which the source looked; all of the map by default.
        name: of the files; by default the source's.
        as_answers: write the grades that are one class into the map's journal of answers.

    Raises:
        InputError: there is no such map, or the source cannot be used.
        OutputError: the result cannot be written.
    """
    rules = Rules(within, iou, several, unlisted, None if area is None else Path(area))
    finished = open_map(out)
    grid = finished.grid
    with on_disk() as disk:
        path = disk.vectors(source, "truth")
        if path is None:
            raise InputError("there is no source: pass a file or a table of points or polygons")
        truth = open_truth(path, grid, source=kind, column=column, mapping=mapping)
    name = _checked_name(truth.name if name is None else name)
    truth, surveyed, beyond = _within_area(finished, truth, rules)
    if truth.ungraded:
        warnings.warn(
            f"{truth.file}: {counted(truth.ungraded, 'mark')} without a grade left out",
            DataWarning,
            stacklevel=2,
        )
    pairs = match(
        on_the_ground(truth.shapes, grid),
        on_the_ground(finished.buildings.geometry.to_numpy(), grid),
        within=rules.within,
        iou=rules.iou,
    )
    chosen, conflicts = _chosen(pairs, truth, rules)
    graded, phantoms = _graded(finished, truth, chosen, surveyed, rules)
    summary = _summary(finished, truth, rules, pairs, graded, phantoms, conflicts)
    summary["marks"]["outside_area"] = beyond
    frame = comparison_frame(graded, truth, pairs, chosen, truth.classes, phantoms, grid)
    files = _write(finished, truth, name, frame, summary)
    imported = None
    if as_answers:
        imported = import_answers(finished, truth, graded, phantoms, unlisted=rules.unlisted)
    return Comparison(name, files, summary, frame, imported)


def _checked_name(name: str) -> str:
    if not name.strip() or name.startswith(".") or set(name) & _UNSAFE or not name.isprintable():
        raise InputError(f"--name {name!r} cannot be the name of files: pass a plain one")
    return name


def _within_area(finished: FinishedMap, truth: Truth, rules: Rules) -> tuple[Truth, np.ndarray, int]:
    """The marks in the area, which buildings lie there, and how many marks do not."""
    buildings = finished.buildings.geometry.to_numpy()
    if rules.area is None:
        return truth, np.ones(len(buildings), bool), 0
    area = read_area_of_interest(rules.area, grid=finished.grid)
    shapely.prepare(area)
    kept, surveyed = (
        shapely.intersects(area, shapely.point_on_surface(to_pixels(shapes, finished.grid)))
        for shapes in (truth.shapes, buildings)
    )
    if not kept.any():
        raise InputError(f"no mark of {truth.file} lies in the area {rules.area}")
    inside = replace(truth, shapes=truth.shapes[kept], grades=truth.grades[kept])
    return inside, surveyed, int((~kept).sum())


def _chosen(pairs: Pairs, truth: Truth, rules: Rules) -> tuple[dict[int, int], int]:
    """The mark that counts for each building, and how many buildings have marks of several grades."""
    marks: dict[int, list[int]] = {}
    for mark, building in zip(pairs.marks.tolist(), pairs.buildings.tolist(), strict=True):
        marks.setdefault(building, []).append(mark)
    severity = truth.severity
    chosen = {
        building: choose(rows, severity, truth.grades, rules.several) for building, rows in marks.items()
    }
    return chosen, sum(len({truth.grades[row] for row in rows}) > 1 for rows in marks.values())


def _graded(
    finished: FinishedMap, truth: Truth, chosen: dict[int, int], surveyed: np.ndarray, rules: Rules
) -> tuple[Graded, np.ndarray]:
    count = len(finished.buildings)
    meanings: list[Meaning | None] = [None] * count
    grades = [""] * count
    for building, mark in chosen.items():
        grades[building] = truth.grades[mark]
        meanings[building] = truth.meanings[grades[building]]
    unlisted = np.array([meaning is None for meaning in meanings], bool) & surveyed
    if rules.unlisted == "undamaged":
        for row in np.flatnonzero(unlisted).tolist():
            meanings[row] = frozenset({NO})
    phantoms = unlisted & (rules.unlisted == "no-building")
    return Graded(finished.buildings, meanings, grades), phantoms


def _summary(
    finished: FinishedMap,
    truth: Truth,
    rules: Rules,
    pairs: Pairs,
    graded: Graded,
    phantoms: np.ndarray,
    conflicts: int,
) -> dict[str, Any]:
    matched = np.isin(np.arange(len(truth.shapes)), pairs.marks)
    listed = np.zeros(len(graded.frame), bool)
    listed[pairs.buildings] = True
    on_map = Counter(truth.grades.tolist())
    return {
        "format": 1,
        "source": {
            "file": truth.file,
            "scale": truth.scale,
            "column": truth.column,
            "grades": {
                grade: {"marks": on_map[grade], "means": sorted(truth.meanings[grade])}
                for grade in sorted(on_map)
            },
        },
        "rules": {
            "within_m": rules.within,
            "iou": rules.iou,
            "several": rules.several,
            "unlisted": rules.unlisted,
            "area": None if rules.area is None else rules.area.name,
        },
        "map": {
            "outlines_sha256": finished.outlines_sha256,
            "model": finished.provenance.get("model", {}).get("name"),
        },
        "marks": {
            "on_map": len(truth.shapes),
            "outside": truth.outside,
            "without_grade": truth.ungraded,
            "how": dict(sorted(Counter(pairs.how.tolist()).items())),
        },
        "found": score_found(truth.grades.tolist(), matched),
        "buildings": {
            "on_map": len(graded.frame),
            "listed": int(listed.sum()),
            "of_several_grades": conflicts,
            "not_assessed": int((listed & ~graded.assessed).sum()),
            "unlisted": int((~listed).sum()),
            "no_building": int(phantoms.sum()) if rules.unlisted == "no-building" else None,
        },
        "classes": score_classes(graded, truth.classes),
        **{line: score_line(graded, above) for line, above in LINES.items()},
    }


def _write(
    finished: FinishedMap, truth: Truth, name: str, frame: geopandas.GeoDataFrame, summary: dict[str, Any]
) -> tuple[Path, ...]:
    folder = make_folder(finished.folder / FOLDER)
    layers = write_layer(frame, folder, name)
    style_layer(folder, name, STYLE, list(frame.columns))
    grid = finished.grid
    stored = page_or_ground(finished.folder / "map.html", width=grid.width, height=grid.height)
    view = comparison_view(frame, grid, stored.pictures, truth, summary)
    page = write_page(
        folder / f"{name}.html",
        view,
        grid,
        title=f"{finished.folder.name} and {name}",
        model=truth.scale,
        warnings=stored.warnings,
        stored=stored,
    )
    report = write_json(folder / f"{name}.json", summary)
    return (report, *layers, folder / f"{name}.qml", page)
