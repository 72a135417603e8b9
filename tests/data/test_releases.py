"""Readers of published datasets, on made layouts: what is found, what masks become, what is refused."""

import cv2
import numpy as np
import pytest
import rasterio

import made_releases as made
from aftermap.data.checking.doctor import check
from aftermap.data.preparing.prepare import prepare_source
from aftermap.data.readers.published.pairs import CHANGE_FOLDERS
from aftermap.data.readers.published.releases import RELEASES
from aftermap.data.scene import read_bands, read_images, read_mask
from aftermap.errors import DataError, DataWarning, InputError, RecipeError


def prepare(source, release, **options):
    return prepare_source(source, source.parent / "out", kind="published", release=release, **options)


@pytest.mark.parametrize(("release", "last"), [("rescuenet", 10), ("floodnet", 9)])
def test_drone_photographs_in_their_sets(tmp_path, release, last):
    manifest = prepare(made.drone_photographs(tmp_path / "release", last), release)
    assert [(s.name, s.split, s.source_split) for s in manifest.scenes] == [
        ("10778", "train", "train"),
        ("10779", "validation", "hold"),
        ("10780", "test", "test"),
    ]
    mask = read_mask(manifest.scenes[0], target="classes")
    assert mask[0, :4].tolist() == [0, 2, 5, 0] and mask[1, 0] == last == len(manifest.legend.names) - 1
    assert manifest.licence == "CDLA-Permissive-1.0" and manifest.options["release"] == release
    report = check(manifest)
    assert report.errors == [] and "scene-count" in {finding.code for finding in report.warnings}


def test_rescuenets_number_of_pools_is_none_of_floodnets(tmp_path):
    with pytest.raises(DataError, match="holds the value 10"):
        prepare(made.drone_photographs(tmp_path / "release", 10), "floodnet")


def test_drone_photographs_can_be_cut(tmp_path):
    manifest = prepare(made.drone_photographs(tmp_path / "release"), "rescuenet", tile_px=4)
    assert len(manifest.scenes) == 3 * 4
    assert {(s.height, s.width) for s in manifest.scenes} == {(4, 4)}


def test_flair_counts_from_one_and_names_its_bands(tmp_path):
    manifest = prepare(made.flair(tmp_path / "release"), "flair")
    train, test = manifest.scenes
    assert (train.event, train.split) == ("D017_2021", "train")
    assert (test.event, test.split, test.name) == ("D016_2021", "test", "IMG_061713")
    assert read_mask(train, target="classes")[0, :4].tolist() == [0, 12, 18, 11]
    assert read_bands(train, ["nir", "elevation"]).shape == (2, made.SIZE, made.SIZE)
    assert manifest.legend.names[11] == "plowed_land"


def test_change_of_each_release_in_its_folders(tmp_path):
    made.change(tmp_path / "levir", ("A", "B", "label"), ("train_1", "val_2", "test_3"))
    manifest = prepare(tmp_path / "levir", "levir-cd")
    assert [(s.name, s.split) for s in manifest.scenes] == [
        ("test_3", "test"),
        ("train_1", "train"),
        ("val_2", "validation"),
    ]
    assert read_mask(manifest.scenes[0], target="classes")[0, :4].tolist() == [0, 1, 1, 0]
    assert read_images(manifest.scenes[0], dates=2).shape == (2, 3, made.SIZE, made.SIZE)
    for release, above in (("s2looking", ""), ("fotbcd", "images/"), ("levir-cd", "LEVIR-CD+/")):
        source = tmp_path / release / "source"
        for subset in ("train", "test"):
            made.change(source / f"{above}{subset}", CHANGE_FOLDERS[release])
        manifest = prepare(source, release)
        assert [(s.name, s.split) for s in manifest.scenes] == [("test-1", "test"), ("train-1", "train")]
        assert manifest.legend.names == ("unchanged", "changed")


def test_what_was_built_and_what_was_torn_down_are_classes_of_their_own(tmp_path):
    manifest = prepare(made.change_kinds(tmp_path / "release" / "train"), "s2looking-kinds")
    first, second = manifest.scenes
    assert manifest.legend.names == ("unchanged", "built", "torn_down") and first.split == "train"
    assert read_mask(first, target="classes")[0, :5].tolist() == [0, 1, 255, 2, 0]  # both say the third
    assert not second.is_labelled


def test_outlines_of_buildings_that_stayed_went_and_came(tmp_path):
    source = made.outlines(tmp_path / "release")
    manifest = prepare(source, "fotbcd-instances")
    first, second = (read_mask(scene, target="classes") for scene in manifest.scenes)
    assert np.diagonal(first).tolist() == [1, 1, 2, 2, 3, 3, 0, 0] and np.count_nonzero(first) == 12
    assert not second.any() and manifest.licence.startswith("CC BY-NC-SA 4.0")
    damage = "building_unchanged=no-damage,building_torn_down=destroyed,building_new=unknown"
    told = prepare_source(
        source, tmp_path / "damage", kind="published", release="fotbcd-instances", damage=damage
    )
    assert np.diagonal(read_mask(told.scenes[0], target="damage")).tolist() == [1, 1, 4, 4, 255, 255, 0, 0]
    with pytest.raises(DataError, match="expected polygons of the categories"):
        prepare(made.outlines(tmp_path / "odd", ring=(0, 0, 2, 0)), "fotbcd-instances")


def test_change_in_masks_that_were_stored_with_loss_is_refused(tmp_path):
    made.change(tmp_path / "levir", ("A", "B", "label"), changed=250)
    with pytest.raises(DataError, match=r"holds 250.*stored as JPEG"):
        prepare(tmp_path / "levir", "levir-cd")


def test_change_becomes_damage_where_that_is_said(tmp_path):
    made.change(tmp_path / "levir", ("A", "B", "label"))
    manifest = prepare(tmp_path / "levir", "levir-cd", damage="changed=destroyed")
    assert manifest.scheme == "joint-damage-scale" and manifest.legend is None
    assert manifest.options["damage_levels"] == "changed=destroyed"
    assert read_mask(manifest.scenes[0], target="damage")[0, :4].tolist() == [0, 4, 4, 0]


def test_bright_keeps_its_three_levels_and_its_single_band(tmp_path):
    with pytest.warns(DataWarning, match="1 image has no partner"):
        manifest = prepare(made.bright(tmp_path / "bright"), "bright")
    (scene,) = manifest.scenes
    assert (scene.name, scene.event) == ("bata-explosion_00000000", "bata-explosion")
    assert read_mask(scene, target="classes")[0, :5].tolist() == [0, 1, 2, 3, 0]
    images = read_images(scene, dates=2)
    assert (images[1, 0] == images[1, 1]).all() and (images[0, 0] != images[0, 1]).any()
    assert manifest.options["unpaired"] == "ukraine-conflict_00000003_post_disaster.tif"
    assert manifest.licence.startswith("differs by event")
    report = check(manifest)
    assert report.errors == []
    assert {"licence", "withheld", "radar"} <= {finding.code for finding in report.findings}


def test_brights_levels_on_the_joint_scale_are_said_by_the_user(tmp_path):
    levels = "intact=no-damage,damaged=unknown,destroyed=destroyed"
    source = made.bright(tmp_path / "bright", ("noto-earthquake_00000001",))
    (source / "splitname").mkdir()
    (source / "splitname" / "test_set.txt").write_text("noto-earthquake_00000001\n")
    manifest = prepare(source, "bright", damage=levels)
    assert read_mask(manifest.scenes[0], target="damage")[0, :4].tolist() == [0, 1, 255, 4]
    assert manifest.options["damage_levels"] == levels and manifest.scenes[0].split == "test"


@pytest.mark.parametrize(
    "levels", ["intact=no-damage", "intact=no-damage,damaged=wet,destroyed=destroyed", "intact,damaged,x=y"]
)
def test_levels_that_are_not_told_are_refused(tmp_path, levels):
    with pytest.raises(InputError, match="--damage"):
        prepare(made.bright(tmp_path / "bright", ("a_1",)), "bright", damage=levels)


@pytest.mark.parametrize(
    ("release", "masks", "ending"), [("ida-bd", "masks", ""), ("ebd", "targets", "_target")]
)
def test_levels_of_the_joint_scale_as_they_are(tmp_path, release, masks, ending):
    manifest = prepare(made.levels(tmp_path / "train", masks, ending), release)
    (scene,) = manifest.scenes
    assert read_mask(scene, target="damage")[0, :6].tolist() == [0, 1, 2, 3, 4, 255]
    assert read_mask(scene, target="building")[0, :6].tolist() == [0, 1, 1, 1, 1, 0]
    assert scene.name == "ida_0001" and scene.event == "ida"
    assert check(manifest).errors == []


def test_what_a_release_does_not_have_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds nothing of BRIGHT: expected pre-event/"):
        prepare(tmp_path, "bright")
    with pytest.raises(DataError, match=r"is not a folder: FLAIR"):
        prepare(tmp_path / "none", "flair")
    made.drone_photographs(tmp_path / "release")
    with pytest.raises(InputError, match="has one date"):
        prepare(tmp_path / "release", "rescuenet", damage="x=y")
    made.levels(tmp_path / "ida")
    with pytest.raises(InputError, match="itself: leave --damage out"):
        prepare(tmp_path / "ida", "ida-bd", damage="x=y")
    with pytest.raises(RecipeError, match="tile_px"):
        prepare(tmp_path / "release", "rescuenet", tile_px=0)
    with pytest.raises(InputError, match="stay whole"):
        prepare(tmp_path / "ida", "ida-bd", tile_px=4)


def test_masks_of_another_size_or_number_are_refused(tmp_path):
    source = made.levels(tmp_path / "ida", both=False)
    path = source / "masks" / "ida_0001_post_disaster.png"
    cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="4 x 4 pixels, its images 8 x 8"):
        prepare(source, "ida-bd")
    made.mask(path, [7])
    with pytest.raises(DataError, match="holds the value 7, expected 0 background, 1 no-damage"):
        prepare(source, "ida-bd")


def test_every_release_says_what_it_was_taken_from():
    assert all(r.source and r.licence and r.expected for r in RELEASES.values())


def test_sentinel_masks_come_down_to_the_images_by_the_class_of_most_pixels(tmp_path):
    manifest = prepare(made.sentinel(tmp_path / "xbd_s12"), "xbd-s12")
    assert [(s.event, s.split, s.source_split) for s in manifest.scenes] == [
        ("hurricane-harvey", "train", "train"),
        ("sunda-tsunami", "test", "train"),
    ]
    mask = read_mask(manifest.scenes[0], target="damage")
    assert mask[:2].tolist() == [[0, 1, 2, 3, 4, 255, 255, 0], [4, 0, 0, 0, 0, 0, 0, 0]]


def test_drone_outlines_are_moved_by_the_vector_that_begins_nearest(tmp_path):
    manifest = prepare(made.droids(tmp_path / "droids"), "crasar-u-droids", tile_px=100)
    (tile,) = manifest.scenes
    assert (tile.event, tile.split, tile.name) == ("Hurricane Ian", "train", "1001-Palm_r00000_c00000")
    mask = read_mask(tile, target="classes")
    assert (mask[5:15, 15:25] == 4).all() and mask[8, 8] == 0  # 10 px to the right
    assert (mask[25:35, 80:90] == 2).all() and mask[8, 85] == 0  # 20 px down
    assert (mask[40:50, 40:50] == 255).all()  # drawn on the image itself, and not classified
    assert (mask[60:] == 255).all() and mask[55, 0] == 0  # no ground
    assert tile.polygons == {"destroyed": 1, "minor-damage": 1, "un-classified": 1}
    assert tile.resolution_m == pytest.approx(0.05, rel=1e-3)
    unmoved = prepare_source(
        tmp_path / "droids", tmp_path / "raw", kind="published", release="crasar-u-droids", aligned=False
    )
    assert (read_mask(unmoved.scenes[0], target="classes")[5:15, 5:15] == 4).all()


def test_drone_tiles_hold_a_building_and_keep_their_place_at_a_coarser_resolution(tmp_path):
    source = made.droids(tmp_path / "droids", vectors=())
    manifest = prepare(source, "crasar-u-droids", tile_px=25, resolution_m=0.1)
    assert [scene.name[-13:] for scene in manifest.scenes] == ["r00000_c00000", "r00000_c00025"]
    mask = read_mask(manifest.scenes[0], target="classes")
    assert (mask[3:7, 3:7] == 4).all() and mask[20, 20] == 255 and mask[12, 12] == 0


def test_annotations_of_another_form_are_refused(tmp_path):
    source = made.droids(tmp_path / "droids")
    path = next(source.glob("**/building_damage_assessment/*.json"))
    good = path.read_text()
    for text, told in (
        ("{}", "no list of buildings"),
        ('[{"label": "destroyed"}]', "a building without pixels"),
        (good.replace("destroyed", "gone"), "has the label 'gone'"),
        (good.replace('"x"', '"z"'), "the point"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=told):
            prepare(source, "crasar-u-droids")
    path.write_text(good)
    next(source.glob("**/building_alignment_adjustments/*.json")).write_text('{"a": 1}')
    with pytest.raises(DataError, match="for every vector"):
        prepare(source, "crasar-u-droids")


def test_a_second_image_after_a_flood_shows_what_the_first_does_not(tmp_path):
    source = made.floods(tmp_path / "sn8") / "Germany_Training_Public"
    first = next((source / "POST-event").glob("*.tif"))
    with rasterio.open(first) as file:
        pixels, profile = file.read(), file.profile
    hidden = pixels.copy()
    hidden[:, :, 8:] = 0
    for path, array in ((first, hidden), (first.with_name("second.tif"), np.full_like(pixels, 77))):
        with rasterio.open(path, "w", **profile | {"nodata": 0}) as file:
            file.write(array)
    table = source / "Germany_Training_Public_label_image_mapping.csv"
    table.write_text(table.read_text().rstrip() + "second.tif\n")
    scene = next(s for s in prepare(tmp_path / "sn8", "spacenet8").scenes if s.event == "Germany")
    after = read_images(scene, dates=2)[1]
    assert (after[:, :, 18:] == 77).all() and not (after[:, :, :14] == 77).all()
    assert (
        read_mask(scene, target="classes")[4, 22] == 255
    )  # a building of unknown state, on ground that is seen
    assert (read_mask(scene, target="classes")[30, 18:] == 0).all()


def test_floods_on_the_grid_of_the_image_before(tmp_path):
    manifest = prepare(made.floods(tmp_path / "sn8"), "spacenet8")
    test, train = manifest.scenes
    assert (train.event, train.split, train.source_split) == ("Germany", "unassigned", "train")
    assert (test.split, test.is_labelled) == ("test", False)
    mask = read_mask(train, target="classes")
    assert mask[2:6, 2:6].tolist() == [[1] * 4] * 4 and (mask[2:6, 10:14] == 2).all()
    assert (mask[2:6, 20:24] == 255).all() and mask[10, 10] == 0
    assert (mask[18:22, 2:6] == 2).all()  # a building above the road
    # 3 m are 2.7 rows of 1.11 m to each side
    assert (mask[18:23, 10] == 4).all() and mask[17, 10] == mask[24, 10] == 0
    images = read_images(train, dates=2)
    assert images.shape == (2, 3, 32, 32)
    coarse = made.noise(2, 16, 16)
    assert np.abs(images[1, :, 8:12, 8:12].astype(int).mean() - coarse[:, 4:6, 4:6].mean()) < 12
    assert check(manifest).errors == []
    levels = "building_non_flooded=no-damage,building_flooded=minor-damage,road_non_flooded=background"
    wet = prepare_source(
        tmp_path / "sn8", tmp_path / "wet", kind="published", release="spacenet8",
        damage=f"{levels},road_flooded=background",
    )  # fmt: skip
    mask = read_mask(wet.scenes[1], target="damage")
    assert mask[3, 3] == 1 and mask[3, 11] == 2 and mask[20, 10] == 0
    again = prepare(tmp_path / "sn8", "spacenet8")
    assert again == manifest


@pytest.mark.parametrize(
    "wkt", ["POLYGON ((7 50, 1e30 50, 7 51, 7 50))", "GEOMETRYCOLLECTION (POINT (7 50))", "?"]
)
def test_outlines_that_lie_nowhere_are_refused(tmp_path, wkt):
    source = made.floods(tmp_path / "sn8")
    table = source / "Germany_Training_Public" / "Germany_Training_Public_reference.csv"
    table.write_text(table.read_text() + f'1050_0_15_63,Building,True,,"{wkt}"\n')
    with pytest.raises(DataError, match="expected buildings and roads"):
        prepare_source(source, tmp_path / "out", kind="published", release="spacenet8", strict=True)
