import json
from datetime import date
from pathlib import Path

import pytest

from aftermap.errors import InputError
from aftermap.workflows.many.pairs import read_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a1.tif", "a2.tif", "b1.tif", "b2.tif", "houses.gpkg"):
        (tmp_path / name).touch()
    return tmp_path


def listed(folder: Path, text: str, name: str = "pairs.csv") -> list:
    (folder / name).write_text(text)
    return read_pairs(folder / name)


def refused(folder: Path, text: str, name: str = "pairs.csv") -> str:
    with pytest.raises(InputError) as caught:
        listed(folder, text, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_paths_are_relative_to_the_list_and_scenes_without_a_name_are_called_after_their_image(folder):
    one, two = listed(folder, "pre,post,pre_date\na1.tif,a2.tif,2024-02-03\nb1.tif,b2.tif,\n")
    assert (one.name, one.pre, one.post) == ("a1", str(folder / "a1.tif"), str(folder / "a2.tif"))
    assert (one.pre_date, one.post_date, two.name) == (date(2024, 2, 3), None, "b1")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_semicolons_and_tabs_separate_as_well(folder, mark):
    rows = "\ufeffPost;Pre;Name\r\na2.tif;a1.tif;first\r\n\r\n".replace(";", mark)
    assert [(pair.name, Path(pair.pre).name) for pair in listed(folder, rows)] == [("first", "a1.tif")]


def test_a_list_may_be_json(folder):
    rows = [{"pre": "a1.tif", "post": "a2.tif", "footprints": "houses.gpkg:homes"}]
    for tree in (rows, {"pairs": rows}):
        (pair,) = listed(folder, json.dumps(tree), "pairs.json")
        assert pair.footprints == str(folder / "houses.gpkg:homes")


def test_addresses_stay_as_they_are(folder):
    (pair,) = listed(folder, "pre,post\nhttps://host/a.tif?x=1,s3://bucket/b.tif\n")
    assert (pair.pre, pair.post, pair.name) == ("https://host/a.tif?x=1", "s3://bucket/b.tif", "a")


def test_an_address_of_an_unknown_kind_and_a_list_elsewhere_are_refused(folder):
    told = refused(folder, "pre,post\na1.tif,ftp://host/a.tif\n")
    assert "row 2, column post: ftp:// is not read" in told
    with pytest.raises(InputError, match="copy it to a file here"):
        read_pairs(Path("https://host/pairs.csv"))


def test_scenes_of_one_file_name_get_numbers(folder):
    (folder / "other").mkdir()
    (folder / "other" / "a1.tif").touch()
    pairs = listed(folder, "pre,post\na1.tif,a2.tif\nother/a1.tif,b2.tif\n")
    assert [pair.name for pair in pairs] == ["a1", "a1-2"]


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "row 1: there is no column pre (it has nothing)"),
        ("pre,post\n", "lists no pair"),
        ("before,after\na1.tif,a2.tif\n", "row 1: there is no column pre"),
        ("pre,post,cloud\na1.tif,a2.tif,\n", "row 1: column 'cloud' is not known"),
        ("pre,post,pre\na1.tif,a2.tif,\n", "row 1: column pre appears twice"),
        ("pre,post\na1.tif\n", "row 2: it has 1 cells, the first row has 2"),
        ("pre,post\na1.tif,\n", "row 2, column post: it is empty"),
        ("pre,post\na1.tif,a2.tif\nb1.tif,gone.tif\n", "row 3, column post: there is no"),
        ("pre,post\na1.tif,a1.tif\n", "row 2, column post: it is the image from before"),
        ("pre,post\na1.tif,a2.tif\na1.tif,a2.tif\n", "row 3: it is the pair of row 2 again"),
        ("name,pre,post\nx,a1.tif,a2.tif\nX,b1.tif,b2.tif\n", "row 3, column name: 'X' is the name of row 2 too"),
        ("pre,post,post_date\na1.tif,a2.tif,24.5.2011\n", "row 2, column post_date: '24.5.2011' is no day"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused_by_row_and_column(folder, text, told):
    assert told in refused(folder, text)


@pytest.mark.parametrize(
    "tree, told",
    [
        ([1], "row 1: 1 is no pair"),
        ([{"pre": "a1.tif", "post": 3}], "row 1, column post: 3 is no text"),
        ({"rows": []}, "holds no list"),
        ({"type": "Collection", "links": []}, "links to no item"),
        ({"type": "FeatureCollection", "features": [{"type": "Feature", "id": "x"}]}, "item 1 (x), asset pre"),
    ],
)  # fmt: skip
def test_wrong_json_is_refused_likewise(folder, tree, told):
    assert told in refused(folder, json.dumps(tree), "pairs.json")


def test_what_is_no_list_is_refused(folder):
    assert "no JSON" in refused(folder, "{", "pairs.json")
    (folder / "image.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="no text in UTF-8"):
        read_pairs(folder / "image.csv")
    for path in (folder, folder / "gone.csv"):
        with pytest.raises(InputError, match="cannot read the list of pairs"):
            read_pairs(path)


def test_a_stac_collection_gives_a_scene_for_each_item(folder):
    item = {
        "type": "Feature",
        "id": "north",
        "properties": {"aftermap:post_date": "2011-05-24T10:00:00Z"},
        "assets": {
            "pre": {"href": "../a1.tif"},
            "visual": {"href": "https://host/after.tif", "roles": ["data", "post"]},
        },
    }
    (folder / "items").mkdir()
    (folder / "items" / "north.json").write_text(json.dumps(item))
    links = [{"rel": "self", "href": "x"}, {"rel": "item", "href": "items/north.json"}]
    (pair,) = listed(folder, json.dumps({"type": "Collection", "links": links}), "collection.json")
    assert (pair.name, pair.post, pair.post_date) == ("north", "https://host/after.tif", date(2011, 5, 24))
    assert Path(pair.pre).resolve() == (folder / "a1.tif").resolve()


def test_an_item_of_several_images_is_refused_with_what_to_do(folder):
    assets = {f"pre-{number}": {"href": f"a{number}.tif", "roles": ["pre", "data"]} for number in (1, 2)}
    item = {"type": "Feature", "id": "north", "assets": assets | {"post": {"href": "b1.tif"}}}
    told = refused(folder, json.dumps({"type": "FeatureCollection", "features": [item]}), "pairs.json")
    assert "item 1 (north), asset pre: there are 2, and a scene has one" in told
