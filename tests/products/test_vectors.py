import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
from building_frames import GRID, PIXELS, building, empty, frame_of, town
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, Polygon, box, shape

from aftermap.errors import OutputError
from aftermap.products.vectors import COLUMNS, PIXEL_NOTE, write_buildings


def geojson(folder: Path) -> dict:
    return json.loads((folder / "buildings.geojson").read_text())


def test_geopackage_keeps_reference_system_columns_and_geometry(tmp_path: Path) -> None:
    write_buildings(town(), tmp_path)
    assert pyogrio.list_layers(tmp_path / "buildings.gpkg")[:, 0].tolist() == ["buildings"]
    back = gpd.read_file(tmp_path / "buildings.gpkg", layer="buildings")
    assert back.crs == GRID.crs
    assert tuple(back.columns) == (*COLUMNS, "geometry")
    assert back["damage"].tolist() == town()["damage"].tolist()
    assert back.geometry.area.tolist() == pytest.approx(town().geometry.area.tolist())
    assert np.isnan(back["confidence"].iloc[5])


def test_geojson_is_in_degrees_with_seven_decimals(tmp_path: Path) -> None:
    write_buildings(town(), tmp_path)
    first = geojson(tmp_path)["features"][0]
    assert first["properties"]["building_id"] == "a1"
    corner = GRID.lonlat(np.array([20]), np.array([20]))
    ring = np.array(first["geometry"]["coordinates"][0])
    distance = np.hypot(ring[:, 0] - corner[0], ring[:, 1] - corner[1])
    assert distance.min() < 1e-7
    assert np.array_equal(ring, np.round(ring, 7))


def test_geojson_shells_run_counter_clockwise_and_holes_clockwise(tmp_path: Path) -> None:
    write_buildings(town(), tmp_path)
    court = shape(geojson(tmp_path)["features"][2]["geometry"])
    assert court.exterior.is_ccw
    assert not court.interiors[0].is_ccw


def test_geojson_keeps_the_parts_of_a_building(tmp_path: Path) -> None:
    write_buildings(town(), tmp_path)
    assert len(shape(geojson(tmp_path)["features"][4]["geometry"]).geoms) == 2


def test_missing_numbers_are_null_in_geojson(tmp_path: Path) -> None:
    write_buildings(town(), tmp_path)
    properties = geojson(tmp_path)["features"][5]["properties"]
    assert properties["p_destroyed"] is None
    assert properties["reason"] == "no data"


def test_csv_has_the_columns_and_the_position(tmp_path: Path) -> None:
    write_buildings(town(), tmp_path)
    table = pd.read_csv(tmp_path / "buildings.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["p_destroyed"].iloc[4] == 0.8
    assert table["lon"].iloc[0] == pytest.approx(GRID.lonlat(np.array([35]), np.array([30]))[0][0], abs=1e-7)


def test_plain_images_give_pixel_coordinates_and_a_note(tmp_path: Path) -> None:
    write_buildings(town(PIXELS), tmp_path)
    collection = geojson(tmp_path)
    assert collection["note"] == PIXEL_NOTE
    assert shape(collection["features"][0]["geometry"]).bounds == (20, 20, 50, 40)
    assert gpd.read_file(tmp_path / "buildings.gpkg").total_bounds.tolist() == [20, 20, 220, 130]


@pytest.mark.parametrize("grid", [GRID, PIXELS], ids=["georeferenced", "pixels"])
def test_an_empty_frame_gives_valid_layers_with_all_columns(tmp_path: Path, grid: object) -> None:
    assert isinstance(grid, type(GRID))
    write_buildings(empty(grid), tmp_path)
    layer = gpd.read_file(tmp_path / "buildings.gpkg", layer="buildings")
    assert (len(layer), tuple(layer.columns)) == (0, (*COLUMNS, "geometry"))
    types = dict(
        zip(
            *[pyogrio.read_info(tmp_path / "buildings.gpkg")[k] for k in ("fields", "ogr_types")], strict=True
        )
    )
    assert (types["building_id"], types["p_minor"], types["reason"]) == ("OFTString", "OFTReal", "OFTString")
    assert geojson(tmp_path)["features"] == []
    assert tuple(pd.read_csv(tmp_path / "buildings.csv").columns) == COLUMNS


def test_further_columns_follow_the_contract(tmp_path: Path) -> None:
    frame = town()
    frame.insert(0, "model", "box")
    write_buildings(frame, tmp_path)
    assert tuple(pd.read_csv(tmp_path / "buildings.csv").columns) == (*COLUMNS, "model")


def test_same_frame_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        contents.append([path.read_bytes() for path in write_buildings(town(), tmp_path / name)])
    assert contents[0] == contents[1]


def test_a_building_on_the_antimeridian_is_cut_in_two(tmp_path: Path) -> None:
    frame = frame_of([building("a", "destroyed", box(0, 0, 10, 10))])
    frame = frame.set_geometry([Polygon([(179.9, 0), (180.3, 0), (180.3, 1), (179.9, 1)])]).set_crs(
        4326, allow_override=True
    )
    write_buildings(frame, tmp_path)
    cut = shape(geojson(tmp_path)["features"][0]["geometry"])
    assert isinstance(cut, MultiPolygon)
    assert [part.bounds for part in cut.geoms] == [(179.9, 0, 180, 1), (-180, 0, -179.7, 1)]


BROKEN = {
    "lack seen": town().drop(columns="seen"),
    "more than once": pd.concat([town(), town()]),
    "no building_id": town().assign(building_id=None),
    "damage outside no-damage, minor-damage": town().assign(damage="ruined"),
    "gives no reason": town().assign(reason=""),
    "lacks a probability": town().assign(p_minor=None),
    "outside 0 to 1": town().assign(seen=1.2),
    "do not sum to 1": town().assign(p_major=0.9),
    "negative area": town().assign(area_m2=-1),
    "no polygon": town().set_geometry([Point(0, 0)] * 6),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_frame_that_breaks_the_contract_is_refused(tmp_path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_buildings(BROKEN[message], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_old_files_stay_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [path.read_bytes() for path in write_buildings(town(), tmp_path)]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aftermap.products.vectors._write_csv", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_buildings(town().iloc[:2], tmp_path)
    names = ("buildings.gpkg", "buildings.geojson", "buildings.csv")
    assert [(tmp_path / name).read_bytes() for name in names] == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        write_buildings(town(), tmp_path / "nowhere")


@settings(max_examples=25)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
def test_any_identifier_survives_geojson(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("ids")
    write_buildings(frame_of([building(text, "no-damage", box(0, 0, 9, 9))]), folder)
    assert geojson(folder)["features"][0]["properties"]["building_id"] == text
