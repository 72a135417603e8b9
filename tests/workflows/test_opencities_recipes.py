"""The recipes of the Open Cities system against the numbers of its configuration files."""

import pytest
import torch

from aftermap.data.augment.operations import geometric, photometric
from aftermap.learning.configs.optimizer import OneCycleConfig
from aftermap.models.build import build_model
from aftermap.models.networks.dense import count_parameters
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import load_recipe, shipped_recipes

ROLES = {"building-b1": 8_129_061, "student-b2": 9_329_952}


def _recipe(name, *words):
    return load_recipe(
        TrainRecipe, shipped_recipes()[f"opencities/{name}.yaml"], ["model.encoder_weights=null", *words]
    )


@pytest.mark.parametrize("name", ROLES)
def test_networks_are_as_large_as_published(name):
    with torch.device("meta"):
        assert count_parameters(build_model(_recipe(name).model)) == ROLES[name]


@pytest.mark.parametrize("name", ROLES)
def test_both_steps_share_the_published_optimizer_and_length(name):
    recipe = _recipe(name)
    optimizer = recipe.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (0.0002259011271497254, 1.4712136461463032e-05)
    assert (optimizer.algorithm, optimizer.clip_norm, optimizer.decay_all) == ("adamw", 0, True)
    assert optimizer.schedule == OneCycleConfig(kind="one-cycle", compat_step_first=True)
    assert (recipe.epochs, recipe.sampling.batch_size, recipe.sampling.crop_px) == (20, 5, 512)
    assert recipe.data.holdout is not None and recipe.data.holdout.seed == 777
    assert recipe.data.holdout.fraction == pytest.approx(1 / 7, abs=1e-6)


@pytest.mark.parametrize("name", ROLES)
def test_heads_are_weighed_as_published(name):
    objective = _recipe(name).objective
    weights = objective.weights
    assert (weights.map, weights.dice, weights.presence, weights.scale) == (1, 0.1, 1, 0)
    assert objective.class_weights == (0.25, 0.75) and objective.gamma == 2
    assert objective.compat_truncate and objective.compat_detached and objective.compat_dice_floor == 0.4


def test_augmentation_has_the_published_chances():
    operations = _recipe("building-b1").augment
    chances = {o.op: o.p for o in [*geometric(operations), *photometric(operations)]}
    assert chances == {
        "flip": 0.5,
        "rotate90": 0.25,
        "rotate-scale": 0.5,
        "cutout": 0.1,
        "grid-distortion": 0.3,
        "optical-distortion": 0.3,
        "channel-shift": 0.3,
        "box-blur": 0.3,
        "motion-blur": 0.3,
    }
    shift = next(o for o in operations if o.op == "channel-shift")
    assert shift.amount == pytest.approx(20 / 255, abs=1e-4)


def test_the_student_has_more_noise_and_soft_labels_in_every_fifth_batch():
    first, student = _recipe("building-b1"), _recipe("student-b2")
    assert (first.model.drop_connect, student.model.drop_connect) == (0.2, 0.5)
    assert (first.model.compat_frozen_stem, student.model.compat_frozen_stem) == ("statistics", "weights")
    assert first.objective.soft is None and student.sampling.soft_every == 5
    assert student.objective.soft.kind == "soft" and student.objective.soft.weight == 1
    assert student.objective.soft.compat_class_mean and student.data.unlabelled
