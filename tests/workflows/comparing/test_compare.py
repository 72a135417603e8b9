"""A finished map held against a made-up release of Copernicus EMS on a tiny town: every figure computed by hand."""

import json

import geopandas
import pytest
from shapely.geometry import Point

from aftermap import api
from aftermap.errors import DataWarning, InputError
from aftermap.workflows.review.answers import Answer, Journal
from finished_maps import GRID, NORTH, WEST, finished, house

pytestmark = pytest.mark.filterwarnings("ignore::aftermap.errors.AftermapWarning")

TOWN = {
    "A": (house(4, 4), "no-damage", (0.9, 0.06, 0.03, 0.01)),
    "B": (house(24, 4), "destroyed", (0.05, 0.05, 0.1, 0.8)),
    "C": (house(44, 4), "minor-damage", (0.4, 0.5, 0.1, 0.0)),
    "D": (house(64, 4), "no-damage", (0.8, 0.1, 0.05, 0.05)),
    "E": (house(84, 4), "major-damage", (0.3, 0.1, 0.6, 0.0)),
    "F": (house(104, 4), "not-assessed"),
    "G": (house(4, 40), "destroyed"),
    "H": (house(24, 40), "no-damage"),
}
RELEASE = [
    (8, 8, "No visible damage"),  # inside A
    (28, 8, "Destroyed"),  # inside B
    (30, 6, "Damaged"),  # inside B too
    (55, 8, "Damaged"),  # 3 m east of C
    (68, 8, "Destroyed"),  # inside D
    (88, 8, "No visible damage"),  # inside E
    (108, 8, "Damaged"),  # inside F, which the map did not assess
    (8, 44, "Possibly damaged"),  # inside G
    (120, 60, "Destroyed"),  # far from any
]


def points(rows, *, column="damage_gra", crs="EPSG:32636", **more):
    frame = geopandas.GeoDataFrame(
        {column: [row[2] for row in rows], **more},
        geometry=[Point(WEST + row[0], NORTH - row[1]) for row in rows],
        crs="EPSG:32636",
    )
    return frame.to_crs(crs)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("town") / "map", TOWN)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Shapefile of points in degrees, as the agency has them."""
    path = tmp_path_factory.mktemp("ems") / "EMSR999_AOI01_GRA_PRODUCT_builtUpP_v1.shp"
    points(RELEASE, crs="EPSG:4326").to_file(path)
    return path


@pytest.fixture(scope="module")
def held(town, release):
    return api.compare(town, release)


def test_the_confusion_is_on_the_scale_that_both_can_tell(held):
    told = held.summary["classes"]
    assert list(told["classes"]) == ["no-damage", "damaged", "destroyed"]
    # A right, E said damaged; C right; D said undamaged, B right. F is not assessed, G in doubt, H not listed.
    assert told["confusion"] == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert (told["accuracy"]["count"], told["accuracy"]["of"]) == (3, 5)
    assert told["accuracy"]["interval_95"] == [0.2307, 0.8824]  # Wilson's, as any table has it
    assert told["kappa"] == pytest.approx((0.6 - 0.32) / 0.68, abs=1e-4)
    assert told["by_class"]["destroyed"]["recall"]["value"] == 0.5
    assert told["by_class"]["destroyed"]["precision"]["value"] == 1.0


def test_damaged_and_destroyed_are_scored_apart(held):
    damaged, destroyed = held.summary["damaged"], held.summary["destroyed"]
    assert (damaged["buildings"], damaged["truth"], damaged["map"]) == (5, 3, 3)
    assert damaged["recall"]["value"] == damaged["precision"]["value"] == pytest.approx(0.6667)
    # p(damaged): B .95, C .6, D .2 are; A .1, E .7 are not: four of six pairs in order
    assert damaged["auc"] == pytest.approx(4 / 6, abs=1e-4)
    # "Possibly damaged" is not destroyed, so G counts here, and the map calls it destroyed
    assert (destroyed["buildings"], destroyed["truth"], destroyed["map"]) == (6, 2, 2)
    assert destroyed["recall"]["value"] == destroyed["precision"]["value"] == 0.5


def test_marks_are_found_or_missed_and_several_on_one_house_are_told(held):
    found, buildings = held.summary["found"], held.summary["buildings"]
    assert (found["count"], found["of"], found["missed"]) == (8, 9, 1)
    assert found["by_grade"]["Destroyed"] == {"found": 2, "marks": 3}
    assert buildings["listed"] == 7 and buildings["unlisted"] == 1 and buildings["of_several_grades"] == 1
    assert buildings["not_assessed"] == 1 and buildings["no_building"] is None
    assert held.summary["marks"]["how"] == {"inside": 7, "near": 1}


def test_the_layer_says_what_became_of_each(held):
    rows = held.buildings.set_index("building_id")
    assert rows["agreement"].to_dict() == {
        "A": "same",
        "B": "same",
        "C": "same",
        "D": "map-says-less",
        "E": "map-says-more",
        "F": "not-assessed",
        "G": "doubt",
        "H": "unlisted",
        "missed-1": "missed",
    }
    assert rows.loc["B", "grade"] == "Destroyed" and rows.loc["B", "marks"] == 2
    assert rows.loc["C", "distance_m"] == pytest.approx(3, abs=0.01)
    written = geopandas.read_file(next(p for p in held.files if p.suffix == ".gpkg"), layer=held.name)
    assert written["agreement"].tolist() == held.buildings["agreement"].tolist()
    missed = rows.loc["missed-1"].geometry
    assert missed.centroid.distance(Point(WEST + 120, NORTH - 60)) < 0.01
    assert json.loads(next(p for p in held.files if p.suffix == ".json").read_text()) == held.summary


def test_the_most_frequent_grade_may_count_instead_of_the_worst(town):
    rows = [(26, 6, "Destroyed"), (28, 8, "Damaged"), (30, 10, "Damaged"), (8, 8, "No visible damage")]
    worst, most = (
        api.compare(town, points(rows), several=rule, name="several") for rule in ("worst", "most")
    )
    assert [each.buildings.set_index("building_id").loc["B", "grade"] for each in (worst, most)] == [
        "Destroyed",
        "Damaged",
    ]


def test_a_point_beyond_reach_is_missed_and_each_house_gets_one_from_outside(town):
    near = [(34, 8, "Destroyed"), (35, 8, "Destroyed"), (8, 8, "No visible damage")]  # 2 and 3 m east of B
    assert (
        api.compare(town, points(near), name="near").summary["found"]["count"] == 3
    )  # C is 9 m from the second
    assert api.compare(town, points(near), within=5, name="near").summary["found"]["count"] == 2
    assert api.compare(town, points(near), within=0, name="near").summary["found"]["count"] == 1


def test_undamaged_is_never_assumed(town):
    listed = [row for row in RELEASE if "damaged" not in row[2] and row[2] != "No visible damage"]
    unknown = api.compare(town, points(listed), name="only")
    assert unknown.summary["damaged"]["precision"] is None and unknown.summary["damaged"]["auc"] is None
    assert "undamaged" in unknown.summary["classes"]["note"]
    told = api.compare(town, points(listed), unlisted="undamaged", name="only")
    # A, E, G and H are undamaged now: the map calls E and G damaged
    precision = told.summary["damaged"]["precision"]
    assert (precision["count"], precision["of"]) == (2, 4)
    gone = api.compare(town, points(listed), unlisted="no-building", name="only")
    assert gone.summary["buildings"]["no_building"] == 4


def test_polygons_mean_the_building_that_they_overlap(town):
    shapes = {
        "A": house(5, 5),  # moved by a metre each way: IoU 49 / 79
        "B": house(20, 0, 20),  # around B: the house lies in it
        "D": house(66, 6, 2),  # a corner of D: lies in the house
        "beside": house(40, 40),
    }
    frame = geopandas.GeoDataFrame(
        {"grading": ["No visible damage", "Destroyed", "Destroyed", "Damaged"]},
        geometry=list(shapes.values()),
        crs="EPSG:32636",
    )
    held = api.compare(town, frame, name="polygons")
    rows = held.buildings.set_index("building_id")
    assert rows.loc[["A", "B", "C", "D"], "agreement"].tolist() == [
        "same",
        "same",
        "unlisted",
        "map-says-less",
    ]
    assert held.summary["found"]["missed"] == 1 and held.summary["marks"]["how"] == {"overlap": 3}


def test_only_the_area_that_was_looked_at_counts(town, tmp_path):
    area = tmp_path / "area.geojson"
    geopandas.GeoDataFrame(geometry=[house(0, 0, 36)], crs="EPSG:32636").to_crs(4326).to_file(area)
    held = api.compare(town, points(RELEASE), area=area, unlisted="undamaged", name="area")
    assert held.summary["marks"]["on_map"] == 3 and held.summary["marks"]["outside_area"] == 6
    assert held.buildings["agreement"].tolist().count("unlisted") == 6  # H and all others beyond the area


def test_grades_of_one_class_become_answers_once(tmp_path, release):
    town = finished(tmp_path / "map", TOWN, page=False)
    first = api.compare(town, release, as_answers=True)
    assert first.imported.as_dict() == {
        "answers": 4,
        "unchanged": 0,
        "withdrawn": 0,
        "of_several_classes": 3,  # C, F "Damaged", G "Possibly damaged"
    }
    answers = {answer.building_id: answer for answer in Journal(town).answers()}
    assert {name: answer.verdict for name, answer in answers.items()} == {
        "A": "no-damage",
        "B": "destroyed",
        "D": "destroyed",
        "E": "no-damage",
    }
    assert {answer.origin for answer in answers.values()} == {"imported"}
    assert answers["A"].source == release.name
    Journal(town).add([Answer(building_id="A", verdict="destroyed", reviewer="me", seconds=None)])
    assert api.compare(town, release, as_answers=True).imported.unchanged == 4
    again = api.compare(town, release, as_answers=True, mapping={"Destroyed": "unknown"})
    assert again.imported.withdrawn == 2
    assert sorted(answer.building_id for answer in Journal(town).answers()) == ["A", "A", "E"]


def test_sources_that_cannot_be_used_are_told(town, tmp_path):
    def refused(match, frame, **options):
        with pytest.raises(InputError, match=match):
            api.compare(town, frame, **options)

    refused(
        "mixes two scales", points([(8, 8, "Possibly damaged"), (28, 8, "Affected (1-9%)")], column="grading")
    )
    refused(r"does not know: 'gone' \(2\)", points([(8, 8, "Destroyed"), (28, 8, "gone"), (30, 8, "gone")]))
    refused("has no column that is known", points(RELEASE, column="state"))
    refused("--mapping", points([(8, 8, "x")], column="state"), column="state")
    refused("grades in 2 columns", points(RELEASE, DAMAGE=["No Damage"] * 9))
    refused("does not touch the map: they span lon", points([(90_000, 8, "Destroyed")]))
    refused("expected one of no-damage", points(RELEASE), mapping={"Destroyed": "gone"})
    refused("no usable point or polygon", points([]))
    refused("with a grade on the map", points([(8, 8, None)]), kind="ems")
    with pytest.raises(InputError, match="not a finished map"):
        api.compare(tmp_path, points(RELEASE))
    with pytest.raises(InputError, match="names no reference system"):
        api.compare(town, points(RELEASE).set_crs(None, allow_override=True))


def test_what_is_left_out_is_warned_of(town):
    with pytest.warns(DataWarning, match="1 mark without a grade left out"):
        api.compare(town, points([(8, 8, "Destroyed"), (28, 8, None)]), name="empty")


def test_the_grid_is_the_one_of_the_helper(town):
    assert GRID.pixel_size_m[0] == pytest.approx(0.5, rel=1e-3)
