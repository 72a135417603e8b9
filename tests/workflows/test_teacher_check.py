"""Teachers scored before they teach."""

import json

import pytest
import torch

from aftermap.artefacts.store import load_model
from aftermap.data.scene import Manifest
from aftermap.errors import TeacherWarning
from aftermap.learning.configs.distillation import TeacherConfig
from aftermap.workflows.training.run import train
from aftermap.workflows.training.teachers import SCENES, TeacherScores, check_teachers
from saved_models import make_ensemble, save_damage
from squares import make_dataset
from squares_teacher import alter, save_knowing, stripped, student


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Squares whose training scenes have no labels."""
    return alter(make_dataset(tmp_path_factory.mktemp("bare") / "squares"), stripped)


@pytest.fixture(scope="module")
def ignorant(tmp_path_factory):
    """A damage model with random weights."""
    return save_damage(tmp_path_factory.mktemp("ignorant") / "teacher", seed=3)


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    return save_knowing(tmp_path_factory.mktemp("knowing") / "teacher")


def scores_of(folder, scenes):
    return check_teachers({"main": TeacherConfig(model=folder)}, scenes)["main"]


SHARE = 4 * 18 * 18 / 64**2  # of buildings among the pixels of the squares


def test_a_teacher_that_knows_is_scored_without_a_word(data, knowing):
    found = scores_of(knowing, Manifest.load(data).scenes)
    assert found.trouble is None and found.scenes == 6
    assert (found.localization_f1, found.damage_f1) == pytest.approx((1, 1))
    assert found.localization_chance == pytest.approx(2 * SHARE / (1 + SHARE))
    # four classes of equal size: always the same one has F1 2 * 0.25 / 1.25 for it and 0 for the others
    assert found.damage_chance == pytest.approx(0.4 / 4)
    assert str(found) == "localization F1 1.000, mean damage F1 1.000 on 6 scenes"


def test_a_localizer_is_scored_for_localization_alone(data, tmp_path):
    found = scores_of(save_knowing(tmp_path / "localizer", classes=2), Manifest.load(data).scenes)
    assert found.localization_f1 == pytest.approx(1) and found.trouble is None
    assert "damage_f1" not in found.facts() and "damage" not in str(found)


def test_a_teacher_that_calls_all_damage_the_same_is_warned_of(data, tmp_path):
    same = save_knowing(tmp_path / "same", only=4)
    with pytest.warns(
        TeacherWarning, match="tells damage no better than chance .*0.100, one class for all 0.100"
    ):
        found = scores_of(same, Manifest.load(data).scenes)
    assert found.localization_f1 == pytest.approx(1)


def test_a_teacher_whose_weights_never_arrived_is_warned_of_in_one_line(data, ignorant):
    with pytest.warns(TeacherWarning) as caught:
        scores_of(ignorant, Manifest.load(data).scenes)
    (text,) = [str(warning.message) for warning in caught]
    assert "\n" not in text and text.startswith(f"teacher main ({ignorant}) finds ")
    assert text.endswith("or it never saw such imagery") and "weights were never loaded" in text


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((0.0, 0.02, None, None), "finds no building (pixel F1 0.000)"),
        ((0.09, 0.02, 0.9, 0.2), "finds no building (pixel F1 0.090)"),
        ((0.11, 0.02, None, None), None),
        ((0.0, 0.0, None, None), None),
        ((0.3, 0.3, None, None), "finds buildings no better than chance (pixel F1 0.300, all pixels 0.300)"),
        (
            (0.8, 0.3, 0.2, 0.21),
            "tells damage no better than chance (mean F1 of the classes 0.200, one class",
        ),
        ((0.8, 0.3, 0.22, 0.21), None),
        ((None, None, None, None), None),
    ],
)
def test_what_is_said_about_scores(scores, said):
    found = TeacherScores("m", "s", 8, *scores).trouble
    assert found is None if said is None else found.startswith(said)


def test_a_teacher_without_labels_to_be_held_to_is_not_scored(bare, knowing):
    found = scores_of(knowing, Manifest.load(bare).select("train"))
    assert (
        found.facts() == {"model": str(knowing), "sha256": found.sha256, "scenes": 0}
        and found.trouble is None
    )
    assert str(found).startswith("not scored")


def test_at_most_eight_scenes_spread_evenly_are_looked_at(knowing, tmp_path):
    scenes = Manifest.load(make_dataset(tmp_path / "many", scenes=20)).scenes
    assert scores_of(knowing, scenes).scenes == SCENES == 8


def test_an_ensemble_is_scored_as_one(data, knowing, tmp_path):
    both = make_ensemble(tmp_path / "both", [knowing, save_knowing(tmp_path / "again")])
    assert scores_of(both, Manifest.load(data).scenes[:2]).damage_f1 == pytest.approx(1)


def test_scores_of_teachers_and_terms_stand_in_log_facts_and_database(bare, knowing, tmp_path):
    from aftermap.learning.experiments.tracking import quiet_client

    database = tmp_path / "records.db"
    recipe = student(bare, knowing, steps=1, evaluate_every=1, records={"uri": str(database)})
    done = train(recipe, tmp_path / "run")
    assert (
        "teacher main: localization F1 1.000, mean damage F1 1.000 on 2 scenes"
        in (tmp_path / "run" / "log.txt").read_text()
    )
    told = json.loads((tmp_path / "run" / "run.json").read_text())["teachers"]["main"]
    assert told["model"] == str(knowing) and told["sha256"] == load_model(knowing).sha256
    assert (told["localization_f1"], told["damage_f1"], told["scenes"]) == (1.0, 1.0, 2)
    client = quiet_client(f"sqlite:///{database}")
    (entry,) = client.search_runs([client.get_experiment_by_name("aftermap").experiment_id])
    assert entry.data.tags["teachers.main.localization_f1"] == "1.0"
    assert entry.data.metrics["loss_soft-targets"] == pytest.approx(done.metrics["loss_soft-targets"])


def test_a_run_warns_of_a_poor_teacher_before_it_starts_and_not_when_it_goes_on(data, ignorant, tmp_path):
    recipe = student(data, ignorant, data={"manifests": [str(data)]}, steps=3, evaluate_every=3, save_every=1)

    def stop(progress):
        if progress.step.number == 2:
            raise KeyboardInterrupt

    with pytest.warns(TeacherWarning, match="teacher main"), pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", on_progress=stop)
    train(recipe, tmp_path / "run", resume=True)  # a warning would be an error here
    assert "teachers" in json.loads((tmp_path / "run" / "run.json").read_text())
    assert (tmp_path / "run" / "log.txt").read_text().count("teacher main") == 1


def test_the_check_changes_no_bit_of_the_student(bare, knowing, tmp_path):
    both = [
        train(student(bare, knowing, steps=2, evaluate_every=2, teacher_check=on), tmp_path / str(on))
        for on in (True, False)
    ]
    checked, unchecked = (load_model(done.model).model.state_dict() for done in both)
    assert all(torch.equal(checked[name], unchecked[name]) for name in checked)
