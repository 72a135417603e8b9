"""The layer of a comparison: every building, and every mark without one, by whether map and source agree."""

from collections import Counter
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely

from aftermap.classes import NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import areas_m2, from_pixels, to_pixels
from aftermap.products.pictures import in_pixels
from aftermap.products.styles import Entry, Style
from aftermap.products.view import Kind, Objects, View, describe_size
from aftermap.wording import counted
from aftermap.workflows.comparing.grades import DAMAGED, Meaning, is_doubt, name_of, severity
from aftermap.workflows.comparing.matching import Pairs, on_the_ground
from aftermap.workflows.comparing.scores import Graded, probability
from aftermap.workflows.comparing.truth import Truth

MARK_RADIUS = 3.0
"""Metres (pixels without georeference) of the circle that stands for a point without a building."""

KINDS = (
    ("same", "Same class", "#3a9d5d", True),
    ("map-says-more", "Map says more", "#7a5bd0", True),
    ("map-says-less", "Map says less", "#e8762c", True),
    ("missed", "Not on the map", "#d81b60", True),
    ("no-building", "No building there", "#2b83ba", True),
    ("doubt", "Source in doubt", "#c8b273", True),
    (NOT_ASSESSED, "Map did not assess", "#6c6c6c", True),
    ("unlisted", "Not in the source", NOT_ASSESSED_COLOUR, False),
)
"""Name, label and colour of each outcome, and whether map and source both speak of it."""

_ALWAYS = ("same", "map-says-more", "map-says-less", "missed", "unlisted")

STYLE = Style("agreement", "agreement", tuple(Entry(label, colour, name) for name, label, colour, _ in KINDS))


def comparison_frame(
    graded: Graded,
    truth: Truth,
    pairs: Pairs,
    chosen: dict[int, int],
    classes: tuple[Meaning, ...],
    phantoms: np.ndarray,
    grid: Grid,
) -> geopandas.GeoDataFrame:
    """One row per building, then one per mark that means none.

    Args:
        graded: the buildings.
        truth: the marks.
        pairs: which mean which.
        chosen: the mark that counts, by building.
        classes: the common scale.
        phantoms: bool (n,), buildings where the source says there is none.
        grid: of the map.
    """
    frame = graded.frame
    several = np.bincount(pairs.buildings, minlength=len(frame))
    distance = {
        (mark, building): far
        for mark, building, far in zip(
            pairs.marks.tolist(), pairs.buildings.tolist(), pairs.distances.tolist(), strict=True
        )
    }
    damage = frame["damage"].to_numpy()
    outcomes = [
        "no-building" if phantoms[row] else outcome(damage[row], meaning, classes)
        for row, meaning in enumerate(graded.meanings)
    ]
    buildings = pd.DataFrame(
        {
            "building_id": frame["building_id"].to_numpy(),
            "agreement": outcomes,
            "damage": damage,
            "grade": graded.grades,
            "truth": [_truth_name(meaning, classes) for meaning in graded.meanings],
            "confidence": frame["confidence"].to_numpy(float),
            "p_damaged": probability(frame, DAMAGED).round(4),
            "p_destroyed": frame["p_destroyed"].to_numpy(float),
            "marks": several,
            "distance_m": [
                round(distance[chosen[row], row], 2) if row in chosen else None for row in range(len(frame))
            ],
            "area_m2": frame["area_m2"].to_numpy(float),
            "lon": frame["lon"].to_numpy(float),
            "lat": frame["lat"].to_numpy(float),
        }
    )
    missed = np.setdiff1d(np.arange(len(truth.shapes)), pairs.marks)
    table = pd.concat([buildings, _missed_rows(truth, missed, classes, grid)], ignore_index=True)
    shapes = np.concatenate([frame.geometry.to_numpy(), drawn(truth.shapes[missed], grid)])
    return geopandas.GeoDataFrame(table, geometry=shapes, crs=frame.crs)


def outcome(damage: str, meaning: Meaning | None, classes: tuple[Meaning, ...]) -> str:
    """One of `KINDS`, of a building that is on the map."""
    if meaning is None:
        return "unlisted"
    if is_doubt(meaning):
        return "doubt"
    if damage == NOT_ASSESSED:
        return NOT_ASSESSED
    said, true = (
        next(number for number, each in enumerate(classes) if one <= each)
        for one in (frozenset({damage}), meaning)
    )
    return "same" if said == true else "map-says-more" if said > true else "map-says-less"


def comparison_view(
    frame: geopandas.GeoDataFrame, grid: Grid, pictures: Any, truth: Truth, summary: dict[str, Any]
) -> View:
    """The page of a comparison.

    Args:
        frame: the result of `comparison_frame`.
        grid: of the map.
        pictures: two, see `View`.
        truth: the source.
        summary: what `run.compare` found.
    """
    found = Counter(frame["agreement"])
    shown = [kind for kind in KINDS if found[kind[0]] or kind[0] in _ALWAYS]
    names = [name for name, *_ in shown]
    kinds = np.array([names.index(name) for name in frame["agreement"]], np.int64)
    spoken = sum(found[name] for name, _, _, both in shown if both)
    legend = tuple(
        Kind(
            name,
            label,
            colour,
            f"{found[name]:,}",
            found[name] / spoken if spoken and both else None,
            assessed=both,
        )
        for name, label, colour, both in shown
    )
    scored = summary["classes"]
    same = scored["accuracy"]
    division = ", ".join(scored["classes"])
    about = [
        f"{truth.file}: {truth.scale}, column {truth.column}. Compared on {division}.",
        *([scored["note"] + "."] if scored["note"] else []),
        "A point without a building is drawn as a circle. A source has errors and a date of its own.",
        describe_size(grid),
    ]
    return View(
        heading="Map and source",
        headline=(
            f"{same['count']:,}",
            f" of {counted(same['of'], 'building that both grade is', 'buildings that both grade are')} the same",
        ),
        pictures=pictures,
        mode="swipe",
        kinds=legend,
        about=tuple(about),
        objects=Objects(frame, in_pixels(frame, grid), kinds, on=1),
    )


def drawn(shapes: np.ndarray, grid: Grid) -> np.ndarray:
    """Polygons as they are, points as circles of `MARK_RADIUS`, in the grid's reference system."""
    found = np.array(shapes, dtype=object)
    points = shapely.get_type_id(found) == 0
    if points.any():
        across, down = grid.pixel_size_m or (1.0, 1.0)
        circles = shapely.buffer(on_the_ground(found[points], grid), MARK_RADIUS, quad_segs=4)
        found[points] = from_pixels(shapely.transform(circles, lambda xy: xy / (across, down)), grid)
    return found


def _missed_rows(truth: Truth, rows: np.ndarray, classes: tuple[Meaning, ...], grid: Grid) -> pd.DataFrame:
    shapes, grades = truth.shapes[rows], truth.grades[rows]
    lon = lat = np.full(len(rows), np.nan)
    if grid.crs is not None and len(rows):
        places = shapely.get_coordinates(to_pixels(shapely.point_on_surface(shapes), grid))
        lon, lat = grid.lonlat(*places.T)
    polygons = shapely.get_type_id(shapes) != 0
    area = np.full(len(rows), np.nan)
    if polygons.any():
        area[polygons] = areas_m2(shapes[polygons], grid.crs)
    worst = sorted(range(len(rows)), key=lambda row: severity(truth.meanings[grades[row]]), reverse=True)
    number = {row: place for place, row in enumerate(worst, start=1)}
    return pd.DataFrame(
        {
            "building_id": [f"missed-{number[row]}" for row in range(len(rows))],
            "agreement": "missed",
            "damage": "",
            "grade": grades,
            "truth": [_truth_name(truth.meanings[grade], classes) for grade in grades],
            "confidence": np.nan,
            "p_damaged": np.nan,
            "p_destroyed": np.nan,
            "marks": 1,
            "distance_m": np.nan,
            "area_m2": area.round(2),
            "lon": np.round(lon, 7),
            "lat": np.round(lat, 7),
        }
    )


def _truth_name(meaning: Meaning | None, classes: tuple[Meaning, ...]) -> str:
    if meaning is None:
        return ""
    return "in doubt" if is_doubt(meaning) else name_of(next(each for each in classes if meaning <= each))
