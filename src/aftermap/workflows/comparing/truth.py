"""What others found, opened: whose it is, where its grades stand, and the geometries on the map's grid."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyproj import CRS

from aftermap.errors import FootprintError, InputError, shown
from aftermap.geo.grid import Grid
from aftermap.geo.vectors import Marks, part_layer, read_marks
from aftermap.geo.vectors.marks import place_marks
from aftermap.scales import one_scale
from aftermap.wording import counted
from aftermap.workflows.comparing.grades import (
    COLUMNS,
    SOURCES,
    Meaning,
    SourceName,
    Words,
    common_classes,
    listing,
    meanings,
    plain,
    severity,
)

Cells = list[Any]

_MAPPING = "such as --mapping 'D=destroyed,N=undamaged'"


@dataclass(frozen=True)
class Truth:
    """Graded points and polygons on a map.

    Attributes:
        name: of the file, without its ending.
        file: its name.
        scale: title of the scale.
        column: that holds the grades.
        shapes: (n,) Point, Polygon or MultiPolygon in the grid's reference system.
        grades: (n,) text, as the agency writes them.
        meanings: the classes that each grade may mean; none where it claims nothing.
        outside: how many lie beside the map.
        ungraded: how many on the map have an empty cell, and were left out.
    """

    name: str
    file: str
    scale: str
    column: str
    shapes: np.ndarray
    grades: np.ndarray
    meanings: Mapping[str, Meaning]
    outside: int = 0
    ungraded: int = 0

    @property
    def classes(self) -> tuple[Meaning, ...]:
        """The common scale of this file and the map; see `grades.common_classes`."""
        return common_classes(self.meanings.values())

    @cached_property
    def severity(self) -> list[tuple[int, int]]:
        """Of each mark; see `grades.severity`."""
        return [severity(self.meanings[grade]) for grade in self.grades.tolist()]


def open_truth(
    path: Path,
    grid: Grid,
    *,
    source: SourceName | None = None,
    column: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Truth:
    """Open a file or layer of graded points or polygons, an xBD label file or a folder of them.

    Args:
        path: any vector file, `FILE:LAYER`, a JSON file of xBD's, or a folder with its `*_post_disaster.json`.
        grid: of the map.
        source: whose scale it is; by default told by its columns and what they hold.
        column: that holds the grades; by default likewise.
        mapping: what words mean: alone with `column`, else in place of what the scale says of them.

    Raises:
        InputError: the file cannot be read, does not touch the map, holds no known scale or two, or unknown grades.
    """
    told = meanings(mapping or {})
    file = part_layer(path)[0]
    if source in ("xbd", None):
        labels = xbd_labels(file)
        if labels:
            return _xbd(file, labels, grid, told)
    marks = read_marks(path, grid=grid)
    name, cells = _grade_column(file, marks.columns, source, column)
    return _graded(file, _words(file, marks.columns, name, cells, source, told), name, marks, cells)


def _graded(file: Path, words: Words, column: str, marks: Marks, cells: Cells) -> Truth:
    """Marks with their grades; those without one are counted."""
    kept = np.array([not _is_empty(cell) for cell in cells], bool)
    if not kept.any():
        raise InputError(
            f"{file.name} has no grade on the map: {column} is empty in {counted(len(kept), 'row')}"
        )
    found = [words.grade(cell) for cell in cells]
    unknown = Counter(
        str(cell) for cell, grade, here in zip(cells, found, kept, strict=True) if here and grade is None
    )
    if unknown:
        listed = listing([f"{shown(word)} ({count})" for word, count in unknown.most_common()])
        raise InputError(
            f"{file.name} has grades in {column} that {words.title} does not know: {listed}: say what they are, such as "
            f"--mapping '{next(iter(unknown))}=unknown'"
        )
    graded = [grade for grade in found if grade is not None]
    return Truth(
        file.stem,
        file.name,
        words.title,
        column,
        marks.shapes[kept],
        np.array([name for name, _ in graded], dtype=object),
        dict(graded),
        marks.outside,
        int((~kept).sum()),
    )


def _grade_column(
    file: Path, columns: pd.DataFrame, source: SourceName | None, column: str | None
) -> tuple[str, Cells]:
    """The column of the grades and its cells; of several passes of UNOSAT's the latest grade of each row."""
    names = [str(name) for name in columns.columns]
    if column is not None:
        alike = [name for name in names if name == column]
        alike = alike or [name for name in names if name.casefold() == column.casefold()]
        if len(alike) != 1:
            raise InputError(f"{file.name} has no column {column}: its columns are {listing(names)}")
        return alike[0], columns[alike[0]].tolist()
    wanted: Sequence[SourceName] = tuple(SOURCES) if source is None else (source,)
    found: dict[str, Cells] = {}
    for key in wanted:
        for name, cells in _places(key, columns, names):
            words = Words(SOURCES[key], {})
            graded = [cell for cell in cells if not _is_empty(cell)]
            if graded and (source is not None or any(words.grade(cell) for cell in graded)):
                found.setdefault(name, cells)
    if len(found) > 1:
        raise InputError(
            f"{file.name} has grades in {len(found)} columns, {' and '.join(found)}: name one with --column, two scales "
            "are never one table"
        )
    if not found and source is not None:
        raise InputError(
            f"{file.name} has no column of {SOURCES[source].title} with a grade on the map: its columns are "
            f"{listing(names)}: name it with --column"
        )
    if not found:
        raise InputError(
            f"{file.name} has no column that is known to hold grades: its columns are {listing(names)}: pass --as "
            f"({', '.join(SOURCES)}), or --column and --mapping, {_MAPPING}"
        )
    return next(iter(found.items()))


def _places(key: SourceName, columns: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, Cells]]:
    """Columns that may hold the grades of a source, with their cells."""
    held = [n for n in names if any(re.fullmatch(pattern, n.casefold()) for pattern in COLUMNS[key])]
    main = [name for name in held if name.casefold().startswith("main")]
    if main:  # the others say what changed since the pass before
        passes = sorted(main, key=lambda name: [int(n) for n in re.findall(r"\d+", name)] or [0])
        latest = columns[passes].astype(object).ffill(axis=1).iloc[:, -1]
        return [(passes[0] if len(passes) == 1 else f"{passes[0]} to {passes[-1]}", latest.tolist())]
    return [(name, columns[name].tolist()) for name in held]


def _words(
    file: Path,
    columns: pd.DataFrame,
    name: str,
    cells: Cells,
    source: SourceName | None,
    mapping: Mapping[str, Meaning],
) -> Words:
    """The scale that the cells are in: the one named, else the one that knows all and writes most of them so.

    Raises:
        InputError: two scales are mixed, or none is known.
    """
    if source is not None:
        return Words(SOURCES[source], mapping)
    graded = list(dict.fromkeys(str(cell) for cell in cells if not _is_empty(cell)))
    if mapping and all(Words(None, mapping).grade(word) for word in graded):
        return Words(None, mapping)
    if "scale" in columns.columns and (named := one_scale(columns["scale"].tolist(), file.name)) is not None:
        return Words(named, mapping)
    known = [Words(scale, mapping) for scale in SOURCES.values()]
    count = {words.title: sum(words.grade(word) is not None for word in graded) for words in known}
    whole = [words for words in known if graded and count[words.title] == len(graded)]
    if whole:
        return _likeliest(file, name, graded, whole)
    best = max(known, key=lambda words: (count[words.title], sum(map(words.exact, graded))))
    others = [word for word in graded if best.grade(word) is None]
    also = next((words for words in known if words is not best and any(map(words.grade, others))), None)
    if also is not None:
        told = [listing([w for w in graded if words.grade(w)], 4) for words in (best, also)]
        raise InputError(
            f"{file.name} mixes two scales in {name}: {best.title} ({told[0]}) and {also.title} ({told[1]}): part the "
            "file, or say what each word is with --column and --mapping"
        )
    if not count[best.title] and graded:
        raise InputError(
            f"{file.name} holds no grade of a known scale in {name}, but {listing([shown(w) for w in graded])}: say what "
            f"its words are, {_MAPPING}"
        )
    return best


def _likeliest(file: Path, name: str, graded: Sequence[str], known: Sequence[Words]) -> Words:
    """Of scales that know every word the one whose columns are called so, and that writes most words just so.

    Raises:
        InputError: nothing tells them apart, and they mean different things, as codes do.
    """
    patterns = {SOURCES[key].title: COLUMNS[key] for key in SOURCES}

    def fits(words: Words) -> tuple[bool, int]:
        is_theirs = any(
            re.fullmatch(pattern, name.split(" to ")[0].casefold()) for pattern in patterns[words.title]
        )
        return is_theirs, sum(words.exact(word) for word in graded)

    best = max(map(fits, known))
    alike = [words for words in known if fits(words) == best]
    said = {tuple(words.grade(word)[1] for word in graded) for words in alike}  # type: ignore[index]  # all are known
    if len(said) > 1:
        raise InputError(
            f"{file.name}: what {name} holds ({listing(graded, 4)}) may be {' or '.join(w.title for w in alike)}: "
            "say which with --as, or what the words are with --mapping"
        )
    return alike[0]


def _is_empty(cell: Any) -> bool:
    return cell is None or cell is pd.NA or cell != cell or (isinstance(cell, str) and not plain(cell))


def xbd_labels(file: Path) -> list[Path]:
    """Label files of xBD: the file itself where it is one, or those in a folder."""
    if file.is_dir():
        found = sorted(file.glob("*_post_disaster.json"))
        if not found:
            raise FootprintError(
                f"{file} is a folder without *_post_disaster.json of xBD's: give a vector file"
            )
        return found
    if file.suffix.lower() != ".json" or not file.is_file():
        return []
    from aftermap.files import read_json

    try:
        tree = read_json(file)
    except InputError:
        return []
    features = tree.get("features") if isinstance(tree, dict) else None
    return [file] if isinstance(features, dict) else []


def _xbd(file: Path, labels: Sequence[Path], grid: Grid, mapping: Mapping[str, Meaning]) -> Truth:
    """Polygons of xBD's labels: by longitude and latitude where the map has a place, else by pixels."""
    from aftermap.data.readers.xbd import read_label_file

    if grid.crs is None and len(labels) > 1:
        raise FootprintError(
            f"{file} holds {len(labels)} scenes, and the map has no place: give the label file of one"
        )
    shapes: list[Any] = []
    subtypes: list[str | None] = []
    for path in labels:
        label = read_label_file(path)
        polygons = (
            dict(zip(label.uids, label.polygons, strict=True)) if grid.crs is None else dict(label.degrees)
        )
        for uid, subtype in zip(label.uids, label.subtypes, strict=True):
            if uid in polygons:
                shapes.append(polygons[uid])
                subtypes.append(subtype)
    if not shapes:
        raise FootprintError(f"{file} holds no outlines in {'pixels' if grid.crs is None else 'degrees'}")
    if all(subtype is None for subtype in subtypes):
        raise InputError(
            f"{file} grades no building: give the label file of the image after (_post_disaster.json)"
        )
    held = np.full(len(shapes), None, dtype=object)
    held[:] = shapes
    crs = None if grid.crs is None else CRS.from_epsg(4326)
    marks = place_marks(file, held, pd.DataFrame({"subtype": subtypes}), crs, grid)
    words = Words(SOURCES["xbd"], mapping)
    return _graded(file, words, "subtype", marks, marks.columns["subtype"].tolist())
