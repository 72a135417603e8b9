"""Ground that was surveyed, and what nobody looked at."""

import json

import pytest

from aftermap.errors import InputError
from aftermap.workflows.review.answers import Answer
from aftermap.workflows.review.areas import Mark, add_marks, marks, surveyed_areas
from aftermap.workflows.review.crops import shape_of, to_geojson
from reviewed_map import GROUND, make_map


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_map(tmp_path_factory.mktemp("areas"))


@pytest.fixture
def found(made):
    for path in (made.folder / "review").glob("areas*"):
        path.unlink()
    return made


def mark(surveyed, left, top, right, bottom):
    ring = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return Mark(reviewer="ana", surveyed=surveyed, geometry=to_geojson(shape_of([ring], GROUND), GROUND))


def test_without_a_mark_nothing_is_surveyed(found):
    survey = surveyed_areas(found)
    assert (survey.is_marked, survey.buildings_surveyed, survey.buildings_not_surveyed) == (False, 0, 25)


def test_a_later_mark_counts_over_an_earlier_one(found):
    # rows of five buildings, 36 px apart from 12 px on: two rows surveyed, then the left column of them not
    add_marks(found, [mark(True, 0, 0, 192, 76)])
    assert surveyed_areas(found).buildings_surveyed == 10
    wrong = mark(False, 0, 0, 40, 76)
    add_marks(found, [wrong])
    survey = surveyed_areas(found)
    assert survey.buildings_surveyed == 8 and survey.is_marked
    assert [
        name for name, known in zip(found.buildings["building_id"][:6], survey.inside, strict=False) if known
    ] == [*("b1", "b2", "b3", "b4")]
    add_marks(found, [Mark(reviewer="bo", withdraws=wrong.key)])
    assert surveyed_areas(found).buildings_surveyed == 10 and len(marks(found.folder)) == 1


def test_an_answer_is_a_look_and_one_that_cannot_tell_is_none(found):
    said = [
        Answer(building_id="b3", reviewer="ana", verdict="no-damage"),
        Answer(building_id="b4", reviewer="ana", verdict="cannot-tell", reason="cloud"),
    ]
    survey = surveyed_areas(found, said)
    assert survey.buildings_surveyed == 1 and survey.inside[3] and not survey.inside[4]


def test_the_layer_holds_what_stands(found):
    add_marks(found, [mark(True, 0, 0, 50, 50)])
    tree = json.loads((found.folder / "review" / "areas.geojson").read_text())
    assert [each["properties"]["surveyed"] for each in tree["features"]] == [True]
    with pytest.raises(InputError, match=r"expected a polygon|no GeoJSON polygon"):
        add_marks(
            found, [Mark(reviewer="ana", surveyed=True, geometry={"type": "Point", "coordinates": [0, 0]})]
        )
    assert len(marks(found.folder)) == 1
