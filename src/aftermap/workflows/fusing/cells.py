"""Several sources of one event by H3 cell: for sources that share no buildings, such as points, radar and other outlines.

Of each cell every source tells a share that is damaged: of its assessed buildings or marks, or, for a raster, of its
pixels (the mean where it holds probabilities). The fused share is their mean by weight over the sources that speak there,
and the disagreement is the largest less the smallest of them.

FUSED/h3-9.gpkg, .geojson, .csv, .qml, .html
FUSED/provenance.json
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import geopandas
import numpy as np
import shapely
from pyproj import CRS

from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.errors import GeoreferenceError, InputError
from aftermap.extras import needs
from aftermap.files import check_output, replacing_folder, write_json
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.geo.raster import RasterSource
from aftermap.geo.vectors import part_layer, read_marks
from aftermap.products.areas.layers import AREA_STYLE
from aftermap.products.areas.page import write_area_page
from aftermap.products.areas.subject import BLUES, Metric, Step, Subject, share_metric
from aftermap.products.lineage import Lineage
from aftermap.products.styles import style_layer
from aftermap.products.vectors import write_layer
from aftermap.wording import counted
from aftermap.workflows.areas.basis import DEGREES, between
from aftermap.workflows.areas.counts import representative_points
from aftermap.workflows.comparing.grades import NO, Meaning, is_doubt
from aftermap.workflows.comparing.truth import open_truth, xbd_labels
from aftermap.workflows.fusing.class_raster import check_classes, classes_of
from aftermap.workflows.fusing.readings import LayerOptions, readings_of, weights_of
from aftermap.workflows.fusing.sources import RASTERS, Reading, probabilities_of, probability_column
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.mapping.inputs.dates import thinned
from aftermap.workflows.mapping.provenance import describe_grid, versions
from aftermap.workflows.mapping.work import MARKER

_MOST_PIXELS = 4_000_000
_OURS = (MARKER, "h3-*.*")


@dataclass(frozen=True)
class Voice:
    """What a source says at places.

    Attributes:
        name: of it.
        about: what its share is of, in words.
        lons: degrees of each place. lats: likewise.
        damaged: 0 to 1 at each.
    """

    name: str
    about: str
    lons: np.ndarray
    lats: np.ndarray
    damaged: np.ndarray


@dataclass(frozen=True, repr=False)
class FusedCells:
    """Several sources by cell.

    Attributes:
        folder: the output folder.
        cells: a row for each cell of which a source speaks: `damaged_share`, `disagreement`, `sources`, and `share_1`,
            `units_1` of the first source, and so on.
        sources: names of the sources, with what their shares are of.
        weights: theirs.
    """

    folder: Path
    cells: geopandas.GeoDataFrame = field(compare=False)
    sources: tuple[tuple[str, str], ...] = ()
    weights: tuple[float, ...] = ()

    def __repr__(self) -> str:
        return f"<{len(self.sources)} sources on {counted(len(self.cells), 'cell')}, in {self.folder}>"


class CellOptions(TypedDict, total=False):
    """Keywords of `fuse_cells`."""

    weights: Sequence[float] | None
    column: str | None
    mapping: Mapping[str, str] | None
    probability: str | None
    layers: Mapping[str, LayerOptions] | None
    title: str | None
    overwrite: bool


def fuse_cells(
    sources: Sequence[Path],
    out: Path,
    *,
    h3: int,
    weights: Sequence[float] | None = None,
    column: str | None = None,
    mapping: Mapping[str, str] | None = None,
    probability: str | None = None,
    layers: Mapping[str, LayerOptions] | None = None,
    title: str | None = None,
    overwrite: bool = False,
) -> FusedCells:
    """Fuse sources by H3 cell.

    Args:
        sources: a finished map, which bounds the ground, then maps, layers and rasters.
        out: folder to make.
        h3: resolution of the cells.
        weights: of the sources, above 0; all alike by default.
        column: that holds the grades of a layer; by default told by what it holds.
        mapping: what its words, or the values of a raster, mean.
        probability: column of a layer that holds the probability of damage.
        layers: the last three for single sources, by name or number, from 1.
        title: of the page.
        overwrite: replace an earlier result.

    Raises:
        InputError: a source cannot be used, tells no share, or does not lie on the map.
        OutputError: the output exists or cannot be written.
    """
    needs("--h3", "areas")
    from aftermap.workflows.areas.h3_cells import H3Cells

    cells = H3Cells(h3)
    chosen = weights_of(sources, weights)
    readings = readings_of(sources, Reading(0.0, column, mapping, probability, 0.8), layers or {})
    check_output(out, marker=MARKER, overwrite=overwrite)
    base = open_map(sources[0])
    if base.grid.crs is None:
        raise GeoreferenceError(f"{base.folder} is a map in pixels: cells of the ground need a georeference")
    voices = [_of_map(base, base)]
    voices += [_voice(base, path, reading) for path, reading in zip(sources[1:], readings[1:], strict=True)]
    frame = fused_frame(voices, chosen, cells)
    lineage = Lineage.of(base.provenance)
    subject = _subject(title or out.name, cells.slug, cells.title, frame, voices, chosen, base.grid, lineage)
    with replacing_folder(out, ours=_OURS) as folder:
        write_layer(frame, folder, cells.slug)
        style_layer(folder, cells.slug, AREA_STYLE, list(frame.columns))
        write_area_page(folder / f"{cells.slug}.html", subject)
        write_json(folder / MARKER, _provenance(base, voices, chosen, readings, h3))
    told = tuple((voice.name, voice.about) for voice in voices)
    return FusedCells(out, frame, told, tuple(chosen))


def fused_frame(voices: Sequence[Voice], weights: Sequence[float], cells: Any) -> geopandas.GeoDataFrame:
    """The table of cells.

    Args:
        voices: the sources.
        weights: theirs.
        cells: tells the cell of a point and the outline of a cell; see `workflows.areas.basis.Basis`.
    """
    keys = [cells.locate(voice.lons, voice.lats) for voice in voices]
    listed = np.unique(np.concatenate(keys))
    units, shares = np.zeros((2, len(voices), len(listed)))
    for row, (voice, key) in enumerate(zip(voices, keys, strict=True)):
        place = np.searchsorted(listed, key)
        units[row] = np.bincount(place, minlength=len(listed))
        with np.errstate(invalid="ignore", divide="ignore"):
            shares[row] = np.bincount(place, voice.damaged, len(listed)) / units[row]
    speaks = units > 0
    weight = np.array(weights, float)[:, None] * speaks
    known = np.where(speaks, shares, 0)
    fused = (weight * known).sum(axis=0) / weight.sum(axis=0)
    spread = np.where(speaks, shares, -1).max(axis=0) - np.where(speaks, shares, 2).min(axis=0)
    described = cells.describe(listed)
    table = {
        "area_id": described["area_id"].tolist(),
        "damage_scale": [DAMAGE.name] * len(listed),
        "damaged_share": np.round(fused, 4) + 0.0,
        "disagreement": np.where(speaks.sum(axis=0) > 1, np.round(spread, 4), np.nan),
        "sources": speaks.sum(axis=0),
    }
    for number in range(len(voices)):
        table[f"share_{number + 1}"] = np.where(speaks[number], np.round(shares[number], 4), np.nan)
        table[f"units_{number + 1}"] = units[number].astype(np.int64)
    return geopandas.GeoDataFrame(table, geometry=described.geometry.to_list(), crs=described.crs)


def _voice(base: FinishedMap, path: Path, reading: Reading) -> Voice:
    if path.is_dir() and not any(path.glob("*_post_disaster.json")):
        found = _of_map(base, open_map(path))
    elif path.suffix.lower() in RASTERS:
        found = _of_raster(base, path, reading)
    else:
        found = _of_layer(base, path, reading)
    if not len(found.damaged):
        raise InputError(f"{path} says nothing on the ground of {base.folder}")
    return found


def _of_map(base: FinishedMap, finished: FinishedMap) -> Voice:
    """Assessed buildings, 1 where the map takes one for damaged."""
    if finished.grid.crs is None:
        raise GeoreferenceError(
            f"{finished.folder} is a map in pixels: cells of the ground need a georeference"
        )
    lons, lats = representative_points(finished.buildings, finished.grid)
    damage = finished.buildings["damage"].to_numpy()
    kept = (damage != NOT_ASSESSED) & _on_map(lons, lats, base.grid)
    return Voice(
        finished.folder.name,
        "of its assessed buildings",
        lons[kept],
        lats[kept],
        (damage[kept] != NO).astype(float),
    )


def _of_layer(base: FinishedMap, path: Path, reading: Reading) -> Voice:
    """Points and polygons with a probability, or with grades of which some say that there is no damage."""
    file = part_layer(path)[0]
    if not xbd_labels(file):
        marks = read_marks(path, grid=base.grid)
        column = probability_column(list(marks.columns.columns), reading)
        if column is not None:
            told = probabilities_of(path, column, marks.columns[column])
            return _marked(file.stem, f"of its marks, column {column}", marks.shapes, told, base.grid)
    truth = open_truth(path, base.grid, column=reading.column, mapping=reading.mapping)
    values = {grade: _damaged(meaning) for grade, meaning in truth.meanings.items()}
    told = np.array([values[grade] for grade in truth.grades.tolist()], float)
    if not (told == 0).any():
        raise InputError(
            f"{path} lists damaged buildings only, so nobody knows of how many: fuse it by building, without --h3"
        )
    return _marked(file.stem, "of its marks", truth.shapes, told, base.grid)


def _marked(name: str, about: str, shapes: np.ndarray, told: np.ndarray, grid: Grid) -> Voice:
    known = np.isfinite(told)
    assert grid.crs is not None
    points = shapely.get_coordinates(shapely.point_on_surface(shapes[known])).reshape(-1, 2)
    lons, lats = between(CRS.from_wkt(grid.crs.to_wkt()), DEGREES).transform(*points.T)
    return Voice(name, about, np.asarray(lons), np.asarray(lats), told[known])


def _of_raster(base: FinishedMap, path: Path, reading: Reading) -> Voice:
    """Pixels on the map's ground, thinned where there are many."""
    told = classes_of(path, reading.mapping)
    grid = thinned(base.grid, _MOST_PIXELS)
    source = RasterSource.open(path, bands=[1], nodata="declared")
    try:
        patch = source.read(grid, "bilinear" if told is None else "nearest")
    finally:
        source.close()
    rows, cols = np.nonzero(patch.valid & np.isfinite(patch.array[0]))
    values = patch.array[0][rows, cols].astype(float)
    if told is None:
        if len(values) and (values.min() < 0 or values.max() > 1):
            raise InputError(
                f"{path} holds values from {values.min():.4g} to {values.max():.4g}, expected the probability of damage, "
                "0 to 1, or pass a --mapping of its classes"
            )
    else:
        check_classes(path, values, told, mapped=reading.mapping is not None)
        known = {float(value): _damaged(meaning) for value, meaning in told.items()}
        values = np.array([known.get(value, np.nan) for value in values.tolist()], float)
        kept = np.isfinite(values)
        rows, cols, values = rows[kept], cols[kept], values[kept]
    lons, lats = grid.lonlat(cols + 0.5, rows + 0.5)
    return Voice(path.stem, "of its pixels", lons, lats, values)


def _damaged(meaning: Meaning) -> float:
    """1 for damage, 0 for none, nan for a grade that may be either or claims nothing."""
    return float("nan") if is_doubt(meaning) else float(NO not in meaning)


def _on_map(lons: np.ndarray, lats: np.ndarray, grid: Grid) -> np.ndarray:
    assert grid.crs is not None
    with transforming():
        xs, ys = between(DEGREES, CRS.from_wkt(grid.crs.to_wkt())).transform(lons, lats)
    cols, rows = ~grid.transform * (np.asarray(xs), np.asarray(ys))
    inside: np.ndarray = (cols >= 0) & (cols < grid.width) & (rows >= 0) & (rows < grid.height)
    return inside


def _subject(
    heading: str,
    slug: str,
    title: str,
    frame: geopandas.GeoDataFrame,
    voices: Sequence[Voice],
    weights: Sequence[float],
    grid: Grid,
    lineage: Lineage,
) -> Subject:
    steps = tuple(
        Step(most, colour, label)
        for most, colour, label in zip(
            (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
            ("#f4f6f3", *BLUES),
            ("none", "up to 10 %", "10 to 25 %", "25 to 50 %", "50 to 75 %", "75 to 100 %"),
            strict=True,
        )
    )
    metrics = (
        share_metric("damaged_share", "Damaged, fused share", "no source"),
        Metric("disagreement", "Largest less smallest share", "%", steps, "one source alone"),
        *(
            share_metric(f"share_{number}", f"{voice.name}: damaged, {voice.about}", "says nothing")
            for number, voice in enumerate(voices, start=1)
        ),
    )
    said = ", ".join(
        f"{voice.name} ({voice.about}; weight {weight:g})"
        for voice, weight in zip(voices, weights, strict=True)
    )
    subject = Subject.of(slug, title, frame, grid, lineage, heading, {}, metrics=metrics)
    facts = (f"Fused share: mean by weight of {said}.", *subject.facts)
    return Subject(subject.name, subject.title, heading, frame, metrics, facts, subject.bounds)


def _provenance(
    base: FinishedMap,
    voices: Sequence[Voice],
    weights: Sequence[float],
    readings: Sequence[Reading],
    resolution: int,
) -> dict[str, Any]:
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": "fused by cells",
        "scale": "damaged share",
        "h3": resolution,
        "sources": [
            {
                "name": voice.name,
                "about": voice.about,
                "weight": weight,
                "speaks_at": len(voice.damaged),
                "options": {
                    name: value
                    for name, value in reading.as_dict().items()
                    if name in ("column", "mapping", "probability")
                },
            }
            for voice, weight, reading in zip(voices, weights, readings, strict=True)
        ],
        "grid": describe_grid(base.grid),
        "versions": versions(),
    }
