"""Incremental learning of buildings and damage, with every method, with four bands, and in two processes."""

import json
from typing import get_args

import cv2
import numpy as np
import pytest
import torch

from aftermap.artefacts.store import load_card, load_model
from aftermap.classes import DAMAGE
from aftermap.data.scene import Manifest, read_images
from aftermap.errors import ModelError, RecipeError
from aftermap.inference.predictor import Predictor
from aftermap.learning.configs.incremental import Method
from aftermap.workflows.incremental.run import learn_incrementally
from aftermap.workflows.incremental.step_model import sampling_of
from coloured_cities import make_cities
from incremental_runs import TINY, tiny_recipe
from other_processes import exit_codes_of_two
from squares import make_dataset

pytestmark = pytest.mark.usefixtures("undrawn")

SIAMESE = TINY["model"] | {"kind": "siamese-unet"}
DAMAGE_TASK = {"task": "2-2", "model": SIAMESE, "data": {"test_split": "validation"}}


@pytest.fixture(scope="module")
def cities(tmp_path_factory):
    return make_cities(tmp_path_factory.mktemp("data") / "cities", tiles=6)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def damage(squares, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "damage"
    return learn_incrementally(tiny_recipe(squares, **DAMAGE_TASK), folder)


def test_damage_classes_of_two_dates_are_learned_in_steps(damage):
    assert load_card(damage.steps[1]).classes.names == (
        *("background", "no-damage", "destroyed"),
        *("minor-damage", "major-damage"),
    )


def test_a_model_of_all_damage_classes_ends_in_the_order_of_the_scheme(damage, squares):
    last, delivered = load_model(damage.steps[1]), load_model(damage.model)
    assert (delivered.card.scheme, delivered.card.legend) == (DAMAGE.name, None)
    images = read_images(Manifest.load(squares).scenes[0], dates=2)[None]
    learned, told = (Predictor(model).predict(images)[0] for model in (last, delivered))
    order = [last.card.classes.names.index(name) for name in DAMAGE.names]
    np.testing.assert_allclose(told, learned[order], atol=1e-6)


def test_buildings_are_a_task_of_one_step_whose_model_is_an_ordinary_one(squares, tmp_path):
    recipe = tiny_recipe(squares, task="offline", data={"test_split": "validation"})
    learned = learn_incrementally(recipe, tmp_path / "run")
    card = load_card(learned.model)
    assert (card.scheme, card.legend, card.dates) == ("building", None, 1)


def test_a_model_of_buildings_that_was_trained_otherwise_is_the_first_step(squares, cities, tmp_path):
    recipe = tiny_recipe(squares, task="offline", data={"test_split": "validation"})
    buildings = learn_incrementally(recipe, tmp_path / "buildings")
    learned = learn_incrementally(
        tiny_recipe(cities, task="6s", last_step=1), tmp_path / "run", start=buildings.model
    )
    assert load_card(learned.model).classes.names == ("background", "building", "tree")
    assert load_card(learned.model).incremental.parent_sha256 == load_model(buildings.model).sha256


def test_damage_wants_a_model_of_two_dates(squares, tmp_path):
    changes = DAMAGE_TASK | {"model": TINY["model"], "data": {"target": "damage", "test_split": "validation"}}
    with pytest.raises(RecipeError, match="target damage needs a model of two dates"):
        learn_incrementally(tiny_recipe(squares, **changes), tmp_path / "run")


def test_a_model_of_one_kind_is_no_start_of_another(damage, cities, tmp_path):
    with pytest.raises(ModelError, match="begin from a model of the same task"):
        learn_incrementally(tiny_recipe(cities), tmp_path / "run", start=damage.steps[0])


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_learns_two_steps(method, cities, tmp_path):
    recipe = tiny_recipe(
        cities, task=[["building"], ["tree"]], objective={"method": method}, steps=2, report={"strips": 0}
    )
    learned = learn_incrementally(recipe, tmp_path / "run")
    assert learned.scores["names"] == ["background", "building", "tree"]
    assert len(learned.scores["steps"]) == 2


def test_a_regulariser_takes_over_what_the_step_before_found(cities, tmp_path):
    recipe = tiny_recipe(cities, task=[["building"], ["tree"]], objective={"method": "ewc"}, steps=2)
    learn_incrementally(recipe, tmp_path / "first", step=0)
    learn_incrementally(recipe, tmp_path / "run", start=tmp_path / "first")
    kept = [(tmp_path / name / "steps/0/carried.safetensors").read_bytes() for name in ("first", "run")]
    assert kept[0] == kept[1]


def test_layers_beside_the_image_are_bands(cities, tmp_path):
    manifest = Manifest.load(cities)
    scenes = []
    for scene in manifest.scenes:
        path = tmp_path / f"{scene.name}_nir.png"
        cv2.imwrite(str(path), 255 - cv2.imread(str(scene.pre))[..., 0])
        scenes.append(scene.model_copy(update={"layers": {"nir": path}}))
    manifest.model_copy(update={"scenes": scenes}).save(tmp_path)
    recipe = tiny_recipe(
        tmp_path,
        last_step=1,
        bands=["red", "green", "blue", "nir"],
        normalisation={"mean": [127.5] * 4, "std": [127.5] * 4},
        model={"in_channels": 4},
    )
    learned = learn_incrementally(recipe, tmp_path / "run")
    assert load_card(learned.model).bands == ("red", "green", "blue", "nir")


def test_class_weights_of_the_sampling_reach_all_classes_unless_given():
    recipe = tiny_recipe("somewhere")
    assert sampling_of(recipe.sampling, 8).class_weights == (1, 2, 2, 2, 2, 2, 2, 2)
    given = tiny_recipe("somewhere", sampling={"class_weights": [1, 5]}).sampling
    assert sampling_of(given, 8).class_weights == (1, 5)


def learn_until_no_better(data, folder):
    recipe = tiny_recipe(data, task="222a", last_step=1, selection={"patience": 1}, evaluate_every=1)
    learn_incrementally(recipe, folder)


def test_two_processes_write_one_run(cities, tmp_path):
    assert exit_codes_of_two(learn_until_no_better, cities, tmp_path / "run") == [0, 0]
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["status"] == "complete"
    for step in range(2):
        lines = (tmp_path / f"run/steps/{step}/metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert steps == list(range(1, len(steps) + 1))  # each evaluation once
        weights = load_model(tmp_path / f"run/steps/{step}/model").model.state_dict()
        assert all(torch.isfinite(value).all() for value in weights.values())
    assert not list((tmp_path / "run").rglob("*.part"))
