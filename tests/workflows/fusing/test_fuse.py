"""Several sources fused: pools by hand, sources that abstain or part less, and a folder that opens like a map."""

import json
import shutil

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image
from shapely.geometry import Point, box

from aftermap import api
from aftermap.cli.maps.fuse import by_source
from aftermap.errors import InputError
from aftermap.files import read_json, write_json
from aftermap.workflows.fusing.cells import Voice, fused_frame
from aftermap.workflows.fusing.pooling import Opinions, entropy, pool, refined
from aftermap.workflows.mapping.finished import open_map
from finished_maps import GRID, NORTH, WEST, finished, house

PLACES = {"A": house(4, 4), "B": house(24, 4), "C": house(44, 4), "D": house(64, 4)}
ALL, BINARY = np.arange(4), np.array([0, 1, 1, 1])


def said(rows, groups=ALL):
    table = np.array(rows, float)
    return Opinions(table, np.tile(groups, (len(table), 1)))


def town(folder, damage, **options):
    return finished(folder, {name: (PLACES[name], *told) for name, told in damage.items()}, **options)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    first = {
        "A": ("no-damage", (0.8, 0.1, 0.1, 0.0)),
        "B": ("destroyed", (0.1, 0.1, 0.2, 0.6)),
        "C": ("not-assessed",),
        "D": ("minor-damage", (0.5, 0.3, 0.1, 0.1)),
    }
    second = {
        "A": ("no-damage", (0.6, 0.2, 0.1, 0.1)),
        "B": ("no-damage", (0.7, 0.1, 0.1, 0.1)),
        "C": ("not-assessed",),
        "D": ("minor-damage", (0.5, 0.3, 0.1, 0.1)),
    }
    return town(folder / "box", first), town(folder / "field", second, model="field")


def test_a_linear_pool_is_the_mean_by_weight():
    found = pool([said([[0.8, 0.1, 0.1, 0.0]]), said([[0.2, 0.2, 0.2, 0.4]])], [3.0, 1.0], "linear")
    assert found[0] == pytest.approx([0.65, 0.125, 0.125, 0.1])


def test_a_logarithmic_pool_is_the_normed_product():
    found = pool([said([[0.8, 0.1, 0.05, 0.05]]), said([[0.2, 0.4, 0.2, 0.2]])], [1.0, 1.0], "logarithmic")
    roots = np.sqrt([0.16, 0.04, 0.01, 0.01])
    assert found[0] == pytest.approx(roots / roots.sum())
    alike = pool([said([[0.7, 0.1, 0.1, 0.1]])] * 3, [1.0, 2.0, 0.5], "logarithmic")
    assert alike[0] == pytest.approx([0.7, 0.1, 0.1, 0.1])  # the same thing said thrice makes nobody surer


def test_who_says_nothing_abstains():
    silent = said([[np.nan] * 4, [np.nan] * 4])
    found = pool([said([[0.7, 0.1, 0.1, 0.1], [np.nan] * 4]), silent], [1.0, 9.0], "linear")
    assert found[0] == pytest.approx([0.7, 0.1, 0.1, 0.1]) and np.isnan(found[1]).all()


def test_a_coarse_source_moves_the_line_that_it_knows_only():
    fine, coarse = said([[0.8, 0.1, 0.06, 0.04]]), said([[0.4, 0.2, 0.2, 0.2]], BINARY)
    assert refined(coarse, fine.probabilities)[0] == pytest.approx([0.4, 0.3, 0.18, 0.12])
    found = pool([fine, coarse], [1.0, 1.0], "linear")[0]
    assert found == pytest.approx([0.6, 0.2, 0.12, 0.08])
    assert found[1:] / found[1:].sum() == pytest.approx(np.array([0.1, 0.06, 0.04]) / 0.2)


def test_entropy_is_nought_where_one_is_sure_and_one_where_all_are_alike():
    found = entropy(np.array([[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [np.nan] * 4]))
    assert found[:3] == pytest.approx([0, 1, 0.5]) and np.isnan(found[3])


def test_maps_are_fused_into_one_that_opens_as_a_map(maps, tmp_path):
    fused = api.fuse(maps, tmp_path / "fused", rule="linear", weights=[1, 1])
    again = open_map(fused.folder)
    rows = again.buildings.set_index("building_id")
    assert rows.loc["B", ["p_no_damage", "p_destroyed"]].tolist() == pytest.approx([0.4, 0.35])
    assert rows["damage"].to_dict() == {
        "A": "no-damage",
        "B": "no-damage",
        "C": "not-assessed",
        "D": "minor-damage",  # both say so, though no damage is likelier: their decisions stand
    }
    assert rows["sources"].tolist() == [2, 2, 0, 2]
    assert rows["disagreement"].fillna(-1).tolist() == [0, 0.5, -1, 0]
    assert rows.loc["B", "says_1"] == "destroyed" and rows.loc["C", "reason"] == "no source"
    with rasterio.open(fused.folder / "damage.tif") as raster:
        painted = raster.read(1)
    assert [int(painted[16, column]) for column in (0, 16, 56, 96, 136)] == [0, 1, 1, 255, 2]
    assert again.provenance["sources"][1]["about"] == "map of field 1"
    assert "Where the sources differ" in (fused.folder / "disagreement.html").read_text()
    survey = geopandas.GeoDataFrame(
        {"damage_gra": ["Destroyed"]}, geometry=[Point(WEST + 28, NORTH - 8)], crs="EPSG:32636"
    )
    assert api.compare(fused.folder, survey).summary["found"]["count"] == 1
    with Image.open(fused.folder / "overview.png") as picture:
        assert picture.size[0] == 1860


def test_what_binds_one_model_binds_the_fused_map(maps, tmp_path):
    sources = [shutil.copytree(each, tmp_path / each.name) for each in maps]
    for folder, licence in zip(sources, ("MIT", "CC BY-NC-SA 4.0"), strict=True):
        tree = read_json(folder / "provenance.json")
        tree["model"] |= {"licence": licence, "limits": "Not for operations."}
        write_json(folder / "provenance.json", tree)
    model = read_json(api.fuse(sources, tmp_path / "fused").folder / "provenance.json")["model"]
    assert model["licence"] == "MIT + CC BY-NC-SA 4.0" and model["limits"] == "Not for operations."


def test_grades_and_rasters_join_in(maps, tmp_path):
    graded = tmp_path / "ems.geojson"
    points = [Point(WEST + 8, NORTH - 8), Point(WEST + 48, NORTH - 8), Point(WEST + 68, NORTH - 8)]
    geopandas.GeoDataFrame(
        {"damage_gra": ["Damaged", "Destroyed", "Possibly damaged"]}, geometry=points, crs="EPSG:32636"
    ).to_crs(4326).to_file(graded)
    values = np.full((1, GRID.height, GRID.width), np.nan, np.float32)
    values[0, 8:24, 48:64] = 0.9  # B
    radar = tmp_path / "radar.tif"
    shape = {"height": GRID.height, "width": GRID.width, "count": 1, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(radar, "w", driver="GTiff", crs=GRID.crs, transform=GRID.transform, **shape) as file:
        file.write(values)
    fused = api.fuse([maps[0], graded, radar], tmp_path / "fused", weights=[1, 1, 2])
    assert fused.rule == "linear"  # grades may not veto
    rows = fused.buildings.set_index("building_id")
    # A: .8 .1 .1 0 and "Damaged": none .1, destroyed .1, .8 on minor and major as the map parts them
    assert rows.loc["A", "p_no_damage"] == pytest.approx((0.8 + 0.2) / 2, abs=0.01)
    assert rows.loc["A", "p_minor"] == pytest.approx((0.1 + 0.4) / 2, abs=0.01)
    # B: p(damaged) .9 of the map, .9 of the raster
    assert rows.loc["B", "p_no_damage"] == pytest.approx(0.1) and rows.loc["B", "damage"] == "destroyed"
    assert rows.loc["C", "damage"] == "destroyed" and rows.loc["C", "p_destroyed"] == pytest.approx(0.8)
    assert rows["sources"].tolist() == [2, 2, 1, 1]  # "Possibly damaged" says nothing of D
    assert rows.loc["C", "says_2"] == "Destroyed"


def test_a_layer_with_probabilities_speaks_in_these(maps, tmp_path):
    layer = tmp_path / "team.gpkg"
    geopandas.GeoDataFrame(
        {"p_damaged": [0.2, None]}, geometry=[house(4, 4), house(24, 4)], crs="EPSG:32636"
    ).to_file(layer)
    fused = api.fuse([maps[0], layer], tmp_path / "fused")
    assert fused.rule == "logarithmic" and fused.buildings["sources"].tolist() == [2, 1, 0, 1]
    assert json.loads((fused.folder / "provenance.json").read_text())["sources"][1]["kind"] == "probabilities"


def test_what_cannot_be_fused_is_told(maps, tmp_path):
    def refused(match, sources, **options):
        with pytest.raises(InputError, match=match):
            api.fuse(sources, tmp_path / "out", **options)

    refused("takes two or more", maps[:1])
    refused("for 2 sources", maps, weights=[1])
    refused("above 0", maps, weights=[1, 0])
    refused("--reliability", maps, reliability=1.0)
    refused("not a finished map", [maps[0], tmp_path])
    layer = tmp_path / "odd.gpkg"
    geopandas.GeoDataFrame({"p_damaged": [20.0]}, geometry=[house(4, 4)], crs="EPSG:32636").to_file(layer)
    refused("expected probabilities from 0 to 1", [maps[0], layer])
    beside = tmp_path / "beside.gpkg"
    geopandas.GeoDataFrame({"p_damaged": [0.5]}, geometry=[house(4, 40)], crs="EPSG:32636").to_file(beside)
    refused("says nothing of any building", [maps[0], beside])
    away = finished(tmp_path / "away", {"A": (house(2000, 4), "destroyed")})
    refused("overlaps", [maps[0], away])
    assert not (tmp_path / "out").exists()


def polygons(path, shapes, **columns):
    geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32636").to_file(path)
    return path


def test_two_layers_are_read_each_in_its_own_way(maps, tmp_path):
    survey = polygons(tmp_path / "survey.gpkg", [house(4, 4)], state=["D"])
    team = polygons(tmp_path / "team.gpkg", [house(4, 4)], grade=["D"])
    options = {
        "survey": {"column": "state", "mapping": {"D": "destroyed"}, "reliability": 0.9},
        "3": {"column": "grade", "mapping": {"D": "no-damage"}, "reliability": 0.7},
    }
    fused = api.fuse([maps[0], survey, team], tmp_path / "fused", layers=options)
    # A: the map says .8 .1 .1 0, and parts the .1 that "destroyed" leaves and the .3 that "no damage" leaves
    row = fused.buildings.set_index("building_id").loc["A"]
    assert row["p_no_damage"] == pytest.approx((0.8 + 0.08 + 0.7) / 3, abs=1e-4)
    assert row["p_destroyed"] == pytest.approx((0 + 0.9 + 0) / 3, abs=1e-4)
    listed = json.loads((fused.folder / "provenance.json").read_text())["sources"]
    assert [each["options"].get("column") for each in listed] == [None, "state", "grade"]
    with pytest.raises(InputError, match=r"radar is none of the sources, which are box, survey, team"):
        api.fuse([maps[0], survey, team], tmp_path / "other", layers={"radar": {"within": 3.0}})


def test_options_of_the_command_line_go_to_the_source_that_is_named(tmp_path):
    sources = [tmp_path / "box", tmp_path / "ems.shp", tmp_path / "survey.gpkg"]
    given = {
        "column": ["damage_gra", "survey:state"],
        "mapping": ["3:a:b=destroyed"],
        "reliability": ["EMS:0.9"],
    }
    common, single = by_source(sources, given)
    assert common == {"column": "damage_gra"}
    assert single == {
        "3": {"column": "state", "mapping": {"a:b": "destroyed"}},
        "2": {"reliability": 0.9},
    }
    for wrong, match in (
        ({"column": ["a", "b"]}, "--column is given twice for all sources"),
        ({"within": ["ems:far"]}, "--within far is no number"),
    ):
        with pytest.raises(InputError, match=match):
            by_source(sources, wrong)


def class_raster(path, places, *, description=None):
    """Values on the houses of some places, 0 elsewhere."""
    values = np.zeros((1, GRID.height, GRID.width), np.uint8)
    for (across, down), value in places.items():
        values[0, 2 * down : 2 * down + 16, 2 * across : 2 * across + 16] = value
    shape = {"height": GRID.height, "width": GRID.width, "count": 1, "dtype": "uint8", "nodata": 255}
    with rasterio.open(path, "w", driver="GTiff", crs=GRID.crs, transform=GRID.transform, **shape) as file:
        file.write(values)
        if description:
            file.set_band_description(1, description)
    return path


def test_a_raster_of_classes_grades_by_most_of_an_outline(maps, tmp_path):
    path = class_raster(tmp_path / "radar.tif", {(4, 4): 1, (24, 4): 7, (44, 4): 9, (64, 4): 1})
    with rasterio.open(path, "r+", driver="GTiff") as file:
        values = file.read(1)
        values[8:12, 8:24] = 7  # a quarter of A
        values[8:24, 128:138] = 255  # most of D is not known
        file.write(values, 1)
    words = {"0": "unknown", "1": "undamaged", "7": "destroyed", "9": "unknown"}
    fused = api.fuse([maps[0], path], tmp_path / "fused", layers={"radar": {"mapping": words}})
    said_2 = fused.buildings.set_index("building_id")["says_2"].to_dict()
    assert said_2 == {"A": "1", "B": "7", "C": "", "D": ""}
    row = fused.buildings.set_index("building_id").loc["B"]
    assert row["p_destroyed"] == pytest.approx((0.6 + 0.8) / 2)
    with pytest.raises(InputError, match=r"radar\.tif holds 9, which --mapping does not tell"):
        few = {key: value for key, value in words.items() if key != "9"}
        api.fuse([maps[0], path], tmp_path / "x", layers={"2": {"mapping": few}})


def test_the_raster_of_another_map_needs_no_mapping(maps, tmp_path):
    path = class_raster(tmp_path / "other.tif", {(4, 4): 4, (24, 4): 1}, description="damage")
    fused = api.fuse([maps[0], path], tmp_path / "fused")
    assert fused.buildings["says_2"].tolist() == ["4", "1", "", ""]
    assert fused.buildings.set_index("building_id").loc["A", "p_destroyed"] == pytest.approx(0.4)


def test_buildings_that_only_others_have_are_added_and_marked(maps, tmp_path):
    second = town(
        tmp_path / "field", {"A": ("destroyed", (0, 0, 0, 1.0)), "B": ("not-assessed",)}, model="field"
    )
    third = finished(
        tmp_path / "third",
        {
            "x": (house(4, 30), "destroyed", (0.0, 0.0, 0.2, 0.8)),
            "y": (house(24, 4), "destroyed", (0.0, 0.0, 0.0, 1.0)),
            "off": (house(4000, 30), "destroyed", (0.0, 0.0, 0.2, 0.8)),
        },
    )
    fourth = polygons(tmp_path / "team.gpkg", [house(5, 30), house(44, 30)], p_damaged=[0.4, 0.9])
    fused = api.fuse([maps[0], second, third, fourth], tmp_path / "fused", rule="linear", add_others=True)
    rows = open_map(fused.folder).buildings.set_index("building_id")
    assert rows.index.tolist() == ["A", "B", "C", "D", "third:x", "team:2"]
    assert rows["added_by"].fillna("").tolist() == ["", "", "", "", "third", "team"]
    # the fourth source speaks of what the third one added: p(damaged) 1 and .4
    assert rows.loc["third:x", "p_no_damage"] == pytest.approx(0.3) and rows.loc["third:x", "sources"] == 2
    assert rows.loc["team:2", ["damage", "sources"]].tolist() == ["destroyed", 1]
    assert rows.loc["team:2", "area_m2"] == pytest.approx(64, rel=1e-3)
    assert rows.loc["third:x", ["seen", "p_building"]].tolist() == [1.0, 0.85]
    assert "2 buildings that only later sources have added" in (fused.folder / "map.html").read_text()
    plain = api.fuse([maps[0], third], tmp_path / "plain", rule="linear")
    assert len(plain.buildings) == 4 and "added_by" not in plain.buildings


class Quarters:
    """Cells of 10 degrees, by hand."""

    def locate(self, lons, lats):
        return (lons // 10).astype(np.int64)

    def describe(self, keys):
        shapes = [box(10 * key, 0, 10 * key + 10, 10) for key in keys.tolist()]
        return geopandas.GeoDataFrame({"area_id": [str(key) for key in keys]}, geometry=shapes, crs=4326)


def test_shares_by_cell_are_means_by_weight_of_who_speaks_there():
    def voice(name, lons, damaged):
        return Voice(name, "", np.array(lons, float), np.zeros(len(lons)), np.array(damaged, float))

    voices = [voice("a", [1, 2, 3, 4, 15], [1, 0, 0, 0, 1]), voice("b", [5, 25], [0.75, 0.5])]
    frame = fused_frame(voices, [1.0, 3.0], Quarters())
    assert frame["area_id"].tolist() == ["0", "1", "2"]
    assert frame["damaged_share"].tolist() == [(0.25 + 3 * 0.75) / 4, 1.0, 0.5]
    assert frame["disagreement"].fillna(-1).tolist() == [0.5, -1, -1]
    assert frame["sources"].tolist() == [2, 1, 1] and frame["units_1"].tolist() == [4, 1, 0]
    assert frame["share_2"].fillna(-1).tolist() == [0.75, -1, 0.5]


def test_maps_points_and_rasters_meet_in_cells(maps, tmp_path):
    points = [Point(WEST + 8, NORTH - 8), Point(WEST + 100, NORTH - 50)]
    survey = polygons(tmp_path / "survey.gpkg", points, state=["D", "N"])
    radar = class_raster(tmp_path / "radar.tif", {(4, 4): 2, (24, 4): 1})
    layers = {
        "survey": {"column": "state", "mapping": {"D": "destroyed", "N": "undamaged"}},
        "radar": {"mapping": {"0": "unknown", "1": "undamaged", "2": "damaged"}},
    }
    result = api.fuse_cells([maps[0], survey, radar], tmp_path / "cells", h3=6, layers=layers)
    row = result.cells.iloc[0]  # one cell of some kilometres holds all
    assert len(result.cells) == 1 and row["sources"] == 3
    # A none, B destroyed, C not assessed, D minor; one mark of two; as many pixels of either class
    assert [row["share_1"], row["share_2"], row["share_3"]] == pytest.approx([2 / 3, 0.5, 0.5], abs=1e-4)
    assert row["damaged_share"] == pytest.approx((2 / 3 + 0.5 + 0.5) / 3, abs=1e-4)
    assert [row["units_1"], row["units_2"], row["units_3"]] == [3, 2, 512]
    page = (result.folder / "h3-6.html").read_text()
    assert "Damaged, fused share" in page and "survey: damaged, of its marks" in page
    assert geopandas.read_file(result.folder / "h3-6.gpkg", layer="h3-6")["share_2"].tolist() == [0.5]


def test_cells_refuse_who_lists_damaged_buildings_only(maps, tmp_path):
    ems = polygons(tmp_path / "ems.gpkg", [Point(WEST + 8, NORTH - 8)], damage_gra=["Destroyed"])
    with pytest.raises(InputError, match="lists damaged buildings only, so nobody knows of how many"):
        api.fuse_cells([maps[0], ems], tmp_path / "cells", h3=9)
    assert not (tmp_path / "cells").exists()
