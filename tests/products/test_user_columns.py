"""The user's columns in every table of buildings, by value."""

import json
import sqlite3
from contextlib import closing

import geopandas
import pandas as pd
import pyogrio
import pytest
from building_frames import town

from aftermap.errors import DataWarning
from aftermap.geo.vectors.table import frame_of
from aftermap.products.vectors import COLUMNS, write_buildings
from aftermap.workflows.mapping.inputs.known import MAX_COLUMNS, join_columns, new_names

USER = {
    "name": ["Ana's", None, "é", "=1+1", "", "x"],
    "floors": [1, None, 3, 4, 5, 1234567890123456789],
    "height": [1.5, None, 2, 3, 4, 5],
    "listed": [True, None, False, True, True, False],
    "built": ["1999-05-22", None, "2001", "a", "b", "c"],
    "damage": ["mine"] * 6,
    "Fid": [1] * 6,
    "mixed": [1, "x", None, {"a": 1}, [2], 2.5],
}


@pytest.fixture
def written(tmp_path):
    write_buildings(join_columns(town(), frame_of(USER, 6)), tmp_path)
    return tmp_path


def test_they_follow_ours_and_give_way_where_names_clash(written):
    named = ["name", "floors", "height", "listed", "built", "user_damage", "user_Fid", "mixed"]
    with (written / "buildings.csv").open() as file:
        assert file.readline().strip().split(",") == [*COLUMNS, *named]
    assert pyogrio.read_info(written / "buildings.gpkg", layer="buildings")["fields"].tolist() == [
        *COLUMNS,
        *named,
    ]


def test_geojson_has_their_values(written):
    features = json.loads((written / "buildings.geojson").read_text())["features"]
    for name, values in USER.items():
        column = {"damage": "user_damage", "Fid": "user_Fid"}.get(name, name)
        expected = ["1", "x", None, '{"a": 1}', "[2]", "2.5"] if name == "mixed" else values
        assert [each["properties"][column] for each in features] == expected


def test_the_geopackage_has_their_types_and_values(written):
    with closing(sqlite3.connect(written / "buildings.gpkg")) as database:
        types = {row[1]: row[2] for row in database.execute("PRAGMA table_info(buildings)")}
        rows = database.execute(
            "SELECT name, floors, height, listed, user_damage, user_Fid FROM buildings"
        ).fetchall()
    assert [types[name] for name in ("floors", "height", "listed", "name")] == [
        "INTEGER",
        "REAL",
        "BOOLEAN",
        "TEXT",
    ]
    columns = list(zip(*rows, strict=True))
    for found, name in zip(columns, ("name", "floors", "height", "listed", "damage", "Fid"), strict=True):
        assert list(found) == USER[name]


def test_csv_cells_that_would_run_are_text_and_numbers_stay(written):
    table = pd.read_csv(written / "buildings.csv", dtype=str, keep_default_na=False)
    assert table["name"].tolist() == ["Ana's", "", "é", "'=1+1", "", "x"]
    assert table["floors"].tolist() == ["1", "", "3", "4", "5", "1234567890123456789"]
    assert table["listed"].tolist() == ["True", "", "False", "True", "True", "False"]


def test_names_are_told_apart_without_case_and_in_every_format():
    names = ["Damage", "damage", "user_damage", "geom", "Name", "name", " ", "image"]
    found = new_names(names, ["building_id", "damage", "image", "geometry"])
    assert found == {
        "Damage": "user_Damage",
        "damage": "user_damage_2",
        "user_damage": "user_user_damage",
        "geom": "user_geom",
        "Name": "Name",
        "name": "user_name",
        " ": "column",
        "image": "user_image",
    }
    assert len({name.casefold() for name in found.values()}) == len(names)


def test_an_id_that_is_ours_unchanged_is_not_repeated():
    frame = town()
    same = frame_of({"building_id": frame["building_id"].tolist(), "use": ["x"] * 6}, 6)
    assert list(join_columns(frame, same).columns)[-2:] == ["use", "geometry"]
    other = frame_of({"building_id": ["x"] * 6}, 6)
    assert "user_building_id" in join_columns(frame, other).columns


def test_more_columns_than_a_table_holds_are_told_of(tmp_path):
    many = frame_of({f"c{n}": [n] * 6 for n in range(MAX_COLUMNS + 5)}, 6)
    with pytest.warns(DataWarning, match="have 1,005 columns: the first 1,000 are kept"):
        frame = join_columns(town(), many)
    write_buildings(frame, tmp_path)
    assert geopandas.read_file(tmp_path / "buildings.gpkg", layer="buildings")["c999"].tolist() == [999] * 6
