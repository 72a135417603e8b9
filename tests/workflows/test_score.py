"""Folders of masks to a score: names, pairs, events, and files that cannot be used."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aftermap.errors import DataError, DataWarning, OutputError
from aftermap.workflows.scoring.mask_files import parse_name
from aftermap.workflows.scoring.score import score_folders, write_report

# Two 4 x 4 scenes with known results of the competition's scorer.
TARGET = ["1234 1234 0000 0000", "0000 0220 0410 0130"]
BUILDING = ["1111 0110 0000 1000", "1000 0110 0100 0100"]
DAMAGE = ["1234 1334 1111 1111", "1111 1221 1411 1231"]
OFFICIAL = 0.656086


def rows(text: str) -> np.ndarray:
    return np.array([[int(digit) for digit in row] for row in text.split()], np.uint8)


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def write_example(
    folder: Path,
    *,
    damage: str = "test_damage_0000{k}_{role}.png",
    localization: str = "test_localization_0000{k}_{role}.png",
) -> tuple[Path, Path]:
    for k in range(2):
        target = rows(TARGET[k])
        masks = {
            "target": ((target > 0).astype(np.uint8), target),
            "prediction": (rows(BUILDING[k]), rows(DAMAGE[k])),
        }
        for role, (building, classes) in masks.items():
            save(folder / role / localization.format(k=k, role=role), building)
            save(folder / role / damage.format(k=k, role=role), classes)
    return folder / "prediction", folder / "target"


@pytest.mark.parametrize(
    ("damage", "localization"),
    [
        ("test_damage_0000{k}_{role}.png", "test_localization_0000{k}_{role}.png"),
        ("hold_damage_0000{k}_{role}.png", "hold_localization_0000{k}_{role}.png"),
        ("train_damage_0000{k}_{role}.png", "train_localization_0000{k}_{role}.png"),
        ("some-flood_0{k}_damage_{role}.png", "some-flood_0{k}_localization_{role}.png"),
        ("some-flood_0{k}_damage_disaster_{role}.png", "some-flood_0{k}_localization_disaster_{role}.png"),
        ("some-flood_0{k}_post_disaster_{role}.png", "some-flood_0{k}_pre_disaster_{role}.png"),
        ("some-flood_0{k}_post_disaster.png", "some-flood_0{k}_pre_disaster.png"),
        ("tile-{k}.TIF", "tile-{k}_building.tif"),
    ],
)
def test_every_naming_gives_the_official_score(tmp_path: Path, damage: str, localization: str) -> None:
    report = score_folders(*write_example(tmp_path, damage=damage, localization=localization))
    assert report.pixels.score == pytest.approx(OFFICIAL, abs=5e-7)
    assert report.pixels.scenes == 2
    assert report.notes == ()


@pytest.mark.parametrize(
    ("stem", "scene", "kind", "role"),
    [
        ("test_localization_00000_prediction", "test_00000", "localization", "prediction"),
        ("hurricane-harvey_00000012_post_disaster_target", "hurricane-harvey_00000012", "damage", "target"),
        (
            "hurricane-harvey_00000012_localization_disaster_prediction",
            "hurricane-harvey_00000012",
            "localization",
            "prediction",
        ),
        ("my_town", "my_town", "damage", None),
        ("water_damage_town_damage", "water_damage_town", "damage", None),
        ("prediction", "prediction", "damage", None),
    ],
)
def test_a_name_tells_scene_kind_and_role(stem: str, scene: str, kind: str, role: str | None) -> None:
    assert parse_name(stem) == (scene, kind, role)


def test_predictions_and_targets_may_be_named_differently(tmp_path: Path) -> None:
    prediction, _ = write_example(
        tmp_path / "a", damage="e_0{k}_damage_{role}.png", localization="e_0{k}_localization_{role}.png"
    )
    _, target = write_example(
        tmp_path / "b", damage="e_0{k}_post_disaster.png", localization="e_0{k}_pre_disaster.png"
    )
    assert score_folders(prediction, target).pixels.score == pytest.approx(OFFICIAL, abs=5e-7)


def test_damage_masks_alone_tell_the_buildings_too(tmp_path: Path) -> None:
    for k in range(2):
        save(tmp_path / "prediction" / f"town_{k}.png", rows(DAMAGE[k]) * rows(BUILDING[k]))
        save(tmp_path / "target" / f"town_{k}.png", rows(TARGET[k]))
    report = score_folders(tmp_path / "prediction", tmp_path / "target")
    assert report.pixels.score == pytest.approx(OFFICIAL, abs=5e-7)


def test_both_roles_may_lie_in_one_folder(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    for path in prediction.iterdir():
        path.rename(target / path.name)
    assert score_folders(target, target).pixels.score == pytest.approx(OFFICIAL, abs=5e-7)


def test_events_come_from_names(tmp_path: Path) -> None:
    write_example(
        tmp_path, damage="flood-{k}_00_damage_{role}.png", localization="flood-{k}_00_building_{role}.png"
    )
    report = score_folders(tmp_path / "prediction", tmp_path / "target")
    assert list(report.pixels.events) == ["flood-0", "flood-1"]
    assert list(report.buildings.events) == ["flood-0", "flood-1"]


def test_names_without_event_give_no_events(tmp_path: Path) -> None:
    report = score_folders(*write_example(tmp_path))
    assert report.pixels.events == {}
    assert report.buildings.events == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("events.csv", "scene,event\ntest_00000,fire\ntest_00001,flood\n"),
        ("events.csv", "00000, fire\n00001, flood\n"),
        ("events.csv", "test_damage_00000_target.png,fire\ntest_damage_00001_target,flood\n"),
        ("events.json", '{"test_00000": "fire", "test_00001": "flood"}'),
    ],
)
def test_events_come_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    report = score_folders(*write_example(tmp_path), events=tmp_path / name)
    assert list(report.pixels.events) == ["fire", "flood"]
    assert report.pixels.events["fire"].confusion[1] == (1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("events.csv", "test_00000,fire\n", "names no event for 1 of 2 scenes, the first is test_00001"),
        ("events.csv", "test_00000,fire,big\n", "row 1 has 3 columns, expected two"),
        ("events.json", "{", "is not valid JSON"),
        ("events.json", '{"test_00000": 3}', "is not an object of scene names and events"),
        ("absent.csv", None, "No such file"),
    ],
)
def test_an_unusable_events_file_is_refused(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        score_folders(*write_example(tmp_path), events=tmp_path / name)


def test_missing_predictions_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    for kind in ("damage", "localization"):
        (prediction / f"test_{kind}_00001_prediction.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 targets have no prediction in .*, the first is test_00001"):
        score_folders(prediction, target)


def test_a_missing_damage_prediction_is_named(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    (prediction / "test_damage_00000_prediction.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 targets have no damage prediction .* test_00000"):
        score_folders(prediction, target)


def test_a_missing_localization_mask_is_named(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    (prediction / "test_localization_00000_prediction.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 damage masks .* no localization mask .*test_damage_00000"):
        score_folders(prediction, target)


def test_extra_predictions_are_left_out_with_a_warning(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    for kind in ("damage", "localization"):
        save(prediction / f"test_{kind}_00007_prediction.png", rows("1111"))
    with pytest.warns(DataWarning, match=r"1 predictions have no target .* the first is test_00007"):
        report = score_folders(prediction, target)
    assert report.pixels.score == pytest.approx(OFFICIAL, abs=5e-7)
    assert len(report.notes) == 1


def test_localization_alone_is_scored_with_a_warning(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    for path in prediction.glob("*_damage_*"):
        path.unlink()
    with pytest.warns(DataWarning, match="holds no damage masks: only localization is scored"):
        figures = score_folders(prediction, target).as_dict()
    assert figures["localization_f1"] == pytest.approx(20 / 26)
    assert figures["score"] is None
    assert figures["buildings"]["buildings"] == 0


def test_targets_without_damage_are_scored_for_localization(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    (target / "test_damage_00001_target.png").unlink()
    with pytest.warns(DataWarning, match="1 of 2 targets have no damage mask"):
        report = score_folders(prediction, target)
    assert report.pixels.localization_f1 == pytest.approx(20 / 26)
    assert sum(map(sum, report.pixels.confusion)) == 16


def test_predictions_without_localization_files_warn(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    for path in prediction.glob("*_localization_*"):
        path.unlink()
    with pytest.warns(DataWarning, match="buildings are taken from the damage masks"):
        score_folders(prediction, target)


def test_a_prediction_of_another_size_is_named(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    for kind in ("damage", "localization"):
        save(prediction / f"test_{kind}_00001_prediction.png", rows("111 111"))
    with pytest.raises(
        DataError, match=r"test_damage_00001_prediction.png is 3 x 2 px, but its target .* is 4 x 4"
    ):
        score_folders(prediction, target)


def test_masks_of_one_scene_must_have_one_size(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    save(target / "test_localization_00000_target.png", rows("111 111"))
    with pytest.raises(DataError, match=r"test_localization_00000_target.png is 3 x 2 px, but .* is 4 x 4"):
        score_folders(prediction, target)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((4, 4), 5, np.uint8), "holds the value 5, expected 0 to 4"),
        (
            np.full((4, 4), 255, np.uint8),
            "holds the value 255, expected 0 to 4: write a 0/255 mask as 0 and 1",
        ),
        (np.full((4, 4), 300, np.uint16), "holds the value 300"),
        (np.full((4, 4, 3), 1, np.uint8), "has 3 bands, expected one band of class indices"),
    ],
)
def test_a_prediction_that_is_no_class_mask_is_named(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    prediction, target = write_example(tmp_path)
    save(prediction / "test_damage_00001_prediction.png", mask)
    with pytest.raises(DataError, match=f"test_damage_00001_prediction.png {message}"):
        score_folders(prediction, target)


def test_a_target_may_hold_unknown_pixels_but_no_other_value(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    mask = rows(TARGET[1])
    mask[0] = 255
    save(target / "test_damage_00001_target.png", mask)
    assert score_folders(prediction, target).pixels.score == pytest.approx(OFFICIAL, abs=5e-7)
    mask[0] = 7
    save(target / "test_damage_00001_target.png", mask)
    with pytest.raises(DataError, match="holds the value 7, expected 0 to 4, or 255 for unknown"):
        score_folders(prediction, target)


def test_a_building_target_of_0_and_255_is_refused(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    save(target / "test_localization_00000_target.png", (rows(TARGET[0]) > 0) * np.uint8(255))
    with pytest.raises(DataError, match=r"holds only 0 and 255 .* write a 0/255 mask as 0 and 1"):
        score_folders(prediction, target)


def test_one_bit_and_palette_masks_are_class_indices(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    for k in range(2):
        name = f"test_localization_0000{k}_prediction.png"
        Image.fromarray(rows(BUILDING[k]) > 0).save(prediction / name)
        palette = Image.fromarray(rows(DAMAGE[k])).convert("P")
        palette.putdata(rows(DAMAGE[k]).ravel().tolist())
        palette.putpalette([9, 9, 9, 0, 255, 0, 255, 255, 0, 255, 128, 0, 255, 0, 0])
        palette.save(prediction / f"test_damage_0000{k}_prediction.png")
    assert score_folders(prediction, target).pixels.score == pytest.approx(OFFICIAL, abs=5e-7)


@pytest.mark.parametrize("spoil", ["truncate", "text", "empty"])
def test_an_unreadable_image_is_named(tmp_path: Path, spoil: str) -> None:
    prediction, target = write_example(tmp_path)
    path = prediction / "test_damage_00001_prediction.png"
    save(path, np.random.default_rng(0).integers(0, 5, (64, 64), np.uint8))
    data = path.read_bytes()
    path.write_bytes({"truncate": data[: len(data) // 2], "text": b"not an image", "empty": b""}[spoil])
    with pytest.raises(DataError, match=r"test_damage_00001_prediction.png is not a readable image"):
        score_folders(prediction, target)


def test_swapped_folders_are_noticed(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    with pytest.raises(DataError, match="holds 4 prediction masks, not target masks: give predictions first"):
        score_folders(target, prediction)


def test_a_folder_without_masks_names_the_folders_in_it(tmp_path: Path) -> None:
    prediction, _ = write_example(tmp_path)
    with pytest.raises(DataError, match=r"holds no masks .* it has the folders prediction, target"):
        score_folders(prediction, tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent is not a folder"):
        score_folders(tmp_path, tmp_path / "absent")


def test_two_files_for_one_mask_are_refused(tmp_path: Path) -> None:
    prediction, target = write_example(tmp_path)
    save(prediction / "test_damage_00000_prediction.tif", rows(DAMAGE[0]))
    with pytest.raises(DataError, match="are both damage of test_00000"):
        score_folders(prediction, target)


def test_progress_is_told_after_every_pair(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    score_folders(*write_example(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_memory_does_not_grow_with_the_number_of_pairs(tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[20:60, 30:70] = 2

    def peak(count: int) -> int:
        for role in ("prediction", "target"):
            for number in range(count):
                save(tmp_path / str(count) / role / f"town_{number}.png", mask)
        folder = tmp_path / str(count)
        tracemalloc.start()
        score_folders(folder / "prediction", folder / "target", bootstrap=0)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)  # first use of the libraries
    few, many = peak(3), peak(40)
    assert (
        many - few < 37 * 8192
    )  # names and counts; one pair of masks is 32 KiB, with its working copies 500 KiB


def test_the_report_is_written_as_json_and_picture(tmp_path: Path) -> None:
    report = score_folders(
        *write_example(
            tmp_path, damage="f-{k}_0_damage_{role}.png", localization="f-{k}_0_building_{role}.png"
        )
    ).as_dict()
    files = write_report(report, tmp_path / "out" / "deep")
    assert [path.name for path in files] == ["score.json", "score.png"]
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(report))
    with Image.open(files[1]) as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50
    assert sorted(path.name for path in files[0].parent.iterdir()) == ["score.json", "score.png"]


def test_a_report_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    report = score_folders(*write_example(tmp_path)).as_dict()
    with pytest.raises(OutputError, match=r"cannot write .*score.json"):
        write_report(report, tmp_path / "out")


@pytest.mark.real
def test_real_targets_scored_against_themselves_are_perfect_where_damage_is_labelled(
    shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "xbd-mexico" / "targets"
    if not source.is_dir():
        pytest.skip("needs ../shared/data/xbd-mexico")
    for path in sorted(source.glob("*_target.png"))[:12]:
        for role in ("prediction", "target"):
            (tmp_path / role).mkdir(exist_ok=True)
            (tmp_path / role / path.name.replace("_target", f"_{role}")).write_bytes(path.read_bytes())
    report = score_folders(tmp_path / "prediction", tmp_path / "target")
    assert list(report.pixels.events) == ["mexico-earthquake"]
    assert report.pixels.localization_f1 == 1
    assert (
        report.pixels.damage_f1_per_class["no-damage"] > 0.95
    )  # damage outside the first date's outlines is lost
