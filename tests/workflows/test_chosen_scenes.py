import pytest

from aftermap.data.checking.doctor import check
from aftermap.data.scene import Manifest
from aftermap.errors import DataError
from aftermap.workflows.training import scenes
from aftermap.workflows.training.config import DataConfig, HoldoutConfig
from aftermap.workflows.training.scenes import choose_scenes
from squares import make_dataset


@pytest.fixture
def half_labelled(tmp_path):
    """Nine scenes: of 0 to 5 (train) 0 has no label and 1 no post image's label; 6 and 7 are validation; 8 is test."""
    folder = make_dataset(tmp_path / "squares", scenes=9)
    manifest = Manifest.load(folder)
    bare = {"damage_mask": None, "building_mask": None, "class_pixels": []}
    changes = {0: bare, 1: {"damage_mask": None, "class_pixels": []}, 6: {"split": "validation"}}
    changes |= {8: bare | {"split": "test"}}
    scenes = [s.model_copy(update=changes.get(n, {})) for n, s in enumerate(manifest.scenes)]
    manifest.model_copy(update={"scenes": scenes}).save(folder)
    return folder


def names(scenes):
    return [int(scene.name.rpartition("_")[2]) for scene in scenes]


def test_scenes_without_labels_take_part_only_if_asked_for(half_labelled):
    data = DataConfig(manifests=[half_labelled])
    assert names(choose_scenes(data, "damage").training) == [2, 3, 4, 5]
    chosen = choose_scenes(data, "damage", unlabelled=True)
    assert names(chosen.training) == [2, 3, 4, 5, 0, 1] and names(chosen.validation) == [6, 7]


def test_a_building_mask_is_a_label_for_localization_alone(half_labelled):
    data = DataConfig(manifests=[half_labelled])
    assert names(choose_scenes(data, "building").training) == [1, 2, 3, 4, 5]
    assert names(choose_scenes(data, "building", unlabelled=True).training) == [1, 2, 3, 4, 5, 0]


def test_images_of_other_splits_are_never_learned_from(half_labelled):
    chosen = choose_scenes(DataConfig(manifests=[half_labelled]), "damage", unlabelled=True)
    assert 8 not in names(chosen.training)


def test_events_that_are_left_out_are_left_out_without_labels_too(half_labelled):
    data = DataConfig(manifests=[half_labelled], exclude_events=["squares"])
    with pytest.raises(DataError, match="0 training and 0 validation"):
        choose_scenes(data, "damage", unlabelled=True)


def test_a_random_hold_out_is_drawn_from_labelled_scenes(half_labelled):
    data = DataConfig(manifests=[half_labelled], holdout=HoldoutConfig(fraction=0.5))
    chosen = choose_scenes(data, "damage", unlabelled=True)
    assert sorted(names(chosen.training)[:-2] + names(chosen.validation)) == [2, 3, 4, 5]
    assert names(chosen.training)[-2:] == [0, 1]


def test_a_data_set_without_any_label_passes_where_teachers_tell(half_labelled, tmp_path):
    more = make_dataset(tmp_path / "more", scenes=3, seed=5)
    manifest = Manifest.load(more)
    bare = {"damage_mask": None, "building_mask": None, "class_pixels": [], "split": "train"}
    scenes = [
        s.model_copy(update=bare | {"name": f"more_{n:08d}", "event": "more"})
        for n, s in enumerate(manifest.scenes)
    ]
    manifest.model_copy(update={"scenes": scenes}).save(more)
    data = DataConfig(manifests=[half_labelled, more])
    with pytest.raises(DataError, match="did not pass its check"):
        choose_scenes(data, "damage")
    chosen = choose_scenes(data, "damage", unlabelled=True)
    assert names(chosen.training) == [2, 3, 4, 5, 0, 1, 0, 1, 2]


def test_validation_without_labels_is_taken_where_none_are_needed(half_labelled):
    manifest = Manifest.load(half_labelled)
    bare = {"damage_mask": None, "building_mask": None, "class_pixels": []}
    scenes = [s.model_copy(update=bare) for s in manifest.scenes]
    manifest.model_copy(update={"scenes": scenes}).save(half_labelled)
    data = DataConfig(manifests=[half_labelled])
    chosen = choose_scenes(data, "damage", unlabelled=True, label_free=True)
    assert names(chosen.training) == [0, 1, 2, 3, 4, 5] and names(chosen.validation) == [6, 7]
    with pytest.raises(DataError, match="6 training and 0 validation"):
        choose_scenes(data, "damage", unlabelled=True)


def test_data_that_has_passed_is_checked_again_only_when_a_file_has_changed(tmp_path, monkeypatch):
    folder = make_dataset(tmp_path / "squares", scenes=3)
    asked = []
    monkeypatch.setattr(scenes, "check", lambda *a, **rest: asked.append(rest["deep"]) or check(*a, **rest))
    for deep in (True, True, False, False):
        scenes.checked_manifest(folder, deep=deep)
    assert asked == [True, False]
    image = Manifest.load(folder).scenes[1].pre
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(DataError, match="did not pass its check"):
            scenes.checked_manifest(folder, deep=True)
    image.write_bytes(whole)
    assert len(scenes.checked_manifest(folder, deep=True).scenes) == 3 and asked == [
        True,
        False,
        True,
        True,
        True,
    ]
