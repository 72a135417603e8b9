"""Guard rails: what speaks for a model without labels, and when a student is refused."""

import math

import cv2
import numpy as np
import pytest
import torch

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.store import LoadedModel
from aftermap.data.scene import Scene
from aftermap.errors import DataError
from aftermap.inference.predictor import AnyPredictor, Predictor
from aftermap.inference.view_agreement import ViewAgreement, predicted_view, relit
from aftermap.models.configs import CustomConfig
from aftermap.workflows.adaptation.guard import Evidence, GuardConfig, gather_evidence, judge
from aftermap.workflows.scoring.evaluate import decide
from saved_models import Bands

LEVELS = (0.0, 60.0, 110.0, 160.0, 210.0)
"""Brightness of the background and of the four kinds of damage."""


class Brightness(AnyPredictor):
    """Tells the class whose brightness is nearest; `shift` is what it wrongly expects all to be brighter by."""

    multiple = 1

    def __init__(self, classes=5, shift=0.0, row_bias=0.0):
        config = CustomConfig(target="saved_models:Bands", classes=classes, arguments={"classes": classes})
        self.card = Card(
            name="brightness",
            model=config,
            dates=1 if classes == 2 else 2,
            scheme="building" if classes == 2 else "joint-damage-scale",
            training=TrainingRecord(data="none", data_licence="none"),
            licence="MIT",
        )
        self.sha256, self.classes, self.shift, self.row_bias = "", classes, shift, row_bias

    def predict(self, images, valid=None):
        grey = images[:, -1].mean(axis=1) - self.shift
        grey = grey - self.row_bias * np.arange(grey.shape[1])[:, None]
        levels = LEVELS if self.classes == 5 else (0.0, 140.0)
        score = -np.stack([np.abs(grey - level) for level in levels], axis=1) / 10
        p = np.exp(score - score.max(axis=1, keepdims=True))
        return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def scene_of(folder, n, *, labelled=True, levels=(1, 2, 3, 4)):
    image, mask = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    for k, level in enumerate(levels):
        area = slice(2 + 15 * (k // 2), 12 + 15 * (k // 2)), slice(2 + 15 * (k % 2), 12 + 15 * (k % 2))
        image[area], mask[area] = LEVELS[level], level
    folder.mkdir(exist_ok=True)
    files = {"pre": image, "post": image}
    files |= {"building_mask": np.uint8(mask > 0), "damage_mask": mask} if labelled else {}
    paths = {key: folder / f"{n}_{key}.png" for key in files}
    for key, array in files.items():
        cv2.imwrite(str(paths[key]), array)
    return Scene(name=f"scene_{n}", event="test", width=32, height=32, **paths)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return [scene_of(tmp_path_factory.mktemp("guard"), n) for n in range(3)]


def evidence(score, shares=None, per_class=None, source="views", **details):
    per_class = per_class or {"building": score}
    return Evidence(source, score, per_class, shares or {"building": 0.2}, 4, details)


def test_labels_are_asked_where_there_are_some(scenes):
    found = gather_evidence(Brightness(), scenes, GuardConfig())
    assert found.source == "labels" and found.score == pytest.approx(1.0) and found.scenes == 3
    assert found.shares["building"] == pytest.approx(400 / 1024)
    assert found.shares["destroyed"] == pytest.approx(100 / 1024)


def test_a_model_that_is_wrong_scores_less_against_labels(scenes):
    found = gather_evidence(Brightness(shift=-50), scenes, GuardConfig())
    assert found.per_class["no-damage"] == 0 and found.score < 0.5


def test_labels_are_left_alone_where_they_are_not_to_be_asked(scenes):
    assert gather_evidence(Brightness(), scenes, GuardConfig(labels=False)).source == "views"


def test_a_model_that_sees_the_same_in_every_view_agrees_with_itself(scenes):
    found = gather_evidence(Brightness(), scenes, GuardConfig(labels=False, views=("mirror", "turn")))
    assert found.details["agreement"] == 1.0 and found.per_class == dict.fromkeys(found.per_class, 1.0)


def test_a_model_that_looks_at_the_place_in_the_image_does_not(scenes):
    steady, biased = (
        gather_evidence(Brightness(row_bias=b), scenes, GuardConfig(labels=False, views=("turn",)))
        for b in (0.0, 2.0)
    )
    assert biased.details["agreement"] < 0.8 * steady.details["agreement"]


def test_classes_that_are_never_told_are_not_measured(tmp_path):
    scenes = [scene_of(tmp_path, 0, labelled=False, levels=(1, 1, 4))]
    found = gather_evidence(Brightness(), scenes, GuardConfig(views=("mirror",)))
    assert found.source == "views" and math.isnan(found.per_class["minor-damage"])
    assert found.details["agreement"] == 1.0 and found.as_dict()["per_class"]["minor-damage"] is None


def test_without_damage_the_agreement_is_that_of_the_buildings(scenes):
    found = gather_evidence(Brightness(classes=2), scenes, GuardConfig(labels=False, views=("haze",)))
    assert set(found.per_class) == set(found.shares) == {"building"}
    assert found.details["agreement"] == found.per_class["building"]


def test_entropy_is_a_fraction_of_the_largest(scenes):
    class Undecided(Brightness):
        def predict(self, images, valid=None):
            return np.full((len(images), 5, *images.shape[-2:]), 0.2, np.float32)

    found = gather_evidence(Undecided(), scenes, GuardConfig(labels=False, views=("mirror",)))
    assert found.details["entropy"] == pytest.approx(1.0, abs=1e-5) and found.score == pytest.approx(
        0, abs=1e-6
    )


def test_information_is_the_entropy_of_the_mean_less_the_mean_entropy(scenes):
    class Quarter(Brightness):
        def predict(self, images, valid=None):
            p = np.zeros((len(images), 5, *images.shape[-2:]), np.float32)
            building = images[:, -1, 0] > 0
            p[:, 0], p[:, 1] = np.where(building, 0.2, 1.0), np.where(building, 0.8, 0.0)
            return p

    found = gather_evidence(Quarter(), scenes, GuardConfig(labels=False, views=("mirror",)))
    share = 0.8 * 400 / 1024
    mean = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    each = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8)) * 400 / 1024
    assert found.score == pytest.approx((mean - each) / math.log(5), abs=1e-5)


def test_a_model_that_says_the_same_everywhere_tells_nothing(scenes):
    class Background(Brightness):
        def predict(self, images, valid=None):
            p = np.zeros((len(images), 5, *images.shape[-2:]), np.float32)
            p[:, 0] = 1
            return p

    found = gather_evidence(Background(), scenes, GuardConfig(labels=False, views=("mirror",)))
    assert found.score == pytest.approx(0, abs=1e-5) and found.details["entropy"] < 1e-4


def test_contradiction_is_the_mean_of_buildings_and_background(scenes):
    config = GuardConfig(labels=False, views=("mirror",))

    class Nothing(Brightness):
        def predict(self, images, valid=None):
            p = np.zeros((len(images), 5, *images.shape[-2:]), np.float32)
            p[:, 0] = 1
            return p

    same = gather_evidence(Brightness(), scenes, config, teacher=Brightness())
    none = gather_evidence(Nothing(), scenes, config, teacher=Brightness())
    assert same.details["contradicted"] == 0 and none.details["contradicted"] == 0.5


def test_evidence_comes_back_from_json():
    found = evidence(0.5, per_class={"building": 0.5, "destroyed": math.nan}, entropy=0.2)
    again = Evidence.of(found.as_dict())
    assert math.isnan(again.per_class.pop("destroyed"))
    assert again.details == {"entropy": 0.2} and again.per_class == {"building": 0.5}


def test_no_scene_is_an_error():
    with pytest.raises(DataError, match="no scenes to judge a model by"):
        gather_evidence(Brightness(), [], GuardConfig())


def test_a_gain_keeps_the_student():
    verdict = judge(evidence(0.6), evidence(0.65), GuardConfig())
    assert verdict.kept == "student" and "from 0.6000 to 0.6500" in verdict.reason
    assert verdict.classes["building"].accepted


@pytest.mark.parametrize(("after", "min_gain"), [(0.59, 0.0), (0.61, 0.02), (math.nan, 0.0)])
def test_no_gain_keeps_the_teacher_and_says_so(after, min_gain):
    verdict = judge(evidence(0.6), evidence(after), GuardConfig(min_gain=min_gain))
    assert verdict.kept == "teacher" and verdict.reason.startswith("no gain")


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "vanished"), (0.05, "less than 1/3"), (0.7, "more than 3 times")]
)
def test_a_collapsed_student_is_refused_though_it_agrees_with_itself(share, words):
    verdict = judge(evidence(0.6), evidence(1.0, {"building": share}), GuardConfig())
    assert verdict.kept == "teacher" and verdict.reason.startswith("collapse") and words in verdict.reason


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (1e-4, 0.0, "teacher"),
        (1e-4, 1e-4 / 31, "teacher"),
        (1e-4, 4e-5, "student"),
        (1e-5, 0.0, "student"),
        (1e-5, 1e-3, "student"),
        (1e-5, 2e-3, "teacher"),
    ],
)
def test_rare_classes_may_come_from_nothing_and_may_not_be_lost(old, new, kept):
    before = evidence(0.6, {"building": 0.2, "destroyed": old}, {"building": 0.6, "destroyed": 0.5})
    after = evidence(0.7, {"building": 0.2, "destroyed": new}, {"building": 0.7, "destroyed": math.nan})
    assert judge(before, after, GuardConfig()).kept == kept


def test_a_student_that_contradicts_a_sure_teacher_is_refused():
    verdict = judge(evidence(0.6), evidence(0.9, contradicted=0.3), GuardConfig())
    assert verdict.kept == "teacher" and "contradicts 30.0% of what the teacher is sure of" in verdict.reason


def test_a_student_whose_views_disagree_more_is_refused():
    verdict = judge(evidence(0.6, agreement=0.8), evidence(0.9, agreement=0.7), GuardConfig())
    assert verdict.kept == "teacher" and verdict.reason.startswith("unsteady")
    assert judge(evidence(0.6, agreement=0.8), evidence(0.9, agreement=0.76), GuardConfig()).kept == "student"


def test_with_labels_shares_may_move():
    before, after = (evidence(s, {"building": b}, source="labels") for s, b in ((0.2, 0.01), (0.8, 0.3)))
    assert judge(before, after, GuardConfig()).kept == "student"


def test_a_class_that_lost_is_not_accepted():
    before = evidence(0.6, per_class={"building": 0.6, "destroyed": 0.5}, source="labels")
    after = evidence(0.7, per_class={"building": 0.8, "destroyed": 0.3}, source="labels")
    verdict = judge(before, after, GuardConfig())
    assert verdict.kept == "student" and verdict.classes["building"].accepted
    assert not verdict.classes["destroyed"].accepted
    assert verdict.as_dict()["classes"]["destroyed"]["reason"] == "destroyed fell from 0.500 to 0.300"


def test_labels_and_views_are_not_compared():
    with pytest.raises(ValueError, match="from labels cannot be compared"):
        judge(evidence(0.5, source="labels"), evidence(0.6), GuardConfig())


def test_light_is_changed_within_the_range_of_the_values():
    images = np.array([0, 100, 240], np.uint8).reshape(1, 1, 1, 3).repeat(3, axis=1)
    assert relit(images, "bright")[0, :, 0].tolist() == [[0, 125, 255], [0, 120, 255], [0, 115, 255]]
    assert relit(images, "dark")[0, 0, 0].tolist() == [0, 75, 180]
    middle = np.rint(0.5 * np.array([0, 100, 240]) + 0.5 * 340 / 3 + 25.5)
    assert relit(images, "haze")[0, 0, 0].tolist() == middle.tolist()


@pytest.mark.parametrize("view", ["mirror", "turn", "scale"])
def test_views_are_laid_back_over_the_image(view):
    card = Brightness(classes=2).card
    predictor = Predictor(LoadedModel(Bands(2), card, None, ""))
    rows, cols = np.mgrid[:32, :48].astype(np.float32)
    images = np.stack([rows * 4, cols * 4, rows])[None].astype(np.uint8)
    plain = predictor.predict(images[None])[0]
    found = predicted_view(predictor, images, view)
    inner = np.s_[:, 4:-4, 4:-4]
    assert found.shape == plain.shape and np.abs(found - plain)[inner].max() < 0.02


def test_shares_are_pooled_over_scenes(scenes):
    torch.manual_seed(0)
    views = ViewAgreement(Brightness(), lambda p: decide(p, 0.5), ("mirror",))
    for level in (0, 210):
        views.add(np.full((2, 3, 16, 16), level, np.uint8))
    found = views.result()
    assert found.shares["destroyed"] == 0.5 and found.shares["no-damage"] == 0 and found.scenes == 2
