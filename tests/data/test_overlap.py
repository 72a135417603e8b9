import pytest

from aftermap.data.checking.overlap import SharedPart, ground, groups, same_ground, same_images
from aftermap.data.scene import SceneGrid
from made_xbd import STEP, scene


def test_touching_tiles_do_not_share_ground():
    assert same_ground([scene("a"), scene("b", col=1), scene("c", row=1)]) == []


def test_the_share_of_the_smaller_scene_is_measured():
    (pair,) = same_ground([scene("a"), scene("b", col=0.75)])
    assert (pair.first, pair.second) == (0, 1)
    assert pair.share == pytest.approx(0.25, abs=1e-6)


def test_grids_in_different_systems_are_compared_on_the_ground():
    # 0.0005 degrees are 48.1 m by 55.4 m here; the UTM scene covers the same corner with 100 px of 0.5 m.
    grid = SceneGrid(crs="EPSG:32616", transform=(0.5, 0, 644_300, 0, -0.5, 3_347_450))
    other = scene("b").model_copy(update={"grid": grid})
    lon, lat = ground(other).exterior.coords[0]
    first = scene("a").model_copy(
        update={"grid": SceneGrid(crs="EPSG:4326", transform=(STEP, 0, lon, 0, -STEP, lat))}
    )
    (pair,) = same_ground([first, other])
    assert pair.share > 0.9


def test_scenes_across_the_antimeridian_stay_small():
    grid = SceneGrid(crs="EPSG:32660", transform=(10, 0, 833_500, 0, -10, 2_000))
    outline = ground(scene("a").model_copy(update={"grid": grid}))
    west, _, east, _ = outline.bounds
    assert west < 180 < east < west + 0.02


def test_scenes_without_grid_share_nothing():
    assert same_ground([scene("a", grid=None), scene("b", grid=None)]) == []


def test_equal_images_are_found_whatever_their_date():
    scenes = [
        scene("a", checksums={"pre": "1", "post": "2"}),
        scene("b", checksums={"pre": "3", "post": "4"}),
        scene("c", checksums={"pre": "2", "post": "5"}),
    ]
    assert same_images(scenes) == [SharedPart(0, 2, 1.0)]


def test_groups_are_connected_components():
    assert groups(6, [(0, 3), (5, 3), (1, 2)]) == [[0, 3, 5], [1, 2], [4]]
