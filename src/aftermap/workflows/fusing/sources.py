"""What each source says of the buildings of the first map: other maps, layers of points or polygons, rasters.

A source is opened once, and then placed on the buildings that it is fused on, which may be more than the first map's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio.features
import shapely
from shapely import affinity

from aftermap.classes import NOT_ASSESSED
from aftermap.errors import InputError
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid, Window
from aftermap.geo.polygons import to_pixels
from aftermap.geo.raster import RasterSource
from aftermap.geo.vectors import part_layer, read_marks
from aftermap.products.vectors import PROBABILITIES
from aftermap.wording import counted
from aftermap.workflows.comparing.grades import CLASSES, NO, Meaning, is_doubt
from aftermap.workflows.comparing.matching import Pairs, choose
from aftermap.workflows.comparing.truth import open_truth, xbd_labels
from aftermap.workflows.fusing.basis import Basis, paired
from aftermap.workflows.fusing.class_raster import grade_by_building, has_classes
from aftermap.workflows.fusing.pooling import Opinions
from aftermap.workflows.fusing.source import NOT_DESTROYED, ONE_DATE, Source
from aftermap.workflows.mapping.finished import FinishedMap, open_map

DAMAGED_COLUMNS = ("p_damaged", "damage_probability", "probability_damaged", "p_damage")
RASTERS = (".tif", ".tiff", ".vrt", ".jp2")
LEAST_SEEN = 0.5
"""Of a building by a raster, else it abstains."""

_ROWS = 512
_WHOLE = np.arange(len(CLASSES))
_BINARY = np.array([0, 1, 1, 1])


@dataclass(frozen=True)
class Reading:
    """How layers are understood.

    Attributes:
        within: how far a point may lie from its building, metres.
        column: of the grades.
        mapping: what its words mean.
        probability: column with the probability of damage.
        reliability: how likely a grade without a probability is right.
    """

    within: float
    column: str | None
    mapping: Mapping[str, str] | None
    probability: str | None
    reliability: float

    def as_dict(self) -> dict[str, Any]:
        """What the report says of it."""
        return {
            "within_m": self.within,
            "column": self.column,
            "mapping": None if self.mapping is None else dict(self.mapping),
            "probability": self.probability,
            "reliability": self.reliability,
        }


@dataclass(frozen=True)
class Opened:
    """A source that was read.

    Attributes:
        name: of it.
        outlines: (m,) polygons in the first map's reference system, which may be buildings that others lack.
        frame: the table of a map, row by row with `outlines`.
        place: what it says of some buildings.
    """

    name: str
    outlines: np.ndarray
    place: Callable[[Basis], Source]
    frame: geopandas.GeoDataFrame | None = None


_NO_OUTLINES = np.zeros(0, dtype=object)


def of_map(base: FinishedMap, finished: FinishedMap) -> Opened:
    """Another map, or the first one itself: building by building where the outlines are the same, else by overlap."""
    frame = finished.buildings
    same = finished is base or finished.outlines_sha256 == base.outlines_sha256
    if not same:
        if (finished.grid.crs is None) != (base.grid.crs is None):
            raise InputError(
                f"{finished.folder} and {base.folder}: one has a georeference and the other counts pixels"
            )
        if base.grid.crs is not None and finished.grid.crs != base.grid.crs:
            with transforming():
                frame = frame.to_crs(base.buildings.crs)
    outlines = _NO_OUTLINES if same else frame.geometry.to_numpy()
    return Opened(
        finished.folder.name, outlines, lambda basis: _map_on(basis, base, finished, frame, same), frame
    )


def _map_on(
    basis: Basis, base: FinishedMap, finished: FinishedMap, frame: geopandas.GeoDataFrame, same: bool
) -> Source:
    count = len(basis.buildings)
    if same:
        rows = np.where(np.arange(count) < len(frame), np.arange(count), -1)
    else:
        rows = _rows(paired(basis.buildings, base.grid, frame.geometry.to_numpy(), 0.0), count)
        if count and len(frame) and (rows < 0).all():
            raise InputError(f"no building of {finished.folder} overlaps one of {base.folder}")
    probabilities = np.full((count, len(CLASSES)), np.nan)
    words = np.full(count, "", dtype=object)
    here = rows >= 0
    theirs = frame.iloc[rows[here]]
    assessed = (theirs["damage"] != NOT_ASSESSED).to_numpy()
    is_post_only = finished.one_date == "post-only"
    if is_post_only:
        destroyed = theirs[PROBABILITIES[-1]].to_numpy(float)
        told = np.column_stack([*((1 - destroyed) / 3,) * 3, destroyed])
    else:
        told = theirs[list(PROBABILITIES)].to_numpy(float, copy=True)
    told[~assessed] = np.nan
    probabilities[here] = told / told.sum(axis=1, keepdims=True)
    words[here] = np.where(assessed, theirs["damage"].to_numpy(), "")
    allowed = np.array([[word == name for name in CLASSES] for word in words], bool).reshape(
        count, len(CLASSES)
    )
    allowed[words == NOT_DESTROYED, :-1] = True
    model = finished.provenance.get("model", {})
    seen = " from the image after alone" if is_post_only else ""
    about = f"map of {model.get('name')} {model.get('version')}{seen}"
    return Source(
        finished.folder.name,
        "map",
        Opinions(probabilities, _groups(count, ONE_DATE if is_post_only else _WHOLE)),
        words,
        allowed,
        about,
        model,
    )


def of_layer(base: FinishedMap, path: Path, reading: Reading) -> Opened:
    """Points or polygons with a probability of damage, or with grades.

    A layer with a column of probabilities speaks in these. Of a grade, each class that it may mean gets its share of
    `reliability`, the others that of the rest; a grade of doubt says nothing.
    """
    file = part_layer(path)[0]
    if not xbd_labels(file):
        marks = read_marks(path, grid=base.grid)
        column = probability_column(list(marks.columns.columns), reading)
        if column is not None:
            values = marks.columns[column]
            told = probabilities_of(path, column, values)
            return Opened(
                file.stem,
                _polygons(marks.shapes),
                lambda basis: _probabilities_on(
                    basis, base.grid, file.stem, column, marks.shapes, told, reading
                ),
            )
    truth = open_truth(path, base.grid, column=reading.column, mapping=reading.mapping)

    def place(basis: Basis) -> Source:
        pairs = paired(basis.buildings, base.grid, truth.shapes, reading.within)
        grades: list[str | None] = [None] * len(basis.buildings)
        for building, rows in _by_building(pairs).items():
            grades[building] = truth.grades[choose(rows, truth.severity, truth.grades, "worst")]
        return _graded(file.stem, grades, truth.meanings, truth.scale, reading.reliability)

    return Opened(file.stem, _polygons(truth.shapes), place)


def of_raster(base: FinishedMap, path: Path, reading: Reading) -> Opened:
    """A raster of classes, or of the probability of damage, 0 to 1.

    It holds classes where a mapping says what its values mean, or where it is `damage.tif` of a map.

    Of classes the one that holds most of an outline counts, as a grade; of probabilities their mean within it. Where less
    than half of an outline is known the source abstains.

    Raises:
        InputError: it does not touch the map, or holds other numbers.
    """
    if reading.mapping is None and not has_classes(path):
        return Opened(path.stem, _NO_OUTLINES, lambda basis: _means_on(basis, base, path))

    def place(basis: Basis) -> Source:
        grades, meanings = grade_by_building(path, basis.buildings, base.grid, reading.mapping, LEAST_SEEN)
        if not any(grades):
            raise InputError(f"{path} says nothing of any building of {base.folder}: it lies elsewhere")
        return _graded(
            path.stem, grades, meanings, "classes by pixel, most of the outline", reading.reliability
        )

    return Opened(path.stem, _NO_OUTLINES, place)


def _graded(
    name: str,
    grades: Sequence[str | None],
    meanings: Mapping[str, Meaning],
    about: str,
    reliability: float,
) -> Source:
    """Buildings with grades, each right with some probability; those without one, or with one of doubt, abstain."""
    count = len(grades)
    probabilities = np.full((count, len(CLASSES)), np.nan)
    groups = _groups(count, _WHOLE)
    words = np.full(count, "", dtype=object)
    allowed = np.zeros((count, len(CLASSES)), bool)
    for building, grade in enumerate(grades):
        if grade is None or is_doubt(meanings[grade]):
            continue
        inside = np.array([each in meanings[grade] for each in CLASSES])
        probabilities[building] = np.where(
            inside, reliability / inside.sum(), (1 - reliability) / (~inside).sum()
        )
        groups[building] = np.where(inside, 0, 1)
        words[building], allowed[building] = grade, inside
    return Source(name, "grades", Opinions(probabilities, groups), words, allowed, about)


def _means_on(basis: Basis, base: FinishedMap, path: Path) -> Source:
    mean, seen = _means(path, basis.buildings, base.grid)
    if not (seen > 0).any():
        raise InputError(
            f"{path} says nothing of any building of {base.folder}: it has no data there, or lies elsewhere"
        )
    known = mean[np.isfinite(mean)]
    if len(known) and (known.min() < 0 or known.max() > 1):
        raise InputError(
            f"{path} holds values from {known.min():.4g} to {known.max():.4g}, expected the probability of damage, 0 to 1"
        )
    mean[seen < LEAST_SEEN] = np.nan
    return _binary(path.stem, "raster", mean, "probability of damage, mean within the outline")


def probabilities_of(path: Path, column: str, values: "pd.Series[Any]") -> np.ndarray:
    """A column of probabilities as numbers, nan where a cell is empty.

    Raises:
        InputError: it holds other than numbers from 0 to 1.
    """
    try:
        told: np.ndarray = values.astype(float).to_numpy()
    except (TypeError, ValueError):
        raise InputError(
            f"{path} has other than numbers in {column}, expected probabilities from 0 to 1"
        ) from None
    known = told[np.isfinite(told)]
    if len(known) and (known.min() < 0 or known.max() > 1):
        raise InputError(
            f"{path} has {known.min():.4g} to {known.max():.4g} in {column}, expected probabilities from 0 to 1"
        )
    return told


def _probabilities_on(
    basis: Basis, grid: Grid, name: str, column: str, shapes: np.ndarray, told: np.ndarray, reading: Reading
) -> Source:
    found = np.full(len(basis.buildings), np.nan)
    for building, rows in _by_building(paired(basis.buildings, grid, shapes, reading.within)).items():
        if np.isfinite(told[rows]).any():
            found[building] = np.nanmean(told[rows])
    return _binary(name, "probabilities", found, f"column {column}")


def _binary(name: str, kind: str, damaged: np.ndarray, about: str) -> Source:
    """A source that tells damaged from undamaged only."""
    probabilities = np.column_stack([1 - damaged, *(damaged / 3,) * 3])
    words = np.where(np.isfinite(damaged), np.where(damaged >= 0.5, "damaged", NO), "").astype(object)
    allowed = np.column_stack([words == NO, *(words == "damaged",) * 3])
    return Source(name, kind, Opinions(probabilities, _groups(len(damaged), _BINARY)), words, allowed, about)


def _means(path: Path, buildings: geopandas.GeoDataFrame, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a raster's first band within each outline, and the share of its pixels that are known."""
    shapes = to_pixels(buildings.geometry.to_numpy(), grid)
    count = len(shapes)
    total, known, pixels = np.zeros(count), np.zeros(count), np.zeros(count)
    tree = shapely.STRtree(shapes)
    source = RasterSource.open(path, bands=[1], nodata="declared")
    try:
        for row in range(0, grid.height, _ROWS):
            window = Window(row, 0, min(_ROWS, grid.height - row), grid.width)
            here = np.sort(tree.query(shapely.box(0, row, grid.width, row + window.height)))
            if not len(here):
                continue
            patch = source.read(grid.crop(window))
            values, valid = patch.array[0].astype(float), patch.valid & np.isfinite(patch.array[0])
            for building in here.tolist():
                left, top, right, bottom = shapely.bounds(shapes[building])
                cols = slice(max(0, int(left)), min(grid.width, int(np.ceil(right)) + 1))
                rows = slice(max(0, int(top) - row), min(window.height, int(np.ceil(bottom)) + 1 - row))
                size = (rows.stop - rows.start, cols.stop - cols.start)
                if min(size) <= 0:
                    continue
                moved = affinity.translate(shapes[building], -cols.start, -rows.start - row)
                inside = rasterio.features.rasterize([moved], out_shape=size, all_touched=False).astype(bool)
                good = inside & valid[rows, cols]
                pixels[building] += inside.sum()
                known[building] += good.sum()
                total[building] += values[rows, cols][good].sum()
    finally:
        source.close()
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / known, np.where(pixels > 0, known / np.maximum(pixels, 1), 0.0)


def _polygons(shapes: np.ndarray) -> np.ndarray:
    found: np.ndarray = shapes[shapely.get_dimensions(shapes) == 2]
    return found


def _rows(pairs: Pairs, count: int) -> np.ndarray:
    """The row of the other layer that means each building, the first of several; -1 where none does."""
    rows = np.full(count, -1)
    rows[pairs.buildings[::-1]] = pairs.marks[::-1]
    return rows


def _by_building(pairs: Pairs) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for mark, building in zip(pairs.marks.tolist(), pairs.buildings.tolist(), strict=True):
        found.setdefault(building, []).append(mark)
    return found


def _groups(count: int, each: np.ndarray) -> np.ndarray:
    return np.tile(each, (count, 1))


def probability_column(names: Sequence[str], reading: Reading) -> str | None:
    """The column that holds the probability of damage, as asked for or by its name; None where grades are to be read."""
    by_name = {str(name).casefold(): str(name) for name in names}
    if reading.probability is not None and reading.probability.casefold() in by_name:
        return by_name[reading.probability.casefold()]
    if reading.column is not None and reading.column.casefold() in by_name:
        return None
    return next((by_name[name] for name in DAMAGED_COLUMNS if name in by_name), None)


def open_source(base: FinishedMap, path: Path, reading: Reading) -> Opened:
    """A source by what it is: the folder of a map, a raster, or a vector layer.

    Raises:
        InputError: it is none, or cannot be used.
    """
    if path.is_dir() and not any(path.glob("*_post_disaster.json")):
        return of_map(base, open_map(path, also=("post-only",)))
    if path.suffix.lower() in RASTERS:
        return of_raster(base, path, reading)
    return of_layer(base, path, reading)


def told(source: Source) -> str:
    """A source in a line of a report."""
    return f"{source.name} ({source.about}), {counted(int(source.speaks.sum()), 'building')}"
