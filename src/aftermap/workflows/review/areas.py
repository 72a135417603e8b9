"""Ground that somebody surveyed: what nobody looked at is counted as not surveyed, never as safe.

    OUT/review/areas.jsonl      one mark or withdrawal a line, in the order in which they came
    OUT/review/areas.geojson    the ground that is surveyed by all of them, for a GIS

A later mark counts over an earlier one where they overlap; ground without a mark is not surveyed.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict, Field, model_validator
from shapely.geometry.base import BaseGeometry

from aftermap.files import write_text
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import FOLDER, Answer, Name, append_lines, read_lines
from aftermap.workflows.review.crops import from_geojson, in_pixels, rings_of, shape_of, to_geojson

JOURNAL = "areas.jsonl"
LAYER = "areas.geojson"

MOST_DOTS = 20_000
"""Buildings up to which each is a dot on the picture of the ground."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Mark(BaseModel):
    """A line of the journal of areas.

    Attributes:
        key: of this line.
        surveyed: whether the ground was looked at; None withdraws the line `withdraws`.
        geometry: GeoJSON polygon in EPSG:4326 (pixels for a map without georeference).
        reviewer: who says so.
        at: when, UTC, ISO 8601.
        withdraws: `key` of a line that this one takes back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Name = Field(default_factory=lambda: uuid.uuid4().hex)
    surveyed: bool | None = None
    geometry: dict[str, Any] | None = None
    reviewer: Name
    at: str = Field(default_factory=_now)
    withdraws: Name | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Mark":
        marks = self.surveyed is not None and self.geometry is not None
        if marks == (self.withdraws is not None):
            raise ValueError("a mark says whether its ground was surveyed, or withdraws another one")
        return self


@dataclass(frozen=True)
class Survey:
    """What ground of a map was looked at by people.

    Attributes:
        is_marked: whether anybody marked any ground.
        ground: what is surveyed, in the map's reference system; empty where nothing is marked.
        inside: for each row of the map's table, whether its building lies in surveyed ground (by its middle) or was
            answered by somebody, bool (n,).
        answered: whether it was answered, bool (n,).
    """

    is_marked: bool
    ground: BaseGeometry
    inside: np.ndarray
    answered: np.ndarray

    @property
    def buildings_surveyed(self) -> int:
        """Buildings that somebody looked at, or whose ground is marked as surveyed."""
        return int(self.inside.sum())

    @property
    def buildings_not_surveyed(self) -> int:
        """Buildings that nobody looked at: of these only the model speaks."""
        return int((~self.inside).sum())


def marks(folder: Path) -> list[Mark]:
    """The marks of a map that were not withdrawn, in order.

    Raises:
        InputError: the journal cannot be read, or holds a whole line that is no mark.
    """
    lines = list(mark_lines(folder))
    withdrawn = {line.withdraws for line in lines if line.withdraws is not None}
    return [line for line in lines if line.surveyed is not None and line.key not in withdrawn]


def add_marks(found: FinishedMap, new: Iterable[Mark]) -> None:
    """Journal marks, and write the ground that is surveyed now; when this returns they are on the disk.

    Raises:
        InputError: a geometry is no polygon.
        OutputError: they cannot be written.
    """
    new = list(new)
    for mark in new:
        if mark.geometry is not None:
            from_geojson(mark.geometry, found)
    append_lines(found.folder / FOLDER / JOURNAL, new)
    _write_layer(found.folder)


def surveyed_areas(found: FinishedMap, answers: Iterable[Answer] = ()) -> Survey:
    """The ground of a map that people looked at, and the buildings of which that is true.

    Args:
        found: the map.
        answers: those that stand: a building that was answered was looked at, wherever it lies; one that could not be
            told was not.

    Raises:
        InputError: the journal of areas cannot be used.
    """
    told = marks(found.folder)
    ground: BaseGeometry = shapely.Polygon()
    for mark in told:
        shape = from_geojson(mark.geometry, found)
        ground = shapely.union(ground, shape) if mark.surveyed else shapely.difference(ground, shape)
    middles = found.buildings.geometry.representative_point().to_numpy()
    shapely.prepare(ground)
    inside = np.asarray(shapely.contains(ground, middles), bool).reshape(len(found.buildings))
    seen = {answer.building_id for answer in answers if answer.verdict != "cannot-tell"}
    answered = found.buildings["building_id"].astype(str).isin(seen).to_numpy()
    return Survey(bool(told), ground, inside | answered, answered)


def make_mark(found: FinishedMap, reviewer: str, said: dict[str, Any]) -> Mark:
    """What a page says of ground as a line of the journal.

    Args:
        found: the map.
        reviewer: who says it.
        said: `key`, `surveyed` and `outline` (rings in pixels), or `withdraws`; `at` where the page tells it.

    Raises:
        InputError: the outline is none.
        ValidationError: of pydantic, it is no mark.
    """
    said = dict(said)
    outline = said.pop("outline", None)
    if outline is not None:
        said["geometry"] = to_geojson(shape_of(outline, found.grid), found.grid)
    return Mark.model_validate({**said, "reviewer": reviewer})


def ground_for_page(found: FinishedMap, answers: Iterable[Answer]) -> dict[str, Any]:
    """All marks that stand, and where buildings lie, in pixels: col, row, and 2 where it was answered, 1 where its
    ground is surveyed.

    Raises:
        InputError: the journal of areas cannot be used.
    """
    told = marks(found.folder)
    shapes = [from_geojson(mark.geometry, found) for mark in told]
    placed: Any = in_pixels(np.array(shapes, object), found.grid) if told else ()
    survey = surveyed_areas(found, answers)
    middles = in_pixels(found.buildings.geometry.representative_point().to_numpy(), found.grid)
    places = (
        np.round(shapely.get_coordinates(middles)).astype(int).tolist() if len(middles) <= MOST_DOTS else []
    )
    return {
        "dots": [
            [*place, 2 if is_told else int(is_in)]
            for place, is_in, is_told in zip(places, survey.inside, survey.answered, strict=False)
        ],
        "marks": [
            {
                "key": mark.key,
                "surveyed": mark.surveyed,
                "outline": rings_of(shape),
                "reviewer": mark.reviewer,
            }
            for mark, shape in zip(told, placed, strict=True)
        ],
        "buildings": len(survey.inside),
        "surveyed": survey.buildings_surveyed,
        "not_surveyed": survey.buildings_not_surveyed,
    }


def mark_lines(folder: Path) -> Iterator[Mark]:
    """Every line of the journal of areas, in order.

    Raises:
        InputError: it cannot be read, or holds a whole line that is no mark.
    """
    return read_lines(folder / FOLDER / JOURNAL, Mark, "mark")


def _write_layer(folder: Path) -> None:
    """Every mark that stands as a feature, for a GIS."""
    features = [
        {
            "type": "Feature",
            "properties": {"surveyed": mark.surveyed, "reviewer": mark.reviewer, "at": mark.at},
            "geometry": mark.geometry,
        }
        for mark in marks(folder)
    ]
    text = json.dumps(
        {"type": "FeatureCollection", "name": "areas", "features": features}, ensure_ascii=False
    )
    write_text(folder / FOLDER / LAYER, text + "\n")
