import json
from collections import Counter

import cv2
import numpy as np
import pytest

from aftermap.classes import IGNORE
from aftermap.data.checking.doctor import check
from aftermap.data.readers.xbd import find_scenes
from aftermap.data.scene import read_mask
from aftermap.errors import DataError, DataWarning
from made_xbd import STEP, box, image, label, write_image, write_pair
from prepared_datasets import prepare_xbd

CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed")
BOXES = [box(1, 1), box(12, 1), box(1, 12), box(20, 20)]


@pytest.fixture
def source(tmp_path):
    """Three pairs in xBD's layout: all classes, without buildings, without labels."""
    root = tmp_path / "source"
    write_pair(root, 0, BOXES, CLASSES)
    write_pair(root, 1, [], [])
    write_pair(root, 2, [], [], labelled=False)
    return root


def by_name(manifest):
    return {scene.name: scene for scene in manifest.scenes}


def test_masks_hold_the_classes_of_the_polygons(source, tmp_path):
    scene = by_name(prepare_xbd(source, tmp_path / "out"))["storm_00000000"]
    damage = read_mask(scene, target="damage")
    assert [damage[4, 4], damage[4, 15], damage[15, 4], damage[23, 23], damage[0, 0]] == [1, 2, 3, 4, 0]
    assert np.array_equal(read_mask(scene, target="building"), damage > 0)


def test_buildings_are_counted_by_class_and_pixel(source, tmp_path):
    scene = by_name(prepare_xbd(source, tmp_path / "out"))["storm_00000000"]
    assert scene.polygons == dict.fromkeys(CLASSES, 1)
    assert scene.class_pixels == [32 * 32 - 4 * 49, 49, 49, 49, 49]


def test_a_pair_without_buildings_is_labelled_and_one_without_json_is_not(source, tmp_path):
    scenes = by_name(prepare_xbd(source, tmp_path / "out"))
    assert scenes["storm_00000001"].is_labelled
    assert read_mask(scenes["storm_00000001"], target="damage").max() == 0
    assert not scenes["storm_00000002"].is_labelled
    assert (read_mask(scenes["storm_00000002"], target="damage") == IGNORE).all()


@pytest.mark.parametrize(("gone", "lacking"), [("post", "second"), ("pre", "first")])
def test_a_pair_with_one_of_its_labels_is_told_by_preparation_and_doctor(source, tmp_path, gone, lacking):
    (removed,) = source.glob(f"**/*_00000001_{gone}_disaster.json")
    removed.unlink()
    with pytest.warns(
        DataWarning, match=r"1 pairs have one of their two labels only.*: \w+_00000001: add the other"
    ):
        ready = prepare_xbd(source, tmp_path / "out")
    told = [f for f in check(ready).findings if f.code == "missing-label"]
    assert [(f.severity, f.scene) for f in told] == [
        ("warning", removed.name.removesuffix(f"_{gone}_disaster.json"))
    ]
    assert f"no labels of its {lacking} date" in told[0].message


def test_the_georeference_is_fitted_to_the_polygons(source, tmp_path):
    scenes = by_name(prepare_xbd(source, tmp_path / "out"))
    grid = scenes["storm_00000000"].grid
    assert grid.crs == "EPSG:4326"
    assert np.allclose(grid.transform, (STEP, 0, -85.5, 0, -STEP, 30.25), atol=1e-10)
    assert grid.residual_px < 1e-3
    assert scenes["storm_00000001"].grid is None


def test_a_scene_without_georeference_takes_the_resolution_of_its_event(source, tmp_path):
    scenes = by_name(prepare_xbd(source, tmp_path / "out"))
    # 5e-6 degrees at 30.25 degrees north: 0.4808 m east and 0.5543 m north; geometric mean.
    assert scenes["storm_00000000"].resolution_m == pytest.approx(0.516, abs=0.002)
    assert scenes["storm_00000001"].resolution_m == scenes["storm_00000000"].resolution_m


def test_a_geotransforms_file_comes_before_the_fit(source, tmp_path):
    file = tmp_path / "g.json"
    file.write_text(
        json.dumps({"storm_00000001_pre_disaster.png": [[500_000, 0.5, 0, 3_300_000, 0, -0.5], 32616]})
    )
    scenes = by_name(prepare_xbd(source, tmp_path / "out", geotransforms=file))
    assert scenes["storm_00000001"].grid.crs == "EPSG:32616"
    assert scenes["storm_00000000"].grid.crs == "EPSG:4326"


@pytest.mark.parametrize(("policy", "value"), [("no-damage", 1), ("ignore", IGNORE), ("drop", 0)])
def test_the_unclassified_policy_is_drawn_and_noted(tmp_path, policy, value):
    root = tmp_path / "source"
    write_pair(root, 0, BOXES[:1], ["un-classified"])
    manifest = prepare_xbd(root, tmp_path / "out", unclassified=policy)
    scene = manifest.scenes[0]
    assert read_mask(scene, target="damage")[4, 4] == value
    assert read_mask(scene, target="building")[4, 4] == 1
    assert manifest.options["unclassified"] == policy
    assert scene.polygons == {"un-classified": 1}


def test_competition_splits_are_found(tmp_path):
    for number, split in enumerate(("train", "tier3", "test", "hold")):
        write_pair(tmp_path / split, number, BOXES, CLASSES)
    found = find_scenes(tmp_path)
    assert [scene.source_split for scene in found.scenes] == ["train", "tier3", "test", "hold"]


def test_folders_of_events_are_found(tmp_path):
    for event in ("flood", "storm"):
        write_pair(tmp_path / event, 3, BOXES, CLASSES, event=event)
    found = find_scenes(tmp_path)
    assert [(scene.name, scene.event) for scene in found.scenes] == [
        ("flood_00000003", "flood"),
        ("storm_00000003", "storm"),
    ]


def test_competition_names_and_targets_are_read(tmp_path):
    for date in ("pre", "post"):
        write_image(tmp_path / "test" / "images" / f"test_{date}_00007.png", image(0))
    target = np.zeros((32, 32), np.uint8)
    target[3:6, 3:6] = 4
    write_image(
        tmp_path / "test" / "targets" / "test_localization_00007_target.png", (target > 0).astype(np.uint8)
    )
    write_image(tmp_path / "test" / "targets" / "test_damage_00007_target.png", target)
    scene = prepare_xbd(tmp_path, tmp_path / "out").scenes[0]
    assert (scene.name, scene.event, scene.source_split) == ("test_00007", "unknown", "test")
    assert np.array_equal(read_mask(scene, target="damage"), target)
    assert read_mask(scene, target="building").sum() == 9


def test_the_event_comes_from_the_labels_where_names_hide_it(tmp_path):
    for date in ("pre", "post"):
        write_image(tmp_path / "images" / f"test_{date}_00000.png", image(0))
        file = tmp_path / "labels" / f"test_{date}_00000.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(label([], [], event="palu-tsunami")))
    assert prepare_xbd(tmp_path, tmp_path / "out").scenes[0].event == "palu-tsunami"


def test_an_image_without_partner_is_named_and_left_out(source, tmp_path):
    (source / "images" / "storm_00000001_post_disaster.png").unlink()
    with pytest.warns(DataWarning, match="storm_00000001_pre_disaster.png"):
        manifest = prepare_xbd(source, tmp_path / "out")
    assert sorted(by_name(manifest)) == ["storm_00000000", "storm_00000002"]
    assert manifest.options["unpaired"] == "storm_00000001_pre_disaster.png"


def test_the_same_name_in_two_folders_makes_two_scenes(tmp_path):
    for split in ("train", "tier3"):
        write_pair(tmp_path / split, 0, BOXES, CLASSES)
    with pytest.warns(DataWarning, match="there twice"):
        found = find_scenes(tmp_path)
    assert [(scene.name, scene.source_split) for scene in found.scenes] == [
        ("storm_00000000", "tier3"),
        ("train-storm_00000000", "train"),
    ]


class TestWrongInput:
    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(DataError, match="not a folder"):
            prepare_xbd(tmp_path / "nowhere", tmp_path / "out")

    def test_a_folder_without_pairs(self, tmp_path):
        write_image(tmp_path / "images" / "photo.png", image(0))
        with pytest.raises(DataError, match=r"no image pairs.*expected <event>_<id>_pre_disaster.png"):
            prepare_xbd(tmp_path, tmp_path / "out")

    def test_an_unknown_subtype_names_file_and_value(self, source, tmp_path):
        write_pair(source, 0, BOXES[:1], ["slightly-damaged"])
        with pytest.raises(DataError, match=r"storm_00000000_post_disaster.json.*'slightly-damaged'"):
            prepare_xbd(source, tmp_path / "out", strict=True)

    def test_a_truncated_image_is_named(self, source, tmp_path):
        file = source / "images" / "storm_00000001_post_disaster.png"
        file.write_bytes(file.read_bytes()[:1500])
        with pytest.raises(DataError, match=r"storm_00000001_post_disaster.png is truncated"):
            prepare_xbd(source, tmp_path / "out", strict=True)

    def test_a_text_file_named_png(self, source, tmp_path):
        (source / "images" / "storm_00000001_pre_disaster.png").write_text("hello")
        with pytest.raises(DataError, match=r"storm_00000001_pre_disaster.png is not an image"):
            prepare_xbd(source, tmp_path / "out", strict=True)

    def test_dates_of_different_size(self, source, tmp_path):
        write_image(source / "images" / "storm_00000001_post_disaster.png", image(0, 64))
        with pytest.raises(DataError, match=r"64 x 64 pixels, its partner .* 32 x 32"):
            prepare_xbd(source, tmp_path / "out", strict=True)

    def test_labels_for_another_size(self, source, tmp_path):
        file = source / "labels" / "storm_00000000_pre_disaster.json"
        file.write_text(json.dumps(label(BOXES, size=64)))
        with pytest.raises(DataError, match=r"is for 64 x 64 pixels, its image has 32 x 32"):
            prepare_xbd(source, tmp_path / "out", strict=True)

    @pytest.mark.parametrize(
        "text", ["{", "[]", '{"features": {}}', '{"features": {"xy": [{"wkt": "POINT (1 1)"}]}}']
    )
    def test_a_label_file_of_another_form(self, source, tmp_path, text):
        (source / "labels" / "storm_00000000_pre_disaster.json").write_text(text)
        with pytest.raises(
            DataError, match=r"storm_00000000_pre_disaster.json is not (an xBD label file|JSON)"
        ):
            prepare_xbd(source, tmp_path / "out", strict=True)

    def test_a_geometry_that_is_no_polygon(self, source, tmp_path):
        file = source / "labels" / "storm_00000000_pre_disaster.json"
        file.write_text(file.read_text().replace("POLYGON ((1 1,", "POLYGON (1 1,"))
        with pytest.raises(DataError, match="not WKT"):
            prepare_xbd(source, tmp_path / "out", strict=True)

    @pytest.mark.filterwarnings("ignore:1 pairs have one of their two labels")
    def test_a_target_with_other_values(self, tmp_path):
        for date in ("pre", "post"):
            write_image(tmp_path / "images" / f"storm_00000000_{date}_disaster.png", image(0))
        write_image(
            tmp_path / "targets" / "storm_00000000_post_disaster_target.png", np.full((32, 32), 9, np.uint8)
        )
        with pytest.raises(DataError, match="holds the value 9, expected 0 to 4"):
            prepare_xbd(tmp_path, tmp_path / "out")


@pytest.mark.real
def test_original_files_give_the_known_counts(shared_data, tmp_path):
    manifest = prepare_xbd(shared_data / "xbd-json", tmp_path / "out")
    counts = sum((Counter(scene.polygons) for scene in manifest.scenes), Counter())
    assert counts == {"no-damage": 15, "minor-damage": 6, "destroyed": 1}
    labelled = [scene for scene in manifest.scenes if scene.is_labelled]
    assert len(labelled) == 5
    assert sum(scene.class_pixels[0] == 1024 * 1024 for scene in labelled) == 1
    assert [s.name for s in manifest.scenes if not s.is_labelled] == ["mexico-earthquake_00000189"]
    assert max(s.grid.residual_px for s in manifest.scenes if s.grid) < 0.01


@pytest.mark.real
def test_scaled_pairs_come_out_on_the_ground(shared_data, tmp_path):
    source = tmp_path / "midwest-flooding"
    for part, suffix in (("images", "webp"), ("labels", "json")):
        (source / part).mkdir(parents=True)
        for date in ("pre", "post"):
            name = f"midwest-flooding_00000060_{date}_disaster.{suffix}"
            (source / part / name).symlink_to(shared_data / "xbd-real" / "midwest-flooding" / part / name)
    scene = prepare_xbd(source, tmp_path / "out").scenes[0]
    assert (scene.width, scene.height) == (512, 512)
    assert scene.grid.residual_px < 0.02
    # Half of the size, so twice the 0.46 m of the original tile.
    assert scene.resolution_m == pytest.approx(0.91, abs=0.02)
    assert scene.class_pixels[1] > 1000


@pytest.mark.real
def test_targets_are_read_where_there_is_no_json(shared_data, tmp_path):
    original = shared_data / "xbd-mexico"
    source = tmp_path / "mexico"
    for number in (0, 107):
        for date in ("pre", "post"):
            stem = f"mexico-earthquake_{number:08d}_{date}_disaster"
            for part, name in (("images", f"{stem}.webp"), ("targets", f"{stem}_target.png")):
                (source / part).mkdir(parents=True, exist_ok=True)
                (source / part / name).symlink_to(original / part / name)
    manifest = prepare_xbd(source, tmp_path / "out")
    for scene in manifest.scenes:
        target = cv2.imread(str(original / "targets" / f"{scene.name}_post_disaster_target.png"), 0)
        assert np.array_equal(read_mask(scene, target="damage"), target)
        assert scene.class_pixels == np.bincount(target.ravel(), minlength=5).tolist()


@pytest.mark.parametrize(
    ("events", "licence"),
    [
        (("joplin-tornado",), "CC BY-NC-SA 4.0 (xBD)"),
        (("joplin-tornado", "palu-tsunami"), "CC BY-NC-SA 4.0 (xBD)"),
        (("joplin-tornado", "our-storm"), None),
    ],
)
def test_scenes_of_xbd_come_with_its_licence_and_others_in_its_layout_with_none(events, licence, tmp_path):
    for number, event in enumerate(events):
        write_pair(tmp_path / "source" / "train", number, [box(4, 4)], ["no-damage"], event=event)
    assert prepare_xbd(tmp_path / "source", tmp_path / "out").licence == licence
