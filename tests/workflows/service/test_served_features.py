"""Features of a map: found by text and box as a plain loop finds them."""

import numpy as np
import pytest
import shapely

from aftermap.workflows.service.areas import area_from
from aftermap.workflows.service.features import Features
from reviewed_map import make_map


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return Features(make_map(tmp_path_factory.mktemp("features")))


@pytest.mark.parametrize("text", ["b1", "B1", "", "4", "b24", "x", "\n", "b", "1\nb"])
@pytest.mark.parametrize("most", [None, 3])
def test_ids_are_searched_as_a_loop_would(features, text, most):
    names = [f"b{n}" for n in range(25)]
    expected = [row for row, name in enumerate(names) if text.casefold() in name]
    assert features._matching(text, most).tolist() == expected[:most]
    if most is None:
        assert features.page(None, text=text, limit=100, offset=0).matched == len(expected)


def test_boxes_across_the_antimeridian_are_two(features):
    lon, lat = features.point(7)
    assert [f["id"] for f in features.page(None, box=(lon, lat, lon, lat), limit=9, offset=0).features] == [
        "b7"
    ]
    everything = features.page(None, box=(lon - 1, lat - 1, lon + 1, lat + 1), limit=0, offset=0)
    assert everything.matched == 25 and everything.features == []
    around = features.page(None, box=(179.0, -90, lon + 1, 90), limit=0, offset=0)
    assert (
        around.matched == 25 and features.page(None, box=(170, -90, -170, 90), limit=1, offset=0).matched == 0
    )


def test_a_box_holds_what_a_test_of_every_outline_finds(features, monkeypatch):
    from aftermap.workflows.service import features as module

    monkeypatch.setattr(module, "_AT_ONCE", 7)
    fresh = Features(features._found)
    assert np.allclose(fresh._points, features._points, atol=0) and len(fresh._points) == 25
    shapes = features._found.buildings.geometry.to_crs(4326).to_numpy(object)
    west, south, east, north = shapely.total_bounds(shapes)
    random = np.random.default_rng(0)
    for _ in range(20):
        (w, e), (s, n) = (np.sort(random.uniform(*span, 2)) for span in ((west, east), (south, north)))
        expected = np.flatnonzero(shapely.intersects(shapes, shapely.box(w, s, e, n))).tolist()
        assert fresh._in_box((w, s, e, n)).tolist() == expected


def test_what_is_not_known_is_null(features):
    told = features.properties(24)
    assert told["damage"] == "not-assessed" and told["confidence"] is None and told["row"] == 24
    assert "model_sha256" not in told and "image" not in told


def test_points_decide_what_lies_in_an_area(features):
    lon, lat = features.point(12)
    area = area_from(shapely.Point(lon, lat).buffer(1e-5))
    assert features.row("b12", area) == 12 and features.row("b11", area) is None
    assert area.points_inside(np.array([lon, np.nan]), np.array([lat, 1.0])).tolist() == [True, False]
