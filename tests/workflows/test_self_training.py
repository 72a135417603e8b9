"""Rounds of self-training on squares that one convolution can learn."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from aftermap.artefacts.ensemble import is_ensemble
from aftermap.artefacts.folder import WEIGHTS_NAME
from aftermap.artefacts.store import load_card
from aftermap.classes import BUILDING, DAMAGE
from aftermap.config import build_config, load_config
from aftermap.data.scene import Manifest
from aftermap.errors import AftermapError, DataError, DataWarning, ModelError, RecipeError, TrainingError
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.adaptation.guard import ClassVerdict, Verdict
from aftermap.workflows.self_training import rounds
from aftermap.workflows.self_training.config import (
    SelfTrainingRecipe,
    round_recipe,
    student_recipe,
    teacher_recipe,
)
from aftermap.workflows.self_training.data import class_shares, gather_material, write_manifest
from aftermap.workflows.self_training.rounds import class_indices
from aftermap.workflows.self_training.run import self_train
from aftermap.workflows.training.recipe_files import recipe_path
from saved_models import save, save_damage
from squares import make_dataset


class OnePixel(DenseModel):
    """Looks at one pixel."""

    dates, classes, stride = 1, 2, 1

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)

    def forward_features(self, image):
        return self.encoder(image[:, 0])

    def forward_head(self, features, size):
        return self.head(features)


class Blind(OnePixel):
    """Looks at nothing."""

    def forward_features(self, image):
        return self.encoder(image[:, 0]) * 0


MODEL = {"kind": "custom", "target": "test_self_training:OnePixel", "classes": 2}
TRAINING = {
    "model": MODEL,
    "sampling": {"crop_px": 32, "batch_size": 4},
    "augment": None,
    "optimizer": {"lr": 0.1, "schedule": {"kind": "cosine", "warmup_steps": 2}},
    "precision": "no",
    "steps": 16,
    "evaluate_every": 8,
    "save_every": 3,
    "selection": {"tune": False},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "labelled", scenes=4)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "pool", scenes=5, seed=9)


def tree(labelled, unlabelled, **changes):
    return {
        "name": "tiny",
        "task": "building",
        "data": {"manifests": [str(labelled)]},
        "pool": {"manifests": [str(unlabelled)], "hide_labels": True},
        "teacher": {"recipe": dict(TRAINING)},
        "student": dict(TRAINING),
        "predict": {"tta": "none"},
        "guard": {"min_gain": -1.0},  # whatever the student is worth, it is kept
    } | changes


def recipe(labelled, unlabelled, **changes):
    return build_config(SelfTrainingRecipe, tree(labelled, unlabelled, **changes))


@pytest.fixture(scope="module")
def two_rounds(data, pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    wanted = recipe(data, pool, rounds=2, negatives={"ratio": 1, "rule": "map", "threshold": 0.01})
    return self_train(wanted, folder, command="aftermap train tiny"), folder


def weights(folder):
    return load_file(folder / WEIGHTS_NAME)


def equal(first, second):
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_last_student_is_kept(two_rounds):
    done, folder = two_rounds
    assert done.kept == "student" and len(done.rounds) == 2
    assert equal(done.model, folder / "round-2" / "student" / "model")
    assert load_card(done.model).training.command == "aftermap train tiny"


def test_the_report_tells_what_was_used(two_rounds):
    done, folder = two_rounds
    report = json.loads((folder / "self-training.json").read_text())
    first = report["rounds"][0]
    assert report["pool_scenes"] == 3 and report["labelled_scenes"] == 2 and report["kept"] == "student"
    assert first["accepted"] == 3 and first["rejected"] == 0 and first["negatives"] == {"found": 0, "used": 0}
    # the squares of the labelled scenes cover 4 * 18 * 18 of 64 * 64 pixels
    assert first["shares"]["building"]["labelled"] == pytest.approx(1296 / 4096, abs=1e-6)
    assert sum(first["learned_pixels"]) == 3 * 64 * 64
    assert first["teacher"]["sha256"] != report["rounds"][1]["teacher"]["sha256"]
    assert first["after"]["score"] == report["rounds"][1]["before"]["score"]
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "complete" and facts["kept"] == "student"
    assert facts["best"] == {"step": 2, "score": done.rounds[1]["after"]["score"]}


def test_a_picture_is_drawn(two_rounds):
    import cv2

    image = cv2.imread(str(two_rounds[1] / "self-training.png"))
    assert image.shape[1] == 1560 and image.std() > 10


def test_the_folder_holds_the_whole_recipe(two_rounds, data, pool):
    stored = yaml.safe_load((two_rounds[1] / "recipe.yaml").read_text())
    assert stored["kind"] == "self-training"
    assert build_config(SelfTrainingRecipe, stored).rounds == recipe(data, pool, rounds=2).rounds


def test_students_learn_from_the_pool_alone_in_softness(two_rounds):
    manifest = Manifest.load(two_rounds[1] / "round-1")
    assert [(s.split, s.soft is not None, s.is_labelled) for s in manifest.scenes] == (
        [("train", False, True)] * 2 + [("train", True, False)] * 3 + [("validation", False, True)] * 2
    )


@pytest.mark.parametrize(
    ("stage", "number", "done"),
    [
        ("training the teacher", 0, 7),
        ("labelling the pool", 1, 2),
        ("training the student", 1, 10),
        ("training the student", 2, 2),
    ],
)
def test_a_killed_run_resumes_to_the_same_weights(two_rounds, data, pool, tmp_path, stage, number, done):
    class KilledError(Exception):
        pass

    def kill(progress):
        if (progress.stage, progress.round, progress.done) == (stage, number, done):
            raise KilledError

    wanted = recipe(data, pool, rounds=2, negatives={"ratio": 1, "rule": "map", "threshold": 0.01})
    with pytest.raises(KilledError):
        self_train(wanted, tmp_path / "run", on_progress=kill)
    again = self_train(wanted, tmp_path / "run", resume=True)
    assert equal(again.model, two_rounds[0].model)
    assert [r["after"] for r in again.rounds] == [r["after"] for r in two_rounds[0].rounds]


def test_a_finished_run_is_not_resumed(two_rounds, data, pool):
    with pytest.raises(TrainingError, match="holds no interrupted run"):
        self_train(recipe(data, pool), two_rounds[1], resume=True)
    with pytest.raises(AftermapError, match="already holds a run"):
        self_train(recipe(data, pool), two_rounds[1])


@pytest.fixture(scope="module")
def teacher(two_rounds):
    return two_rounds[1] / "teacher" / "model"


def test_a_worse_student_is_refused_and_the_rounds_stop(data, pool, teacher, tmp_path):
    forgetful = TRAINING | {"steps": 2, "model": MODEL | {"target": "test_self_training:Blind"}}
    wanted = recipe(
        data, pool, teacher={"model": str(teacher)}, student=forgetful, rounds=3, guard={"min_gain": 0.001}
    )
    done = self_train(wanted, tmp_path / "run")
    assert done.kept == "teacher" and len(done.rounds) == 1 and done.reason.startswith("no gain")
    assert equal(done.model, teacher)
    verdict = done.rounds[0]["verdict"]["classes"]["building"]
    assert not verdict["accepted"] and verdict["after"] < verdict["before"]
    assert not (tmp_path / "run" / "round-2").exists()


def test_a_class_that_got_worse_is_not_labelled_in_the_next_round(data, pool, teacher, tmp_path, monkeypatch):
    def worse_at_buildings(before, after, config):
        return Verdict("student", "", {"building": ClassVerdict(0.9, 0.5, False, "building fell")})

    monkeypatch.setattr(rounds, "judge", worse_at_buildings)
    wanted = recipe(data, pool, teacher={"model": str(teacher)}, rounds=2)
    first, second = self_train(wanted, tmp_path / "run").rounds
    assert first["refused_classes"] == [] and first["learned_pixels"][1] > 0
    assert second["refused_classes"] == ["building"] and second["learned_pixels"][1] == 0
    assert second["unknown_pixels"]["class refused"] == second["predicted_pixels"][1] > 0


def test_nothing_accepted_keeps_the_teacher(data, pool, teacher, tmp_path):
    wanted = recipe(
        data, pool, teacher={"model": str(teacher)}, labels={"min_scene_confidence": 1.0}, rounds=2
    )
    done = self_train(wanted, tmp_path / "run")
    assert done.kept == "teacher" and "none of the teacher's labels of 3 scenes was accepted" in done.reason
    assert equal(done.model, teacher) and done.rounds[0]["rejected_because"] == {"low confidence": 3}
    assert (tmp_path / "run" / "self-training.png").is_file()


def test_views_of_the_pool_may_judge(data, pool, teacher, tmp_path):
    wanted = recipe(
        data,
        pool,
        teacher={"model": str(teacher)},
        evidence="pool",
        guard={"views": ["mirror"], "min_gain": -1},
    )
    (report,) = self_train(wanted, tmp_path / "run").rounds
    assert report["before"]["source"] == report["after"]["source"] == "views"
    assert report["before"]["scenes"] == 3 and "contradicted" in report["after"]["details"]


def test_hard_labels_and_negatives_go_through_a_round(data, pool, teacher, tmp_path):
    wanted = recipe(
        data,
        pool,
        teacher={"model": str(teacher)},
        labels={"kind": "hard"},
        negatives={"ratio": 1, "rule": "map", "threshold": 1.0},
        student=TRAINING | {"steps": 2},
    )
    done = self_train(wanted, tmp_path / "run")
    assert done.rounds[0]["negatives"]["used"] == min(2, done.rounds[0]["negatives"]["found"])
    stored = yaml.safe_load((tmp_path / "run" / "round-1" / "student" / "recipe.yaml").read_text())
    assert stored["objective"]["soft"]["kind"] == "hard" and stored["data"]["unlabelled"] is True


def test_several_seeds_become_an_ensemble(data, pool, tmp_path):
    short = TRAINING | {"steps": 2, "evaluate_every": 2}
    wanted = recipe(data, pool, teacher={"recipe": short}, student=short, predict={"tta": "none", "seeds": 2})
    done = self_train(wanted, tmp_path / "run")
    assert is_ensemble(done.model) and is_ensemble(tmp_path / "run" / "teacher" / "model")
    members = [tmp_path / "run" / "teacher" / f"seed-{n}" / "model" for n in (0, 1)]
    assert not equal(*members)


def test_a_student_may_start_from_its_teacher(data, pool, teacher, tmp_path):
    still = TRAINING | {"steps": 1, "evaluate_every": 1, "optimizer": {"lr": 1e-12}}
    wanted = recipe(data, pool, teacher={"model": str(teacher)}, student=still, start="teacher")
    self_train(wanted, tmp_path / "run")
    old, new = weights(teacher), weights(tmp_path / "run" / "round-1" / "student" / "model")
    assert torch.allclose(old["encoder.0.weight"], new["encoder.0.weight"], atol=1e-6)


def test_labels_of_the_pool_are_never_looked_at(data, pool, tmp_path):
    blind = tmp_path / "blind"
    shutil.copytree(pool, blind)
    manifest = Manifest.load(blind)
    for scene in manifest.scenes:
        scene.building_mask.unlink()
        scene.damage_mask.unlink()
    material = gather_material(recipe(data, blind))
    assert len(material.pool) == 3
    for scene in material.pool:
        assert not scene.is_labelled and scene.soft is None and not scene.class_pixels and not scene.polygons


def test_a_scene_without_labels_keeps_the_checksums_of_its_images(data):
    scene = Manifest.load(data).scenes[0]
    sums = {"pre": "1", "post": "2", "pre_label": "3"}
    assert scene.model_copy(update={"checksums": sums}).without_labels().checksums == {
        "pre": "1",
        "post": "2",
    }


def test_scenes_of_one_name_get_files_of_their_own(data, pool):
    material = gather_material(pool_of(data, pool, manifests=[str(pool)] * 2))
    names = [scene.name for scene in material.pool]
    assert len(set(names)) == 6 and names[3] == names[0] + "-2"


def test_shares_are_those_of_the_masks(data):
    scenes = Manifest.load(data).scenes
    assert class_shares(scenes, "building") == pytest.approx([2800 / 4096, 1296 / 4096])
    bare = [scene.model_copy(update={"class_pixels": []}) for scene in scenes]
    assert class_shares(bare, "damage") == pytest.approx([2800 / 4096] + [324 / 4096] * 4)


def test_scenes_of_one_date_leave_the_second_of_all_out(data, pool, tmp_path):
    material = gather_material(recipe(data, pool))
    single = [scene.model_copy(update={"post": None}) for scene in material.pool]
    with pytest.warns(DataWarning, match="3 of 7 scenes have one date"):
        written = write_manifest(tmp_path, material, single, [], task="building")
    assert all(scene.post is None for scene in Manifest.load(written).scenes)


def test_a_building_stands_for_every_damage_class():
    assert class_indices(["building"], DAMAGE) == {1, 2, 3, 4}
    assert class_indices(["minor-damage"], DAMAGE) == {2} and class_indices(["building"], BUILDING) == {1}


def refuse(error, match, wanted):
    with pytest.raises(error, match=match) as caught:
        gather_material(wanted)
    assert "\n" not in str(caught.value)


def pool_of(data, pool, **said):
    return recipe(data, pool, pool={"manifests": [str(pool)], "hide_labels": True} | said)


def test_an_empty_pool_is_refused(data, pool):
    refuse(DataError, "3 scenes have labels, and pool.hide_labels", pool_of(data, pool, hide_labels=False))
    nowhere = pool_of(data, pool, splits=["test"])
    refuse(DataError, "expected images without labels in the splits test", nowhere)


def test_labelled_scenes_are_refused_as_a_pool(data):
    refuse(DataError, "2 of the 2 scenes of the pool are learned from with labels", pool_of(data, data))
    held = pool_of(data, data, splits=["validation"])
    refuse(DataError, "2 of the 2 scenes of the pool are kept for validation", held)


def test_an_unknown_event_is_named(data, pool):
    wanted = pool_of(data, pool, events=["circles"])
    refuse(DataError, "names circles: the pool has squares", wanted)


def test_a_teacher_of_another_task_is_refused(data, pool, tmp_path):
    model = save_damage(tmp_path / "model")
    with pytest.raises(ModelError, match="tells joint-damage-scale, task building needs"):
        self_train(recipe(data, pool, teacher={"model": str(model)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_trained_teacher_of_another_task_is_refused(data, pool, tmp_path):
    wanted = recipe(data, pool, teacher={"recipe": TRAINING | {"task": "damage"}})
    with pytest.raises(RecipeError, match="the teacher is a recipe for task damage"):
        self_train(wanted, tmp_path / "run")


def test_the_classifier_is_asked_of_a_teacher_that_has_one(data, pool, tmp_path):
    config = CustomConfig(**{k: v for k, v in MODEL.items() if k != "kind"})
    model = save(tmp_path / "model", config, OnePixel())
    wanted = recipe(data, pool, teacher={"model": str(model)}, negatives={"ratio": 1})
    with pytest.raises(RecipeError, match="has no presence head"):
        self_train(wanted, tmp_path / "run")


HEADS = TRAINING | {"model": {"kind": "fpn-efficientnet", "encoder_weights": None}}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({}, r"teacher\.recipe\.model of kind unet .*rule both asks in round 1"),
        ({"teacher": {"recipe": HEADS}, "rounds": 2}, r"student\.model of kind unet .*asks in round 2"),
        ({"teacher": {"recipe": HEADS}, "predict": {"seeds": 2}}, r"predict\.seeds 2 models has no presence"),
    ],
)
def test_a_teacher_without_presence_head_is_refused_before_it_is_trained(
    data, pool, tmp_path, changes, match
):
    unet = TRAINING | {"model": {"kind": "unet", "encoder_weights": None}}
    said = {"teacher": {"recipe": unet}, "student": unet, "negatives": {"ratio": 1}} | changes
    with pytest.raises(RecipeError, match=match):
        self_train(recipe(data, pool, **said), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"teacher": {}}, "a model .* or a recipe"),
        ({"teacher": {"model": "box", "recipe": {}}}, "one of the two"),
        ({"rounds": 0}, "at least 1 item"),
        ({"start": "teacher", "predict": {"seeds": 2}}, "the weights of one model"),
        ({"pool": {"manifests": []}}, "at least 1 item"),
        ({"labels": {"knd": "hard"}}, "did you mean 'kind'"),
        ({"labels": {"ignored": [0.7, 0.3]}}, "two rising probabilities"),
        ({"labels": {"ignored": [0.4, 1.6]}}, "two rising probabilities"),
        ({"labels": {"min_confidence": {"building": 80}}}, "min_confidence is 80"),
    ],
)
def test_wrong_keys_are_explained(data, pool, changes, match):
    with pytest.raises(RecipeError, match=match):
        build_config(SelfTrainingRecipe, tree(data, pool) | changes)


def test_validation_scenes_need_a_split_of_their_own(data, pool):
    with pytest.raises(RecipeError, match=r"data\.holdout leaves neighbours"):
        recipe(data, pool, **{"data": {"manifests": [str(data)], "holdout": {}}})


def test_rounds_lay_their_keys_over_those_of_the_recipe(data, pool):
    wanted = recipe(
        data,
        pool,
        rounds=[{}, {"student": {"steps": 40}, "labels": {"kind": "hard"}, "predict": {"tta": "flips"}}],
    )
    first, second = (round_recipe(wanted, number) for number in (1, 2))
    assert (first.student["steps"], first.labels.kind, first.predict.tta) == (16, "soft", "none")
    assert (second.student["steps"], second.labels.kind, second.predict.tta) == (40, "hard", "flips")
    assert second.student["model"] == MODEL


def test_trees_build_on_shipped_recipes(data, pool):
    keys = {"extends": "recipes/localization.yaml", "steps": 7, "model": {"encoder_name": "resnet10t"}}
    made = teacher_recipe(recipe(data, pool, teacher={"recipe": keys}, seed=3))
    assert (made.steps, made.model.encoder_name, made.model.head_stride) == (7, "resnet10t", 2)
    assert made.seed == 3 and made.data.manifests == [data] and made.name == "tiny-teacher"


def test_a_student_takes_the_kind_of_its_labels(data, pool, tmp_path):
    wanted = recipe(
        data, pool, labels={"kind": "hard"}, student=TRAINING | {"objective": {"soft": {"weight": 3}}}
    )
    made = student_recipe(wanted, 2, tmp_path)
    assert made.objective.soft.kind == "hard" and made.objective.soft.weight == 3
    assert made.data.unlabelled and made.name == "tiny-student-2"


def test_a_distilled_student_is_refused(data, pool, tmp_path):
    wanted = recipe(data, pool, student=TRAINING | {"objective": {"kind": "distillation"}})
    with pytest.raises(RecipeError, match="kind distillation does not learn from a teacher's stored labels"):
        student_recipe(wanted, 1, tmp_path)


def test_a_score_that_cannot_be_measured_is_drawn(tmp_path):
    from aftermap.products.figures.self_training_figure import LabelSample, RoundFacts, draw_self_training

    facts = RoundFacts(
        "Round 1", {"accepted": 1}, {"a": (1, 1, 1), "b": (0, 0, 0)}, {"s": (math.nan, 1, True)}
    )
    image = np.zeros((16, 16, 3), np.uint8)
    sample = LabelSample("sure", "a", image, image[..., 0])
    path = draw_self_training(tmp_path / "a.png", [facts], [sample], scheme=BUILDING, title="t")
    assert path.stat().st_size > 5000


@pytest.mark.parametrize("name", ["self-training.yaml", "opencities/noisy-student.yaml"])
def test_the_shipped_recipes_are_whole(name, tmp_path):
    wanted = load_config(SelfTrainingRecipe, recipe_path(name))
    student = student_recipe(round_recipe(wanted, 1), 1, tmp_path)
    teacher = teacher_recipe(wanted)
    assert student.objective.soft.kind == wanted.labels.kind == "soft" and teacher.objective.soft is None
    assert student.data.holdout is None and not teacher.data.unlabelled


def test_open_cities_learns_soft_labels_in_every_fifth_batch(tmp_path):
    wanted = load_config(SelfTrainingRecipe, recipe_path("opencities/noisy-student.yaml"))
    student = student_recipe(wanted, 1, tmp_path)
    assert student.model.encoder_name == "tf_efficientnet_b2" and student.model.drop_connect == 0.5
    assert student.sampling.soft_every == 5 and student.sampling.crop_px == 512
    assert (wanted.negatives.threshold, wanted.negatives.rule) == (0.2, "both")
