"""Answers out to other tools, and in from them."""

import csv
import json

import geopandas
import pandas
import pytest
import shapely
import shapely.affinity

from aftermap.errors import InputError
from aftermap.geo.grid import Grid
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.review.areas import surveyed_areas
from aftermap.workflows.review.crops import shape_of, to_geojson
from aftermap.workflows.review.exchange import answer_table, export_answers, import_answers
from reviewed_map import GROUND, SIDE, make_map


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_map(tmp_path_factory.mktemp("exchange"))


@pytest.fixture
def found(made):
    for name in ("answers.jsonl", "plan.json"):
        (made.folder / "review" / name).unlink(missing_ok=True)
    return made


def stands(found):
    return {(a.building_id, a.reviewer): a.verdict for a in Journal(found.folder).answers()}


def lonlat(found, row):
    frame = found.buildings.geometry.to_crs(4326)
    middle = frame.iloc[row].centroid
    return middle.x, middle.y


def write_csv(path, header, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "csv"])
def test_what_goes_out_comes_back_as_it_was(found, tmp_path, ending):
    ring = [[[1, 1], [9, 1], [9, 9]]]
    given = [
        Answer(building_id="b1", verdict="destroyed", reviewer="Zoë, =1+1", note="roof, gone", seconds=1.5),
        Answer(building_id="b2", verdict="cannot-tell", reason="no data", reviewer="bo"),
        Answer(
            building_id="new-1",
            verdict="no-damage",
            reviewer="bo",
            origin="drawn",
            geometry=to_geojson(shape_of(ring, GROUND), GROUND),
        ),
    ]
    Journal(found.folder).add(given)
    path = tmp_path / f"answers.{ending}"
    assert export_answers(found, path) == 3
    before = list(Journal(found.folder).lines())
    taken = import_answers(found, path)
    assert (taken.rows, taken.answers, taken.known) == (3, 0, 3)
    assert list(Journal(found.folder).lines()) == before
    if ending != "csv":
        frame = geopandas.read_file(path)
        assert list(frame["outline"]) == ["map", "map", "drawn"] and not frame.geometry.is_empty.any()


def test_an_edit_in_a_gis_is_a_new_answer(found, tmp_path):
    Journal(found.folder).add([Answer(building_id="b1", verdict="destroyed", reviewer="ana")])
    export_answers(found, tmp_path / "answers.gpkg")
    frame = geopandas.read_file(tmp_path / "answers.gpkg")
    frame["verdict"] = "major-damage"
    frame.to_file(tmp_path / "edited.gpkg", layer="answers")
    assert import_answers(found, tmp_path / "edited.gpkg").answers == 1
    assert stands(found) == {("b1", "ana"): "major-damage"}
    assert import_answers(found, tmp_path / "edited.gpkg").answers == 0


def test_outlines_that_were_edited_and_added_in_a_gis_come_back(found, tmp_path):
    Journal(found.folder).add(
        Answer(building_id=name, verdict="destroyed", reviewer="ana") for name in ("b1", "b2")
    )
    export_answers(found, tmp_path / "answers.gpkg")
    frame = geopandas.read_file(tmp_path / "answers.gpkg")
    frame.loc[0, "geometry"] = shapely.affinity.translate(frame.geometry[0], 2, -1)
    new = frame.iloc[[1]].assign(building_id=None, key=None, outlines_sha256=None, verdict="major-damage")
    new["geometry"] = [shapely.affinity.translate(new.geometry.iloc[0], 0, -40)]
    pandas.concat([frame, new]).to_crs(4326).to_file(tmp_path / "edited.gpkg", layer="answers")
    taken = import_answers(found, tmp_path / "edited.gpkg")
    assert (taken.answers, taken.known, taken.left_out) == (2, 1, ["1 were taken in before"])
    back = answer_table(found).set_index("building_id")
    assert back.loc["b1", "outline"] == "moved" and back.loc["b2", "outline"] == "map"
    assert shapely.hausdorff_distance(back.geometry["b1"], frame.geometry[0]) < 0.01
    (drawn,) = back[back["outline"] == "drawn"].itertuples()
    assert (drawn.verdict, drawn.origin) == ("major-damage", "drawn") and drawn.Index.startswith("new-")
    assert import_answers(found, tmp_path / "edited.gpkg").answers == 0
    export_answers(found, tmp_path / "again.gpkg")
    assert import_answers(found, tmp_path / "again.gpkg").known == 3


def test_points_of_a_form_find_their_buildings(found, tmp_path):
    (lon, lat), (lon2, lat2) = lonlat(found, 3), lonlat(found, 7)
    path = write_csv(
        tmp_path / "kobo.csv",
        ["_id", "grp/damage_level", "_submitted_by", "longitude", "latitude"],
        [1, "Major", "cy", lon, lat],
        [2, "none", "cy", lon2, lat2],
        [3, "none", "cy", 0, 0],
        [4, "", "cy", lon, lat],
        [5, "flat", "cy", lon, lat],
    )
    taken = import_answers(found, path)
    assert stands(found) == {("b3", "cy"): "major-damage", ("b7", "cy"): "no-damage"}
    told = " ".join(taken.left_out)
    assert "1 left out: in no building of the map" in told and "without an answer" in told
    assert "'flat' (1)" in told and "--mapping 'flat=destroyed,...'" in told


def test_numbers_mean_what_the_mapping_says(found, tmp_path):
    path = write_csv(
        tmp_path / "swipe.csv", ["id", "vote", "lon", "lat"], *([n, n, *lonlat(found, n)] for n in range(3))
    )
    with pytest.raises(
        InputError, match="has no column that is called damage or similar: pass --column; it has id, vote"
    ):
        import_answers(found, path)
    taken = import_answers(found, path, column="vote", mapping="0=no-damage, 1=destroyed", reviewer="crowd")
    assert stands(found) == {("b0", "crowd"): "no-damage", ("b1", "crowd"): "destroyed"}
    assert taken.answers == 2 and "'2' (1)" in taken.left_out[0]


def test_polygons_are_matched_by_their_middle_in_any_system(found, tmp_path):
    frame = found.buildings.iloc[[4]][["damage", "geometry"]].to_crs(3857)
    frame.to_file(tmp_path / "qgis.gpkg", layer="edits")
    assert import_answers(found, tmp_path / "qgis.gpkg").answers == 1
    assert stands(found) == {("b4", "qgis"): "no-damage"}


def test_votes_of_many_are_one_answer_and_a_tie_is_none(found, tmp_path):
    frame = found.buildings.geometry.to_crs(4326)
    path = write_csv(
        tmp_path / "agg_results.csv",
        ["idx", "task_id", "0_count", "1_count", "2_count", "geom"],
        *(
            [n, f"t{n}", *votes, frame.iloc[n].wkt]
            for n, votes in enumerate([(5, 1, 0), (1, 4, 0), (2, 2, 0)])
        ),
        [3, "t3", 1, 0, 0, "POLYGON((nonsense"],
    )
    taken = import_answers(found, path, mapping="0=no-damage,1=destroyed,2=cannot-tell", reviewer="crowd")
    assert stands(found) == {("b0", "crowd"): "no-damage", ("b1", "crowd"): "destroyed"}
    assert sorted(taken.left_out) == [
        "1 left out: in no building of the map",
        "1 left out: without an answer",
    ]


def test_the_place_of_a_form_is_found_in_its_parts(found, tmp_path):
    lon, lat = lonlat(found, 5)
    path = write_csv(
        tmp_path / "form.csv",
        ["_location_latitude", "_location_longitude", "damage"],
        [lat, lon, "Destroyed"],
    )
    assert import_answers(found, path).answers == 1 and stands(found) == {("b5", "form"): "destroyed"}


def page_answers(found, *answers, sha=None):
    return json.dumps(
        {
            "format": "aftermap-review-answers",
            "outlines_sha256": sha or found.outlines_sha256,
            "answers": [
                {"key": f"key-{n:028d}", "reviewer": "ana", **answer} for n, answer in enumerate(answers)
            ],
        }
    )


def test_answers_of_an_offline_page_come_in_once(found, tmp_path):
    path = tmp_path / "answers.json"
    drawn = {"building_id": "", "verdict": "destroyed", "outline": [[[1, 1], [9, 1], [9, 9]]]}
    told = {
        "building_id": "b1",
        "verdict": "destroyed",
        "at": "2026-11-30T10:00:00Z",
        "shown": {"mode": "side"},
    }
    path.write_text(page_answers(found, told, drawn, {"building_id": "x", "verdict": "destroyed"}))
    taken = import_answers(found, path)
    assert (taken.answers, taken.left_out) == (2, ["1 left out: the map has no building x"])
    (first, second) = Journal(found.folder).answers()
    assert (
        first.at == "2026-11-30T10:00:00Z"
        and first.shown["damage"] == "minor-damage"
        and second.origin == "drawn"
    )
    assert import_answers(found, path).answers == 0


def test_ground_of_an_offline_page_comes_in_once(found, tmp_path):
    (found.folder / "review" / "areas.jsonl").unlink(missing_ok=True)
    ring = [[[0, 0], [SIDE, 0], [SIDE, 76], [0, 76]]]
    kept = {
        "key": "k" * 32,
        "surveyed": True,
        "outline": ring,
        "reviewer": "ana",
        "at": "2026-11-30T10:00:00Z",
    }
    odd = {"key": "o" * 32, "surveyed": True, "outline": [[[0, 0]]]}
    tree = json.loads(page_answers(found)) | {"marks": [kept, odd]}
    (tmp_path / "answers.json").write_text(json.dumps(tree))
    taken = import_answers(found, tmp_path / "answers.json")
    assert (taken.answers, taken.marks, taken.left_out) == (0, 1, ["1 left out: no mark of ground"])
    assert surveyed_areas(found).buildings_surveyed == 10
    assert import_answers(found, tmp_path / "answers.json").marks == 0


@pytest.mark.parametrize("content", ["null", '{"picks": 3}', '{"picks": [[1]]}'])
def test_answers_do_not_come_in_beside_a_damaged_plan(found, tmp_path, content):
    (found.folder / "review").mkdir(exist_ok=True)
    (found.folder / "review" / "plan.json").write_text(content)
    (tmp_path / "answers.json").write_text(page_answers(found, {"building_id": "b1", "verdict": "destroyed"}))
    with pytest.raises(InputError, match=r"plan\.json is damaged"):
        import_answers(found, tmp_path / "answers.json")


def test_answers_to_another_map_do_not_go_out_as_this_ones(found, tmp_path):
    other = {"outlines_sha256": "0" * 64}
    Journal(found.folder).add([Answer(building_id="b1", verdict="destroyed", reviewer="ana", shown=other)])
    with pytest.raises(InputError, match="given to other outlines"):
        export_answers(found, tmp_path / "answers.gpkg")


def test_answers_for_other_outlines_are_refused(found, tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(page_answers(found, {"building_id": "b1", "verdict": "destroyed"}, sha="0" * 64))
    with pytest.raises(InputError, match="for another map, or for other footprints"):
        import_answers(found, path)
    table = write_csv(
        tmp_path / "a.csv", ["building_id", "verdict", "outlines_sha256"], ["b1", "destroyed", "0" * 64]
    )
    with pytest.raises(InputError, match="for another map, or for other footprints"):
        import_answers(found, table)
    assert not stands(found)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"[1]", "holds no features"),
        ("a.csv", b"", "has no rows"),
        ("a.csv", b"building_id,verdict\nq,destroyed\n", "the map has no building of that id"),
        ("a.csv", b"what,verdict\nq,destroyed\n", "neither ids nor places"),
        ("a.csv", b"\xff\xfe\x00,\x00", "a.csv"),
        ("a.gpkg", b"nothing", "a.gpkg"),
        ("a.docx", b"x", "of no known format"),
        ("a.geojson", b'{"features": [{"properties": null, "geometry": {"type": "Point"}}]}', "no column"),
    ],
)
def test_what_cannot_be_used_is_one_line(found, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        import_answers(found, tmp_path / name)


@pytest.mark.parametrize(
    ("text", "told"), [("1", "is not understood"), ("1=flat", "is none of"), ("=destroyed", "not und")]
)
def test_a_mapping_that_means_nothing_is_refused(found, tmp_path, text, told):
    with pytest.raises(InputError, match=told):
        import_answers(found, tmp_path / "a.csv", mapping=text)


def test_a_map_in_pixels_has_answers_in_pixels(tmp_path):
    found = make_map(tmp_path, Grid.pixels(SIDE, SIDE))
    ring = [[[1, 1], [9, 1], [9, 9]]]
    geometry = to_geojson(shape_of(ring, found.grid), found.grid)
    assert geometry["coordinates"][0][0] in ([1.0, 1.0], [9.0, 9.0], [9.0, 1.0])
    Journal(found.folder).add(
        [Answer(building_id="new-1", verdict="destroyed", reviewer="a", geometry=geometry)]
    )
    for ending in ("gpkg", "geojson", "csv"):
        assert export_answers(found, tmp_path / f"a.{ending}") == 1
    assert geopandas.read_file(tmp_path / "a.gpkg").geometry.iloc[0].area == pytest.approx(
        shapely.Polygon(ring[0]).area
    )
    with pytest.raises(InputError, match="ends in no known format"):
        export_answers(found, tmp_path / "a.xlsx")
