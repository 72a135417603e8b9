"""Packages of agencies: names, layers and values read again with other libraries, versions and what changed."""

import csv
import hashlib
import json
import shutil
import sqlite3

import numpy as np
import pyogrio
import pytest
import shapely
from pyogrio import raw

import finished_maps
from aftermap import api
from aftermap.errors import GeoreferenceError, InputError
from aftermap.files import read_json, write_json
from aftermap.geo.grid import Grid

DAMAGE = ["destroyed", "major-damage", "minor-damage", "no-damage", "not-assessed", "destroyed"]
PLACES = [(10, 10), (12, 14), (60, 20), (70, 30), (80, 60), (110, 70)]
STEM = "EMSR123_AOI02_GRA_PRODUCT"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    frame = finished_maps.table(PLACES, DAMAGE, side_px=1)
    frame["building_id"] = ["b1", "=2+3", "é" * 140, "9007199254740993", "b5", "b6"]
    folder = finished_maps.finish(tmp_path_factory.mktemp("agencies") / "ville", frame)
    tree = read_json(folder / "provenance.json")
    grid = {
        "crs": "EPSG:32615",
        "transform": [0.5, 0, 400_000, 0, -0.5, 4_100_000],
        "width": 2000,
        "height": 1000,
        "resolution_m": 0.5002,
    }
    tree["inputs"]["pre"] = {"acquired": "2009-04-01", "grid": grid}
    write_json(folder / "provenance.json", tree)
    return folder


@pytest.fixture(scope="module")
def ems(made):
    return api.agency_package(made, "ems", code="EMSR123", number=2, event="3-Storm", licence="CC BY 4.0")


def table_of(path, layer=None):
    """Columns by name, and shapes, as OGR reads them."""
    meta, _, shapes, columns = raw.read(path, layer=layer)
    found = {str(name): values.tolist() for name, values in zip(meta["fields"], columns, strict=True)}
    return meta, found, None if shapes is None else shapely.from_wkb(shapes)


def csv_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_names_of_copernicus(ems):
    assert ems.folder.name == f"{STEM}_v1" and ems.version == 1 and ems.is_new
    layers = ("areaOfInterestA", "builtUpA", "imageFootprintA", "observedEventA")
    wanted = {f"{STEM}_{layer}_v1.{end}" for layer in layers for end in ("shp", "shx", "dbf", "prj", "cpg")}
    wanted |= {f"{STEM}_source_v1.dbf", f"{STEM}_source_v1.cpg", f"{STEM}_summaryTable_v1.csv"}
    wanted |= {"lineage.json", "grades.csv", "README.txt"}
    assert {path.name for path in ems.folder.iterdir()} == wanted


def test_graded_buildings_of_copernicus(made, ems):
    meta, found, shapes = table_of(ems.folder / f"{STEM}_builtUpA_v1.shp")
    assert meta["crs"] == "EPSG:4326"
    assert list(found)[:8] == [
        *("obj_type", "name", "info", "damage_gra", "det_method", "notation", "or_src_id", "dmg_src_id")
    ]
    assert found["damage_gra"] == [
        *("Destroyed", "Damaged", "Possibly damaged", "No visible damage", "Not Applicable", "Destroyed")
    ]
    assert set(found["scale"]) == {"copernicus-ems-grading"}
    assert found["bldg_id"] == ["b1", "=2+3", "é" * 127, "9007199254740993", "b5", "b6"]
    assert found["dmg_src_id"] == [2] * 6 and found["or_src_id"] == [1] * 6
    assert (found["confidence"][0] == pytest.approx(0.8) and found["confidence"][4] is None) or np.isnan(
        found["confidence"][4]
    )
    buildings = pyogrio.read_dataframe(made / "buildings.gpkg").to_crs(4326)
    assert shapely.hausdorff_distance(shapes, buildings.geometry.to_numpy()).max() < 2e-7


def test_sources_area_footprints_and_event(ems):
    _, sources, _ = table_of(ems.folder / f"{STEM}_source_v1.dbf")
    assert sources["src_date"] == ["01/04/2009", "24/05/2011"] and sources["src_id"] == [1, 2]
    assert sources["eventphase"] == ["Pre-event", "Post-event"] and sources["sensor_gsd"][0] == "0.5 m"
    _, area, shapes = table_of(ems.folder / f"{STEM}_areaOfInterestA_v1.shp")
    assert (area["emsr_id"], area["area_id"], area["name"]) == (["EMSR123"], [2], ["ville"])
    assert shapes[0].bounds == pytest.approx((-94.1245, 37.0330, -94.1109, 37.0404), abs=1e-3)
    _, footprints, images = table_of(ems.folder / f"{STEM}_imageFootprintA_v1.shp")
    assert footprints["or_src_id"] == [1, 2]
    # 1000 m by 500 m of 1200 m by 800 m
    assert images[0].area / images[1].area == pytest.approx(0.5 / 0.96, rel=1e-3)
    _, event, around = table_of(ems.folder / f"{STEM}_observedEventA_v1.shp")
    assert event["event_type"] == ["3-Storm"] and event["dmg_src_id"] == [2]
    points = [table_of(ems.folder / f"{STEM}_builtUpA_v1.shp")[2][n] for n in (0, 1, 2, 5)]
    assert all(around[0].contains(point) for point in points)
    assert csv_of(ems.folder / f"{STEM}_summaryTable_v1.csv")[1:3] == [
        ["Built-up", "No.", "Not Applicable", "1", "copernicus-ems-grading"],
        ["Built-up", "No.", "Destroyed", "2", "copernicus-ems-grading"],
    ]


def test_lineage_says_what_it_is_and_what_it_is_not(ems):
    told = json.loads((ems.folder / "lineage.json").read_text())
    assert told["status"] == "Rapid assessment by remote sensing, not validated in the field"
    assert "not issued or checked by that agency" in told["not_a_product_of"]
    assert told["scale"]["name"] == "copernicus-ems-grading" and told["licence"] == "CC BY 4.0"
    assert (
        told["counts"]
        == dict(ems.counts)
        == {
            "Damaged": 1,
            "Destroyed": 2,
            "No visible damage": 1,
            "Not Applicable": 1,
            "Possibly damaged": 1,
        }
    )
    for name, digest in told["files"].items():
        assert hashlib.sha256((ems.folder / name).read_bytes()).hexdigest() == digest
    assert "EMS-98" not in json.dumps(told)


def test_a_second_version_tells_what_changed_and_the_first_stays(made, ems, tmp_path):
    folder = shutil.copytree(made, tmp_path / "ville")
    options = {"code": "EMSR123", "number": 2}
    same = api.agency_package(folder, "ems", **options)
    assert (same.version, same.is_new, same.changed) == (1, False, 0)
    frame = finished_maps.table(PLACES, ["destroyed", "destroyed", *DAMAGE[2:5], "no-damage"], side_px=1)
    frame["building_id"] = ["b1", "=2+3", "new", "9007199254740993", "b5", "b6"]
    other = finished_maps.finish(tmp_path / "other", frame)
    for name in ("buildings.gpkg", "summary.json"):
        shutil.copy(other / name, folder / name)
    before = (same.folder / "lineage.json").read_bytes()
    second = api.agency_package(folder, "ems", **options)
    assert (second.version, second.is_new, second.changed) == (2, True, 4)
    assert second.folder.name == f"{STEM}_v2" and (same.folder / "lineage.json").read_bytes() == before
    rows = csv_of(second.folder / "changes.csv")
    assert rows[0] == ["what", "name", "v1", "v2", "difference"]
    assert ["count", "Damaged", "1", "0", "-1"] in rows and [
        "count",
        "No visible damage",
        "1",
        "2",
        "1",
    ] in rows
    assert ["building", "'=2+3", "major-damage: Damaged", "destroyed: Destroyed", ""] in rows
    assert ["building", "é" * 140, "minor-damage: Possibly damaged", "", ""] in rows
    assert ["building", "new", "", "minor-damage: Possibly damaged", ""] in rows
    assert ["building", "b6", "destroyed: Destroyed", "no-damage: No visible damage", ""] in rows
    assert read_json(second.folder / "lineage.json")["replaces"] == f"{STEM}_v1"


def test_grades_of_two_scales_are_never_compared(made, tmp_path):
    first = api.agency_package(made, "fema", to=tmp_path)
    grades = first.folder / "grades.csv"
    grades.write_text(grades.read_text().replace("fema-pda", "unosat", 1))
    with pytest.raises(InputError, match=r"grades\.csv mixes scales of damage \(fema-pda, unosat\)"):
        api.agency_package(made, "fema", to=tmp_path)
    grades.unlink()
    with pytest.raises(InputError, match="of the version before cannot be read"):
        api.agency_package(made, "fema", to=tmp_path)


def test_points_and_cells_of_unosat(made, tmp_path):
    result = api.agency_package(made, "unosat", code="TO20110522USA", to=tmp_path)
    path = tmp_path / "UNOSAT_Layout_TO20110522USA_AOI01_v1" / "UNOSAT_Layout_TO20110522USA_AOI01_v1.gpkg"
    assert result.folder == path.parent
    with sqlite3.connect(path) as file:
        rows = file.execute(
            "select SiteID, Main_Damage_Site_Class, Damage_Class_Name, SensorDate, FieldValidation, scale from "
            '"Damage_Sites_TO20110522USA"'
        ).fetchall()
    day, words = "2011-05-24", "Not yet field validated"
    assert rows == [
        ("b1", 1, "Destroyed", day, words, "unosat"),
        ("=2+3", 2, "Severe Damage", day, words, "unosat"),
        ("é" * 140, 3, "Moderate Damage", day, words, "unosat"),
        ("b6", 1, "Destroyed", day, words, "unosat"),
    ]
    meta, cells, shapes = table_of(path, "Damage_Cells_500m_TO20110522USA")
    # metres from (400000, 4100000): (100, -100), (120, -140) | (600, -200), (700, -300) | (800, -600) | (1100, -700)
    assert meta["crs"] == "EPSG:4326"
    assert sorted(
        zip(cells["CellID"], cells["Buildings"], cells["Damaged"], cells["Not_Assessed"], strict=True)
    ) == [
        ("32615_E400000_N4099500_500m", 2, 2, 0),
        ("32615_E400500_N4099000_500m", 1, 0, 1),
        ("32615_E400500_N4099500_500m", 2, 1, 0),
        ("32615_E401000_N4099000_500m", 1, 1, 0),
    ]
    assert sorted(cells["Damage_In_Cell"]) == ["No", "Yes", "Yes", "Yes"] and set(cells["scale"]) == {
        "unosat"
    }
    geod = pyogrio.read_dataframe(path, layer="Damage_Cells_500m_TO20110522USA").to_crs(32615).area
    assert np.allclose(geod, 250_000, rtol=1e-6) and len(shapes) == 4


def test_fema_claims_destroyed_and_affected_only(made, tmp_path):
    folder = api.agency_package(made, "fema", code="DR-1980", event="Tornado", to=tmp_path).folder
    assert folder.name == "FEMA_Layout_DR-1980_AOI01_v1"
    _, found, shapes = table_of(folder / f"{folder.name}.gdb", "Damage_Assessment")
    assert found["Damage_Level"] == ["Destroyed", "Affected", "Affected", "Destroyed"] and len(shapes) == 4
    assert found["Joint_Damage_Scale"] == ["destroyed", "major-damage", "minor-damage", "destroyed"]
    assert set(found["Assessment_Type"]) == {"Remote Sensing"} and set(found["scale"]) == {"fema-pda"}
    assert set(found["Damage_Type"]) == {"Tornado"} and np.isnan(found["Inundation_Depth"]).all()
    rows = csv_of(folder / f"{folder.name}.csv")
    assert rows[2][:6] == ["'=2+3", "Affected", "Tornado", "Remote Sensing", "", ""] and len(rows) == 5
    told = read_json(folder / "lineage.json")
    assert told["counts"] == {"Affected": 2, "Destroyed": 2, "no claim from above": 1, "not assessed": 1}


def test_hdx_has_hashtags_licence_and_caveats(made, tmp_path):
    folder = api.agency_package(made, "hdx", code="ville", licence="CC BY 4.0", to=tmp_path).folder
    rows = csv_of(folder / "ville-aoi01-building-damage_v1.csv")
    assert rows[0][:3] == ["building_id", "damage", "scale"] and rows[1][0] == "#loc+building+id"
    assert all(tag.startswith("#") for tag in rows[1]) and len(rows) == 2 + 6
    assert rows[2][:3] == ["b1", "destroyed", "joint-damage-scale"] and rows[2][-1] == "2011-05-24"
    assert float(rows[2][5]) == pytest.approx(37.0394, abs=2e-3) and rows[6][7] == "cloud"
    totals = csv_of(folder / "ville-aoi01-building-damage_v1_totals.csv")
    assert totals[2] == ["destroyed", "joint-damage-scale", "2"]
    told = read_json(folder / "ville-aoi01-building-damage_v1_metadata.json")
    assert told["license_other"] == "CC BY 4.0" and told["dataset_date"].startswith("[2011-05-24T")
    assert "no building was visited" in told["caveats"] and told["private"] is True


def test_hdx_tells_the_sources_of_a_fused_map(made, tmp_path):
    fused = api.fuse([made, made], tmp_path / "fused").folder
    folder = api.agency_package(fused, "hdx").folder
    told = read_json(folder / "event-aoi01-building-damage_v1_metadata.json")["methodology_other"]
    assert told == f"Several sources were pooled building by building: {made.name}, {made.name}."


@pytest.mark.parametrize("agency", ["ems", "unosat", "fema", "hdx"])
def test_a_map_without_buildings_is_packaged(tmp_path, agency):
    folder = finished_maps.finish(tmp_path / "none", finished_maps.table([], []))
    result = api.agency_package(folder, agency)
    assert result.is_new and result.counts == {} and (result.folder / "README.txt").is_file()
    assert not api.agency_package(folder, agency).is_new


def test_wrong_input_is_one_line(made, tmp_path):
    with pytest.raises(
        InputError, match="--package 'usgs' is no agency: expected one of ems, unosat, fema, hdx"
    ):
        api.agency_package(made, "usgs")
    with pytest.raises(InputError, match="cannot be part of a file's name"):
        api.agency_package(made, "ems", code="../EMSR1")
    with pytest.raises(InputError, match="is not between 1 and 99"):
        api.agency_package(made, "ems", number=0)
    grid = Grid.pixels(120, 80)
    plain = finished_maps.finish(tmp_path / "plain", finished_maps.table(PLACES, DAMAGE, grid), grid)
    with pytest.raises(GeoreferenceError, match="is a map in pixels: a package needs longitude and latitude"):
        api.agency_package(plain, "fema")
    assert not (plain / "package").exists()
