"""What the service answers of finished maps."""

import io
import math
import zipfile

import numpy as np
import pytest
from PIL import Image

from aftermap import extras
from aftermap.workflows.review.answers import Journal


def tile_at(bounds, zoom):
    """Column and row of the web's tile in the middle of a box, by the formula of the OSM wiki."""
    lon, lat = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
    return int((lon + 180) / 360 * 2**zoom), int(y * 2**zoom)


def pixels_of(answer):
    assert answer.status_code == 200 and answer.headers["content-type"] in ("image/webp", "image/jpeg")
    with Image.open(io.BytesIO(answer.content)) as picture:
        return np.array(picture.convert("RGBA"))


def test_a_map_tells_its_layers_counts_and_links(client, number):
    told = client.get(f"/api/maps/{number}").json()
    assert told["counts"] == {
        "no-damage": 6, "minor-damage": 6, "major-damage": 6, "destroyed": 6, "not-assessed": 1,
    }  # fmt: skip
    assert told["total"] == 25 and told["whole"] and set(told["layers"]) == {"pre", "post", "damage"}
    assert [each["id"] for each in client.get("/api/maps").json()] == [number]


@pytest.mark.parametrize("zoom", [12, 16, 17, 20])
def test_tiles_of_other_zooms_show_the_ground_too(client, number, zoom):
    bounds = client.get(f"/api/maps/{number}").json()["bounds"]
    x, y = tile_at(bounds, zoom)
    assert pixels_of(client.get(f"/api/maps/{number}/tiles/post/{zoom}/{x}/{y}"))[..., 3].any()


def test_tiles_beside_the_map_are_transparent(client, number):
    assert not pixels_of(client.get(f"/api/maps/{number}/tiles/post/18/5/5"))[..., 3].any()


def test_vector_tiles_hold_every_building(client, number):
    from pyogrio import read_dataframe

    told = client.get(f"/api/maps/{number}").json()
    shown, root = told["buildings"], f"/api/maps/{number}/tiles/buildings"

    def tile(zoom):
        x, y = tile_at(told["bounds"], zoom)
        return client.get(f"{root}/{zoom}/{x}/{y}")

    near = tile(shown["outlines_from"])
    assert near.headers["content-encoding"] == "gzip"
    frame = read_dataframe(near.content)
    assert set(frame["id"]) == {f"b{n}" for n in range(25)} and set(frame["damage"]) > {"destroyed"}
    points = read_dataframe(tile(shown["outlines_from"] - 1).content)
    assert len(points) == 25 and set(points.geometry.geom_type) == {"Point"}
    assert set(points.columns) == set(frame.columns)
    assert tile(shown["maxzoom"]).status_code == 200 and tile(shown["maxzoom"] + 1).status_code == 204


def test_a_filter_counts_by_what_was_said_and_an_answer_is_taken_back(client, number, service):
    count, place = f"/api/maps/{number}/count", f"/api/maps/{number}/buildings/b0"
    told = client.get(count).json()
    # 25 buildings in turn of four classes, the last of which was not assessed
    assert told["counts"] == {
        **{"no-damage": 6, "minor-damage": 6, "major-damage": 6, "destroyed": 6, "not-assessed": 1},
        **{"not-a-building": 0, "cannot-tell": 0},
    }
    assert (told["total"], told["left"]) == (25, 25)
    assert client.get(count, params={"damage": "destroyed,no-damage"}).json()["left"] == 12
    assert client.get(count, params={"least": 0.9}).json()["left"] == 2  # 0.91, 0.90, ...
    assert client.get(count, params={"most": 0.9}).json()["left"] == 23  # and none without a confidence
    assert client.get(count, params={"area": 1e6}).json()["left"] == 0
    assert client.get(count, params={"damage": "ruined"}).status_code == 422
    shown = client.get(place)
    assert shown.json()["geometry"]["type"] == "MultiPolygon"
    said = f"/api/maps/{number}/answers/b0"
    first = client.put(said, json={"verdict": "minor-damage"}, headers={"if-match": shown.headers["etag"]})
    second = client.put(said, json={"verdict": "not-a-building"}, headers={"if-match": first.headers["etag"]})
    after = client.get(count, params={"damage": "not-a-building"}).json()
    assert after["left"] == 1 and after["counts"]["no-damage"] == 5
    assert client.delete(said).status_code == 428
    assert client.delete(said, headers={"if-match": shown.headers["etag"]}).status_code == 412
    key, tag = {"key": "k" * 16}, {"if-match": second.headers["etag"]}
    assert client.delete(f"{said}?reviewer=ana", headers=tag).status_code == 404
    for _ in range(2):  # its confirmation was lost
        gone = client.delete(said, params=key, headers=tag)
        assert gone.status_code == 200 and gone.json()["answers"] == []
    assert Journal(service.place.map(number)).answers() == []
    assert client.get(count).json()["counts"] == told["counts"]


def test_files_come_one_by_one_in_parts_and_all_together(client, number, service):
    folder = service.place.map(number)
    names = {each["name"] for each in client.get(f"/api/maps/{number}/files").json()}
    assert {"damage.tif", "buildings.gpkg", "provenance.json"} <= names and "review/images.json" not in names
    whole = client.get(f"/api/maps/{number}/files/buildings.csv")
    assert whole.content == (folder / "buildings.csv").read_bytes()
    assert whole.headers["content-disposition"].startswith("attachment")
    part = client.get(f"/api/maps/{number}/files/buildings.csv", headers={"range": "bytes=5-9"})
    assert part.status_code == 206 and part.content == whole.content[5:10]
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/maps/{number}/files.zip").content)) as archive:
        assert archive.testzip() is None and len(archive.namelist()) == len(names)
    for odd in ("%2e%2e%2f%2e%2e%2fservice.db", "review/images.json", "%2fetc%2fpasswd", ".lock"):
        assert client.get(f"/api/maps/{number}/files/{odd}").status_code == 404


def test_an_answer_counts_once_and_never_over_somebody_elses(client, number):
    told = client.get(f"/api/maps/{number}/buildings/b1")
    first = told.headers["etag"]
    place = f"/api/maps/{number}/answers/b1"
    assert client.put(place, json={"verdict": "destroyed"}).status_code == 428
    key = "0123456789abcdef"
    said = client.put(place, json={"verdict": "destroyed", "key": key}, headers={"if-match": first})
    assert said.status_code == 200 and said.json()["answers"][0]["verdict"] == "destroyed"
    late = client.put(place, json={"verdict": "no-damage", "reviewer": "bo"}, headers={"if-match": first})
    assert late.status_code == 412
    again = client.put(place, json={"verdict": "destroyed", "key": key}, headers={"if-match": first})
    assert again.status_code == 200 and len(again.json()["answers"]) == 1
    seen = client.put(place, json={"verdict": "no-damage"}, headers={"if-match": said.headers["etag"]})
    assert seen.status_code == 200
    listed = client.get(f"/api/maps/{number}/answers")
    assert [a["verdict"] for a in listed.json()["answers"]] == ["no-damage"]
    same = client.get(f"/api/maps/{number}/answers", headers={"if-none-match": listed.headers["etag"]})
    assert same.status_code == 304


def test_the_page_of_the_review_is_on_the_same_data(client, number):
    root = f"/api/maps/{number}/review"
    assert "review.js" in client.get(f"{root}/").text
    body = {"reviewer": "ana", "browser": "one"}
    (item,) = client.post(f"{root}/next", json=body).json()["items"]
    said = {"reviewer": "ana", "key": "a" * 16, "building_id": item["id"], "verdict": "minor-damage"}
    assert client.post(f"{root}/answer", json=said).json()["state"]["title"] == "town"
    assert client.get(f"{root}/crop/{item['row']}/near/post").content[8:12] == b"WEBP"
    (answer,) = client.get(f"/api/maps/{number}/answers").json()["answers"]
    assert (answer["building_id"], answer["reviewer"]) == (item["id"], "ana")
    assert client.get(f"/api/maps/{number}/totals").json()["sample"]["answers"] in (0, 1)


def test_areas_are_counted_by_squares(client, number):
    told = client.get(f"/api/maps/{number}/areas", params={"grid": 50}).json()
    assert sum(each["properties"]["buildings"] for each in told["features"]) == 25
    assert client.get(f"/api/maps/{number}/areas").status_code == 422


def test_cells_of_h3_are_offered_where_they_can_be_counted(client, number, monkeypatch):
    assert client.get(f"/api/maps/{number}").json()["h3"] is True
    monkeypatch.setitem(extras.MODULES, "areas", ("no_such_module",))
    assert client.get(f"/api/maps/{number}").json()["h3"] is False


def test_features_come_by_pages_boxes_and_classes(client, number):
    items = f"/ogc/collections/{number}/items"
    first = client.get(items, params={"limit": 10}).json()
    assert (first["numberMatched"], first["numberReturned"]) == (25, 10)
    names, page = [each["id"] for each in first["features"]], first
    while following := [each["href"] for each in page["links"] if each["rel"] == "next"]:
        page = client.get(following[0]).json()
        names += [each["id"] for each in page["features"]]
    assert names == [f"b{n}" for n in range(25)]
    assert client.get(items, params={"damage": "destroyed"}).json()["numberMatched"] == 6
    lon, lat = client.get(f"{items}/b7").json()["geometry"]["coordinates"][0][0][0]
    box = f"{lon - 1e-6},{lat - 1e-6},{lon + 1e-6},{lat + 1e-6}"
    assert [each["id"] for each in client.get(items, params={"bbox": box}).json()["features"]] == ["b7"]
    for odd in ({"bbox": "1,2,3"}, {"limit": 0}, {"colour": "red"}, {"damage": "wet"}):
        assert client.get(items, params=odd).status_code == 400
    assert client.get(f"{items}/b99").status_code == 404


def test_a_map_in_pixels_has_tiles_and_is_no_collection(service, client, tmp_path):
    from aftermap.geo.grid import Grid
    from reviewed_map import SIDE
    from served import add_map, make_made

    folder = tmp_path / "plain"
    folder.mkdir()
    number = add_map(service, make_made(folder, Grid.pixels(SIDE, SIDE)))
    told = client.get(f"/api/maps/{number}").json()
    assert not told["georeferenced"] and "features" not in told["links"]
    x, y = tile_at(told["bounds"], 18)
    assert pixels_of(client.get(f"/api/maps/{number}/tiles/pre/18/{x}/{y}"))[..., 3].any()
    found = client.get(f"/api/maps/{number}/buildings", params={"q": "b24"}).json()[0]
    west, south, east, north = told["bounds"]
    assert west < found["lon"] < east and south < found["lat"] < north
    assert client.get(f"/ogc/collections/{number}").status_code == 404
