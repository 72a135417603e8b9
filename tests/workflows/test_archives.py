from pathlib import Path

import pytest

from aftermap.errors import ModelError
from aftermap.workflows.weights.archives import (
    STEMS,
    choose_system,
    expected_of,
    file_names,
    find_checkpoints,
    recognise,
    recognise_file,
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_the_winners_files_are_told_by_their_names(tmp_path):
    names = [
        *("res34_loc_0_1_best", "res50_loc_1_tuned_best", "dpn92_loc_2_tuned_best", "se154_loc_0_1_best"),
        *("res34_cls2_0_tuned_best", "res50_cls_cce_1_tuned2_best", "dpn92_cls_cce_2_tuned_best"),
        "se154_cls_cce_0_tuned_best",
    ]
    touch(tmp_path, *names, "readme.txt", "res34_loc_0_1_last", "xres34_loc_0_1_best")
    assert recognise(tmp_path) == {
        ("xview2-resnet34-localization", 0): tmp_path / names[0],
        ("xview2-seresnext50-localization", 1): tmp_path / names[1],
        ("xview2-dpn92-localization", 2): tmp_path / names[2],
        ("xview2-senet154-localization", 0): tmp_path / names[3],
        ("xview2-resnet34-damage", 0): tmp_path / names[4],
        ("xview2-seresnext50-damage", 1): tmp_path / names[5],
        ("xview2-dpn92-damage", 2): tmp_path / names[6],
        ("xview2-senet154-damage", 0): tmp_path / names[7],
    }


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (["_0_best", "_tuned_best"], "_tuned_best"),
        (["_tuned2_best", "_tuned_best", "_0_best"], "_tuned2_best"),
        (["_0_best"], "_0_best"),
    ],
)
def test_of_several_files_of_a_run_the_one_trained_longest_is_taken(tmp_path, present, taken):
    touch(tmp_path, *(f"res50_cls_cce_0{end}" for end in present))
    assert list(recognise(tmp_path).values()) == [tmp_path / f"res50_cls_cce_0{taken}"]


@pytest.mark.parametrize(
    ("name", "final"),
    [
        ("res34_loc_0_1_best", True),
        ("se154_loc_0_1_best", True),
        ("se154_loc_0_0_best", False),
        ("res50_loc_0_0_best", False),
        ("res50_loc_0_tuned_best", True),
        ("dpn92_cls_cce_0_1_best", False),
        ("res50_cls_cce_0_tuned2_best", True),
        ("loc_KD_1610592762_best_best", True),
    ],
)
def test_files_that_the_winner_did_not_predict_with_are_told(name, final):
    found = recognise_file(Path(name))
    assert found is not None and found.final is final


def test_the_students_files_carry_the_time_of_their_start_or_a_seed(tmp_path):
    touch(tmp_path, "weights/cls_KD_1610592762_best_best", "weights/res50_loc_1_KD_best")
    assert recognise(tmp_path) == {
        ("kd-student-damage", 1610592762): tmp_path / "weights/cls_KD_1610592762_best_best",
        ("kd-student-localization", 1): tmp_path / "weights/res50_loc_1_KD_best",
    }


def test_metadamagenets_folders_are_told_by_class_version_and_seed(tmp_path):
    touch(
        tmp_path,
        "efficientunetb0localizerV00S0/model.pth",
        "efficientunetb0scseclassifierV1S2/model.pth",
        "segformerlocalizerV0S0/model.pth",
        "other/model.pth",
        "efficientunetb0localizerV00S0/metadata.json",
    )
    found = {key: path.parent.name for key, path in recognise(tmp_path).items()}
    assert found == {
        ("metadamagenet-efficientunet-b0-localization", 0): "efficientunetb0localizerV00S0",
        ("metadamagenet-efficientunet-b0-scse-damage", 2): "efficientunetb0scseclassifierV1S2",
        ("metadamagenet-segformer-b0-localization", 0): "segformerlocalizerV0S0",
    }


def test_the_tuned_version_of_a_metadamagenet_model_is_preferred(tmp_path):
    touch(tmp_path, *(f"resnet34unetclassifierV{version}S0/model.pth" for version in ("00", "1", "tuned")))
    assert [path.parent.name for path in recognise(tmp_path).values()] == ["resnet34unetclassifierVtunedS0"]


def test_the_winners_ensemble_has_twelve_networks_of_each_role():
    names = [name for name, _ in expected_of("xview2")]
    assert len(names) == 24 and sum(name.endswith("localization") for name in names) == 12
    assert set(names) == set(STEMS.values()) and expected_of("metadamagenet") == []


def test_folders_of_several_systems_need_a_choice(tmp_path):
    touch(tmp_path, "res34_loc_0_1_best", "res34_loc_1_1_best", "cls_KD_1_best_best")
    found = find_checkpoints(tmp_path).values()
    with pytest.raises(ModelError, match="1 of kd-student, 2 of xview2"):
        choose_system(found)
    assert choose_system(found, "kd-student") == "kd-student"
    with pytest.raises(ModelError, match="no file here has a name of metadamagenet"):
        choose_system(found, "metadamagenet")


def test_a_folder_without_known_names_says_where_they_stand(tmp_path):
    with pytest.raises(ModelError, match="no file here has a name of a published system"):
        choose_system(find_checkpoints(tmp_path).values())
    with pytest.raises(ModelError, match="no folder"):
        recognise(tmp_path / "none")


def test_file_names_are_listed_as_they_are_recognised():
    for name in [*STEMS.values(), "kd-student-damage", "metadamagenet-efficientunet-b4-damage"]:
        for example in file_names(name).split(", "):
            plain = example.replace("<seed>", "2").replace("<time>", "7").replace("<version>", "00")
            found = recognise_file(Path(plain))
            assert found is not None and found.name == name and found.final
