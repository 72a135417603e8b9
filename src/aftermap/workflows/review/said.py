"""What a page says of a building, made a line of the journal."""

from collections.abc import Callable
from typing import Any

from aftermap.errors import InputError
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import NOT_DESTROYED, Answer
from aftermap.workflows.review.crops import shape_of, to_geojson

NEW = "new-"
"""Begins the ids of buildings that reviewers drew."""


def make_answer(
    found: FinishedMap,
    reviewer: str,
    said: dict[str, Any],
    origin: Callable[[str], str],
    map_said: Callable[[str], dict[str, Any]],
) -> Answer:
    """What the page sends as a line of the journal.

    Args:
        found: the map.
        reviewer: who said it.
        said: see `Review.answer`.
        origin: how a building of the map comes up.
        map_said: what the map says of one.

    Raises:
        InputError: the building or the outline is none.
        ValidationError: of pydantic, it is no answer.
    """
    said = dict(said)
    if said.get("verdict") == NOT_DESTROYED and found.one_date is None:
        raise InputError(
            f"{NOT_DESTROYED} is an answer on a map of the image after alone: say the degree of damage"
        )
    outline = said.pop("outline", None)
    if outline is not None:
        said["geometry"] = to_geojson(shape_of(outline, found.grid), found.grid)
    shown = said.pop("shown", None)
    shown = dict(shown) if isinstance(shown, dict) else {}
    name = str(said.pop("building_id", ""))
    if not name:
        if outline is None:
            raise InputError("a building that the map misses needs an outline")
        name, how = NEW + str(said["key"])[:12], "drawn"
    else:
        try:
            shown |= map_said(name)
        except KeyError:
            raise InputError(f"the map has no building {name}") from None
        how = "chosen" if said.get("origin") == "chosen" else origin(name)
    said.pop("origin", None)
    return Answer.model_validate(
        {
            **said,
            "building_id": name,
            "reviewer": reviewer,
            "origin": how,
            "shown": {**shown, "outlines_sha256": found.outlines_sha256},
        }
    )
