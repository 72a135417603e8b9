import json

import cv2
import numpy as np
import pytest

from aftermap.data.checking.doctor import check
from aftermap.data.scene import Manifest
from made_xbd import box, image, manifest, scene, write_image, write_pair, write_tiff
from prepared_datasets import prepare_xbd

CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed")
BOXES = [box(1, 1), box(12, 1), box(1, 12), box(20, 20)]


@pytest.fixture
def prepared(tmp_path):
    """Four sound scenes on separate ground, in three splits."""
    root = tmp_path / "source"
    for number in range(4):
        write_pair(root, number, BOXES, CLASSES, lon=-85.5 + 0.01 * number)
    ready = prepare_xbd(root, tmp_path / "out")
    names = ("train", "train", "validation", "test")
    scenes = [s.model_copy(update={"split": n}) for s, n in zip(ready.scenes, names, strict=True)]
    ready.model_copy(update={"scenes": scenes, "options": {**ready.options, "split": "block"}}).save(
        tmp_path / "out"
    )
    return Manifest.load(tmp_path / "out")


def codes(report, severity="error"):
    return [(finding.code, finding.scene) for finding in report.findings if finding.severity == severity]


def message(report, code):
    return next(finding.message for finding in report.findings if finding.code == code)


def changed(data, index, **update):
    scenes = list(data.scenes)
    scenes[index] = scenes[index].model_copy(update=update)
    return data.model_copy(update={"scenes": scenes})


def test_sound_data_has_neither_errors_nor_warnings(prepared):
    report = check(prepared)
    assert codes(report) == []
    assert codes(report, "warning") == []


def test_the_classes_are_counted(prepared):
    expected = "16 buildings: " + ", ".join(f"{name} 4 (25.00%)" for name in CLASSES)
    assert message(check(prepared), "class-balance") == expected


def test_processes_find_the_same(prepared):
    prepared.scenes[1].pre.unlink()
    assert check(prepared, workers=2) == check(prepared)


@pytest.mark.parametrize(("role", "code"), [("post", "missing-image"), ("damage_mask", "missing-mask")])
@pytest.mark.parametrize("deep", [True, False])
def test_a_file_that_is_gone_is_an_error(prepared, role, code, deep):
    getattr(prepared.scenes[1], role).unlink()
    report = check(prepared, deep=deep)
    assert codes(report) == [(code, "storm_00000001")]


def test_a_truncated_image_is_an_error(prepared):
    path = prepared.scenes[2].post
    path.write_bytes(path.read_bytes()[:2000])
    assert codes(check(prepared)) == [("unreadable", "storm_00000002")]
    assert codes(check(prepared, deep=False)) == [("unreadable", "storm_00000002")]


def test_a_text_file_named_png_is_an_error(prepared):
    prepared.scenes[2].pre.write_text("hello")
    assert codes(check(prepared, deep=False)) == [("unreadable", "storm_00000002")]


def test_an_image_of_another_size_is_an_error(prepared):
    write_image(prepared.scenes[0].post, image(1, 64))
    report = check(prepared, deep=False)
    assert codes(report) == [("size-mismatch", "storm_00000000")]
    assert "has 64 x 64 pixels, the scene is 32 x 32" in message(report, "size-mismatch")


def test_dates_in_different_reference_systems_are_an_error(tmp_path):
    write_tiff(tmp_path / "pre.tif")
    write_tiff(tmp_path / "post.tif", crs="EPSG:32615")
    pair = scene("a", pre=tmp_path / "pre.tif", post=tmp_path / "post.tif", size=32)
    assert codes(check(manifest([pair]), deep=False))[0] == ("crs-mismatch", "a")


def test_an_image_that_changed_after_preparation_is_a_warning(prepared):
    write_image(prepared.scenes[0].pre, image(77))
    assert codes(check(prepared), "warning") == [("changed-image", "storm_00000000")]


def test_building_masks_of_0_and_255_are_an_error_that_says_why(prepared):
    path = prepared.scenes[3].building_mask
    write_image(path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 255)
    report = check(prepared)
    assert codes(report) == [("label-values", "storm_00000003")]
    assert "holds 255 where 1 was expected" in message(report, "label-values")


def test_values_beyond_the_classes_are_an_error(prepared):
    write_image(prepared.scenes[3].damage_mask, np.full((32, 32), 5, np.uint8))
    assert "holds the value 5, expected 0 to 4" in message(check(prepared), "label-values")


def test_damage_masks_of_ignored_buildings_are_sound(tmp_path):
    write_pair(tmp_path / "s", 0, BOXES[:1], ["un-classified"])
    data = prepare_xbd(tmp_path / "s", tmp_path / "out", unclassified="ignore")
    assert ("label-values", "storm_00000000") not in codes(check(data))


def test_a_mask_that_is_unknown_everywhere_is_a_warning(prepared):
    write_image(prepared.scenes[3].damage_mask, np.full((32, 32), 255, np.uint8))
    assert ("unknown-mask", "storm_00000003") in codes(check(prepared), "warning")


def test_empty_masks_are_counted_and_an_error_when_all_are_empty(tmp_path):
    for number in range(2):
        write_pair(tmp_path / "s", number, [], [])
    report = check(prepare_xbd(tmp_path / "s", tmp_path / "out"))
    assert ("empty-mask", None) in codes(report)
    assert message(report, "empty-mask").startswith("2 of 2 labelled scenes hold no building")


def test_some_empty_masks_are_only_worth_knowing(tmp_path):
    for number in range(3):
        write_pair(tmp_path / "s", number, BOXES if number else [], CLASSES if number else [], lon=number)
    report = check(prepare_xbd(tmp_path / "s", tmp_path / "out"))
    assert ("empty-mask", None) in codes(report, "info")


def test_unlabelled_scenes_are_named(prepared):
    data = changed(prepared, 1, building_mask=None, damage_mask=None)
    assert message(check(data), "unlabelled") == "scenes without labels: 1 (storm_00000001)"


def test_the_same_image_in_two_splits_is_an_error(prepared):
    data = changed(prepared, 3, checksums=prepared.scenes[0].checksums)
    assert codes(check(data, deep=False)) == [("duplicate-across-splits", "storm_00000003")]


def test_the_same_image_in_one_split_is_a_warning(prepared):
    data = changed(prepared, 1, checksums=prepared.scenes[0].checksums)
    assert codes(check(data, deep=False), "warning") == [("duplicate", "storm_00000001")]


def test_one_image_for_both_dates_is_an_error(prepared):
    data = changed(prepared, 1, checksums={"pre": "1", "post": "1"})
    assert codes(check(data, deep=False)) == [("same-dates", "storm_00000001")]


def test_images_that_look_alike_in_two_splits_are_a_warning(tmp_path):
    root = tmp_path / "s"
    for number in range(2):
        write_pair(root, number, BOXES, CLASSES, lon=number)
    smooth = cv2.resize(image(5, 8), (32, 32), interpolation=cv2.INTER_CUBIC)
    for number, gain in ((0, 1.0), (1, 0.8)):
        write_image(
            root / "images" / f"storm_{number:08d}_pre_disaster.png", (smooth * gain).astype(np.uint8)
        )
    data = prepare_xbd(root, tmp_path / "out")
    data = changed(changed(data, 0, split="train"), 1, split="test")
    assert ("near-duplicate", "storm_00000001") in codes(check(data), "warning")


def test_shared_ground_across_splits_is_an_error():
    scenes = [scene("a", split="train"), scene("b", col=0.5, split="test"), scene("c", col=1.5, split="test")]
    report = check(manifest(scenes), deep=False)
    assert ("shared-ground", "b") in codes(report)
    assert "shares 50.0% of its ground with a (test and train)" in message(report, "shared-ground")
    assert ("shared-ground", "c") not in codes(report)


@pytest.mark.parametrize(
    ("by", "severity", "code"),
    [
        ("event", "error", "event-leakage"),
        ("random", "warning", "event-leakage"),
        (None, "warning", "event-leakage"),
        ("block", "info", "event-across-splits"),
    ],
)
def test_an_event_in_two_splits_weighs_as_the_split_promised(by, severity, code):
    scenes = [scene("a", split="train"), scene("b", col=5, split="test")]
    options = {"split": by} if by else {}
    assert (code, None) in codes(check(manifest(scenes, options=options), deep=False), severity)


def test_a_held_out_event_outside_the_test_split_is_an_error():
    scenes = [scene("a", split="train"), scene("b", col=5, split="test")]
    options = {"split": "block", "split_hold_out": "storm"}
    assert ("event-leakage", None) in codes(check(manifest(scenes, options=options), deep=False))


def test_scenes_in_no_split_are_a_warning():
    report = check(manifest([scene("a")]), deep=False)
    assert ("unassigned", None) in codes(report, "warning")


def test_a_class_that_a_split_lacks_is_a_warning():
    scenes = [
        scene("a", split="train", polygons={"no-damage": 5, "destroyed": 2}),
        scene("b", col=5, split="test", polygons={"no-damage": 5}),
    ]
    report = check(manifest(scenes), deep=False)
    messages = [finding.message for finding in report.warnings if finding.code == "class-missing"]
    assert "no buildings of class destroyed in test, 2 elsewhere: try another split or seed" in messages
    assert "no buildings of class minor-damage anywhere" in messages


def test_images_left_without_partner_at_preparation_are_errors(prepared):
    data = prepared.model_copy(update={"options": {"unpaired": "storm_00000009_pre_disaster.png"}})
    assert ("missing-partner", None) in codes(check(data, deep=False))


def test_a_scene_of_one_date_among_pairs_is_an_error(prepared):
    assert codes(check(changed(prepared, 1, post=None), deep=False)) == [
        ("missing-partner", "storm_00000001")
    ]


@pytest.mark.parametrize(("count", "expected"), [(933, []), (932, ["split-count"])])
def test_the_size_of_published_splits_is_compared(count, expected):
    scenes = [scene(f"s{i:04d}", col=2 * i, grid=None, source_split="test") for i in range(count)]
    report = check(manifest(scenes, options={"unpaired": ""}), deep=False)
    assert [finding.code for finding in report.warnings if finding.code == "split-count"] == expected


def test_the_report_is_json(prepared):
    prepared.scenes[1].post.unlink()
    tree = json.loads(check(prepared).to_json())
    assert (tree["scenes"], tree["errors"]) == (4, 1)
    assert tree["findings"][0]["code"] == "missing-image"


def test_errors_come_first(prepared):
    prepared.scenes[3].post.unlink()
    order = [finding.severity for finding in check(changed(prepared, 0, split="unassigned")).findings]
    assert order == sorted(order, key=("error", "warning", "info").index)


def test_tiles_of_one_date_lack_no_partner(tmp_path):
    single = scene("tile", post=None, damage_mask=None)
    assert "missing-partner" not in {
        f.code for f in check(manifest([single], kind="tiles"), deep=False).findings
    }
