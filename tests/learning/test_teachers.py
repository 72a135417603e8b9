import copy

import numpy as np
import pytest
import torch
from torch import nn

from aftermap.artefacts.ensemble import Ingredient
from aftermap.artefacts.store import load_model
from aftermap.errors import RecipeError
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.learning.teachers import StudentImages
from saved_models import (
    OTHER,
    PLAIN,
    as_student,
    make_ensemble,
    opened,
    raw,
    save_bands,
    save_building,
    save_damage,
)


def test_a_single_teacher_gives_the_models_own_logits_at_its_temperature(tmp_path):
    folder = save_damage(tmp_path / "damage", temperature=2.0)
    image = as_student(raw())
    with torch.no_grad():
        expected = load_model(folder).model(image) / 2
    assert torch.allclose(opened(folder)(image).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    "images",
    [
        PLAIN,
        StudentImages(("blue", "green", "red"), (127.0,) * 3, (127.0,) * 3, 2),
        StudentImages(("green", "red", "blue"), (10.0, 20.0, 30.0), (60.0, 70.0, 80.0), 2),
    ],
)
def test_a_teacher_sees_what_it_was_trained_on_whatever_the_student_looks_at(tmp_path, images):
    # logits are the bands that it sees: blue, green in units of its own normalisation
    folder = save_bands(tmp_path / "bands", 2, bands=("blue", "green", "red"), normalisation=OTHER)
    pixels = raw()
    seen = opened(folder, images)(as_student(pixels, images)).logits
    blue, green = (pixels[:, 0, 2] - 100.0) / 40.0, (pixels[:, 0, 1] - 110.0) / 50.0
    assert np.abs(seen.numpy() - np.stack([blue, green], axis=1)).max() < 2e-5


def test_a_teacher_of_one_date_sees_the_pre_image(tmp_path):
    folder = save_bands(tmp_path / "bands", 2)
    image = as_student(raw())
    teacher = opened(folder)
    assert teacher.dates == 1 and torch.equal(teacher(image).logits, image[:, 0, :2])


@pytest.mark.parametrize("tta", ["none", "flips"])
@pytest.mark.parametrize(
    ("activation", "channel_0"),
    [("softmax", "background"), ("sigmoid", "background"), ("sigmoid", "building")],
)
def test_the_softmax_of_a_teachers_logits_is_what_its_model_predicts(tmp_path, activation, channel_0, tta):
    folder = save_damage(tmp_path / "damage", activation=activation, channel_0=channel_0, normalisation=OTHER)
    pixels = raw()
    expected = open_predictor(folder, Options(tta=tta)).predict(pixels)
    teacher = opened(folder, tta=tta)
    found = torch.softmax(teacher(as_student(pixels)).logits, dim=1).numpy()
    assert teacher.classes == 5 and np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize(("tta", "classes"), [("none", 1), ("flips", 2)])
def test_one_logit_stays_one_unless_it_is_averaged(tmp_path, tta, classes):
    folder = save_building(tmp_path / "building", classes=1, activation="sigmoid")
    pixels = raw()
    logits = opened(folder, tta=tta)(as_student(pixels)).logits
    p = torch.sigmoid(logits[:, 0]) if classes == 1 else torch.softmax(logits, dim=1)[:, 1]
    expected = open_predictor(folder, Options(tta=tta)).predict(pixels[:, :1])[:, 1]
    assert logits.shape[1] == opened(folder, tta=tta).classes == classes
    assert np.abs(p.numpy() - expected).max() < 2e-5


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
def test_an_ensemble_teacher_says_what_the_ensemble_predicts(tmp_path, averaging):
    damage = [save_damage(tmp_path / f"d{n}", seed=n) for n in range(2)]
    damage.append(save_damage(tmp_path / "d2", seed=2, bands=("blue", "green", "red"), normalisation=OTHER))
    places = [save_building(tmp_path / f"b{n}", seed=n, temperature=1.5) for n in range(2)]
    parts = [*damage[:2], Ingredient(damage[2], weight=3.0), Ingredient(places[0], weight=0.5), places[1]]
    folder = make_ensemble(tmp_path / "all", parts, averaging=averaging)
    pixels = raw()
    teacher = opened(folder)
    logits = teacher(as_student(pixels)).logits
    expected = open_predictor(folder).predict(pixels)
    assert teacher.classes == 5 and teacher.is_ensemble
    assert np.abs(logits.exp().numpy() - expected).max() < 2e-5
    assert torch.allclose(logits.exp().sum(1), torch.ones(2, 32, 32), atol=1e-5)


def test_an_ensemble_of_localizers_tells_two_classes(tmp_path):
    parts = [save_building(tmp_path / f"b{n}", seed=n, classes=1, activation="sigmoid") for n in range(2)]
    folder = make_ensemble(tmp_path / "both", parts)
    pixels = raw()
    teacher = opened(folder)
    expected = open_predictor(folder).predict(pixels[:, :1])
    assert teacher.classes == 2 and teacher.dates == 1
    assert np.abs(teacher(as_student(pixels)).logits.exp().numpy() - expected).max() < 2e-5


def test_features_are_those_of_the_encoder_for_every_date_it_looks_at(tmp_path):
    damage, building = save_damage(tmp_path / "damage"), save_building(tmp_path / "building")
    image = as_student(raw())
    with torch.no_grad():
        expected = [load_model(damage).model.encoder(image[:, date])[-1] for date in range(2)]
        pre = load_model(building).model.encoder(image[:, 0])[-1]
    found = opened(damage)(image, features=True).features
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))
    (found,) = opened(building)(image, features=True).features
    assert torch.allclose(found, pre, atol=1e-5)
    assert opened(building)(image).features == ()


def test_with_flips_the_features_are_those_of_the_image_as_it_is(tmp_path):
    folder = save_damage(tmp_path / "damage")
    image = as_student(raw())
    plain, flipped = (opened(folder, tta=tta)(image, features=True).features for tta in ("none", "flips"))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, flipped, strict=True))


def test_a_teacher_of_two_dates_lends_a_student_of_one_its_encoder_alone(tmp_path):
    folder = save_damage(tmp_path / "damage")
    images = StudentImages(PLAIN.bands, PLAIN.mean, PLAIN.std, 1)
    image = as_student(raw(), images)
    teacher = opened(folder, images)
    output = teacher(image, features=True)
    model = load_model(folder).model
    with torch.no_grad():
        expected = model.encoder(image[:, 0])[-1]
    assert teacher.classes is None and output.logits.shape == (2, 0, 32, 32)
    assert len(output.features) == 1 and torch.allclose(output.features[0], expected, atol=1e-5)


def test_teachers_stay_in_evaluation_mode_and_ask_for_no_gradient(tmp_path):
    parts = [save_damage(tmp_path / f"d{n}", seed=n) for n in range(2)]
    teacher = opened(make_ensemble(tmp_path / "both", parts))
    nn.ModuleDict({"main": teacher}).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    image = as_student(raw()).requires_grad_()
    assert not teacher(image).logits.requires_grad


def test_nothing_about_a_teacher_changes_when_it_is_asked(tmp_path):
    teacher = opened(save_damage(tmp_path / "damage")).train()
    before = copy.deepcopy(teacher.state_dict())
    for _ in range(3):
        teacher(as_student(raw()), features=True)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_crops_must_suit_every_member(tmp_path):
    parts = [save_bands(tmp_path / "four", 2), save_building(tmp_path / "eight")]
    assert opened(make_ensemble(tmp_path / "both", parts)).multiple == 8


def test_answers_under_autocast_come_in_32_bits(tmp_path):
    teacher = opened(save_damage(tmp_path / "damage"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert teacher(as_student(raw())).logits.dtype == torch.float32


def test_an_ensemble_has_no_features(tmp_path):
    teacher = opened(make_ensemble(tmp_path / "one", [save_damage(tmp_path / "damage")]))
    with pytest.raises(RecipeError, match="is an ensemble, which has no features"):
        _ = teacher.feature_channels


def test_a_teacher_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(RecipeError, match=r"objective\.teachers\.main: no model at .*nowhere"):
        opened(tmp_path / "nowhere")


def test_bands_that_the_student_does_not_have_are_refused(tmp_path):
    folder = save_damage(tmp_path / "damage")
    with pytest.raises(
        RecipeError, match="looks at the bands red, green, blue, the student's images have red"
    ):
        opened(folder, StudentImages(("red",), (0.0,), (1.0,), 2))


def test_an_ensemble_of_more_dates_than_the_students_is_refused(tmp_path):
    folder = make_ensemble(tmp_path / "one", [save_damage(tmp_path / "damage")])
    with pytest.raises(RecipeError, match="looks at 2 dates, the student at 1"):
        opened(folder, StudentImages(PLAIN.bands, PLAIN.mean, PLAIN.std, 1))


def test_a_member_with_other_weights_than_the_ensemble_was_made_of_is_refused(tmp_path):
    folder = make_ensemble(tmp_path / "one", [save_damage(tmp_path / "damage")])
    (folder / "damage" / "model.safetensors").unlink()  # a link to the original
    save_damage(folder / "damage", seed=9)
    with pytest.raises(RecipeError, match="member damage holds other weights"):
        opened(folder)
