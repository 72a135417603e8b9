import geopandas
import numpy as np
import pytest
import rasterio

import mapped_scenes as scenes
from aftermap.errors import GeoreferenceError, InputError
from aftermap.workflows.areas.run import count_areas
from aftermap.workflows.many.merge import Merged, merge
from aftermap.workflows.mapping.finished import open_map


def merged(tmp_path, parts, **options) -> Merged:
    (tmp_path / "out").mkdir()
    return merge(dict(parts), tmp_path / "out", tmp_path / "scratch", title="both", **options)


@pytest.fixture
def two(tmp_path):
    """Scenes of 64 px that overlap by 16 columns: 48 to 64. The middle of the overlap is column 56."""
    left = scenes.table(
        [
            scenes.square(5, 5, 15, 15),  # in the left one alone
            scenes.square(50, 20, 54, 30),  # nearer to the left one
            scenes.square(58, 40, 64, 50),  # nearer to the right one, and cut in the left one
            scenes.square(52, 55, 60, 62),  # on the line
        ],
        damage=["destroyed", "no-damage", "no-damage", "no-damage"],
    )
    right = scenes.table(
        [
            scenes.square(50, 20, 54, 30),
            scenes.square(58, 40, 70, 50),
            scenes.square(53, 55, 61, 62),
            scenes.square(58, 5, 62, 9),  # where the left one has found nothing
        ],
        damage=["destroyed", "destroyed", "no-damage", "no-damage"],
    )
    return [
        ("left", scenes.write_part(tmp_path, "left", scenes.grid_at(0, 0), left, value=1)),
        ("right", scenes.write_part(tmp_path, "right", scenes.grid_at(48, 0), right, value=4)),
    ]


def test_a_building_on_an_overlap_counts_once_as_the_scene_that_shows_it_deeper_says(tmp_path, two):
    frame = merged(tmp_path, two).buildings.set_index("building_id")
    assert sorted(frame.index) == ["left-1", "left-2", "left-4", "right-2", "right-4"]
    assert frame["damage"].to_dict()["left-2"] == "no-damage"
    assert frame["scene"].to_dict()["right-2"] == "right"
    assert frame.geometry["right-2"].bounds == scenes.square(58, 40, 70, 50).bounds


def test_each_pixel_is_of_the_scene_that_shows_it_deeper(tmp_path, two):
    merged(tmp_path, two)
    with rasterio.open(tmp_path / "out" / "damage.tif") as file:
        damage, grid = file.read(1), file.transform
    assert damage.shape == (64, 112)
    assert tuple(grid)[:6] == tuple(scenes.grid_at(0, 0).transform)[:6]
    middle = damage[32]
    assert (middle[:52] == 1).all() and (middle[60:] == 4).all()
    with rasterio.open(tmp_path / "out" / "probabilities.tif") as file:
        assert (file.read(3) == damage + 40).all()
        assert file.overviews(1) == [] and file.block_shapes[0] == (512, 512)


def test_the_result_is_a_finished_map_that_other_commands_take(tmp_path, two):
    found = merged(tmp_path, two, failed=["gone"])
    again = open_map(tmp_path / "out")
    assert len(again.buildings) == found.summary["buildings"] == 5
    assert again.summary["scenes"] == {"merged": 2, "failed": 1}
    assert [scene["name"] for scene in again.provenance["scenes"]] == ["left", "right"]
    assert again.provenance["inputs"]["post"]["acquired"] == "2024-02-03"
    assert found.warnings[:2] == ("1 scene could not be mapped: gone", "left: left is hazy")
    (areas,) = count_areas(tmp_path / "out", grid=50)
    assert areas.totals["buildings"] == 5
    assert {"map.html", "overview.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_ground_that_one_scene_does_not_see_is_the_others(tmp_path):
    first = scenes.write_part(
        tmp_path, "clouded", scenes.grid_at(0, 0), scenes.table([]), value=1, unseen=np.s_[10:30, 10:30]
    )
    frame = scenes.table([scenes.square(15, 15, 25, 25)])
    second = scenes.write_part(tmp_path, "clear", scenes.grid_at(0, 0), frame, value=4)
    found = merged(tmp_path, [("clouded", first), ("clear", second)])
    assert list(found.buildings["building_id"]) == ["clear-1"]
    with rasterio.open(tmp_path / "out" / "damage.tif") as file:
        assert (file.read(1)[10:30, 10:30] == 4).all()


def test_halves_at_the_edges_of_images_that_meet_are_one_building(tmp_path):
    left = scenes.table(
        [scenes.square(50, 20, 64, 30), scenes.square(60, 50, 64, 60)], damage=["destroyed"] * 2
    )
    right = scenes.table([scenes.square(64, 20, 70, 30)])
    parts = [
        ("left", scenes.write_part(tmp_path, "left", scenes.grid_at(0, 0), left)),
        ("right", scenes.write_part(tmp_path, "right", scenes.grid_at(64, 0), right)),
    ]
    found = merged(tmp_path, parts)
    frame = found.buildings.set_index("building_id")
    assert sorted(frame.index) == ["left-1", "left-2"] and found.joined == 1 and found.doubles == 0
    whole = scenes.square(50, 20, 70, 30)
    assert frame.geometry["left-1"].symmetric_difference(whole).area < 1e-6
    assert frame.loc["left-1", "area_m2"] == pytest.approx(50, rel=0.01)
    # 14 of 20 columns say 0.8, 6 say 0.01
    assert frame.loc["left-1", "p_destroyed"] == pytest.approx(0.7 * 0.8 + 0.3 * 0.01, abs=1e-3)
    assert frame.loc["left-1", "damage"] == "destroyed"


def test_footprints_of_one_file_keep_their_ids_and_the_row_that_saw_most(tmp_path):
    house = scenes.square(50, 20, 60, 30)
    tables = {
        "a": scenes.table([house], ids=["H7"], seen=0.4),
        "b": scenes.table([house], ids=["H7"], damage=["destroyed"]),
    }
    parts = [
        (name, scenes.write_part(tmp_path, name, scenes.grid_at(col, 0), tables[name], footprints="f"))
        for name, col in (("a", 0), ("b", 32))
    ]
    frame = merged(tmp_path, parts).buildings
    assert list(zip(frame["building_id"], frame["damage"], strict=True)) == [("H7", "destroyed")]


def test_one_id_of_two_files_for_two_buildings_is_told_apart(tmp_path):
    parts = []
    for name, col in (("a", 0), ("b", 64)):
        frame = scenes.table([scenes.square(col + 5, 5, col + 9, 9)], ids=["1"])
        part = scenes.write_part(tmp_path, name, scenes.grid_at(col, 0), frame, footprints=f"file {name}")
        parts.append((name, part))
    assert sorted(merged(tmp_path, parts).buildings["building_id"]) == ["1", "b-1"]


def test_a_scene_in_another_reference_system_is_brought_onto_the_map(tmp_path):
    parts = [
        (name, scenes.write_part(tmp_path, name, scenes.grid_at(col, 0), scenes.table([])))
        for name, col in (("a", 0), ("b", 64))
    ]
    beside = geopandas.GeoSeries([scenes.square(140, 5, 150, 15)], crs=32636).to_crs(32637)
    corner = geopandas.GeoSeries([scenes.square(130, 0, 131, 1)], crs=32636).to_crs(32637).total_bounds
    grid = scenes.grid_at(0, 0, crs=32637)
    t = grid.transform
    moved = scenes.Grid(grid.crs, type(t)(t.a, 0, corner[0], 0, t.e, corner[3]), 64, 64)
    frame = scenes.table(list(beside), crs=32637)
    parts.append(("c", scenes.write_part(tmp_path, "c", moved, frame, value=4)))
    found = merged(tmp_path, parts)
    assert found.grid.crs.to_epsg() == 32636 and found.buildings.crs.to_epsg() == 32636
    place = found.buildings.set_index("building_id").geometry["c-1"]
    assert place.symmetric_difference(scenes.square(140, 5, 150, 15)).area < 0.01
    with rasterio.open(tmp_path / "out" / "damage.tif") as file:
        assert file.read(1)[30, 160] == 4
    again = open_map(tmp_path / "out").provenance
    assert [scene["resampled"] for scene in again["scenes"]] == [False, False, True]


def test_scenes_too_far_apart_are_refused(tmp_path):
    parts = [
        ("here", scenes.write_part(tmp_path, "here", scenes.grid_at(0, 0), scenes.table([]))),
        (
            "there",
            scenes.write_part(
                tmp_path, "there", scenes.grid_at(0, 0, crs=32640), scenes.table([], crs=32640)
            ),
        ),
    ]
    with pytest.raises(GeoreferenceError, match="there lies 24 degrees of longitude from here, too far"):
        merged(tmp_path, parts)


def test_scenes_of_two_models_are_refused(tmp_path):
    parts = [
        (name, scenes.write_part(tmp_path, name, scenes.grid_at(0, 0), scenes.table([]), model=name))
        for name in "ab"
    ]
    with pytest.raises(InputError, match="different models"):
        merged(tmp_path, parts)


def test_a_part_that_was_altered_is_refused(tmp_path):
    part = scenes.write_part(tmp_path, "a", scenes.grid_at(0, 0), scenes.table([]))
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 0xFF
    part.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a-0\.zip cannot be used"):
        merged(tmp_path, [("a", part)])
