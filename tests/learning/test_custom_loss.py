"""Losses of the user's own: a recipe names their function, and what it says is minimised."""

import json

import pytest
import torch
import yaml

from aftermap.classes import IGNORE
from aftermap.cli.app import main
from aftermap.config import build_config
from aftermap.errors import RecipeError
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.objectives.supervised import Supervised
from squares import make_dataset

MODULE = """
import torch

def squared(logits, channels, index, known, *, power=2.0, class_weights=None):
    error = (logits.softmax(1) - channels.float()).abs() ** power
    if class_weights is not None:
        error = error * class_weights[None, :, None, None]
    return error.sum(1)[known].mean()

def whole(logits, channels, index, known):
    return logits

def failing(logits, channels, index, known):
    return logits @ channels

number = 3
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """Name of a module of a user's own, on the path."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "users_losses.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "users_losses"


def terms(*terms):
    return Supervised(build_config(SupervisedConfig, {"terms": list(terms)}))


def custom(name, **more):
    return {"loss": "custom", "target": f"users_losses:{name}", **more}


LOGITS = torch.tensor([0.0, 0.0]).reshape(1, 2, 1, 1).repeat(1, 1, 1, 2)
MASK = torch.tensor([[[1, IGNORE]]])


def test_the_function_is_given_what_is_known_and_its_arguments(module):
    # softmax is 1/2 each: |1/2|^2 twice is 1/2, |1/2|^3 twice is 1/4; of the second pixel nothing is known
    values = terms(
        custom("squared"), custom("squared", weight=4, arguments={"power": 3}), {"loss": "dice", "weight": 0}
    ).values(LOGITS, MASK)
    assert {name: value.item() for name, value in values.items()} == {"squared": 0.5, "squared 2": 1.0}


def test_class_weights_are_handed_on(module):
    values = terms(custom("squared", class_weights=[1, 3])).values(LOGITS, MASK)
    assert values["squared"].item() == 1.0


def test_without_anything_known_the_function_is_not_asked(module):
    values = terms(custom("squared")).values(LOGITS, torch.full((1, 1, 2), IGNORE))
    assert values["squared"].item() == 0.0


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"target": "no_such_module:f"}, "set PYTHONPATH to the folder of no_such_module"),
        ({"target": "users_losses:none"}, "'users_losses:none' cannot be imported: users_losses has no none"),
        ({"target": "squared"}, "'squared' cannot be imported: write package.module:function"),
        ({"target": "users_losses:number"}, "is a int, expected a function"),
        (
            {"target": "users_losses:squared", "arguments": {"sharp": 1}},
            "unexpected keyword argument 'sharp'",
        ),
        ({"target": "users_losses:whole", "class_weights": [1, 1]}, "and class_weights"),
    ],
)
def test_a_function_that_does_not_fit_is_refused_before_anything_is_learned(module, term, message):
    with pytest.raises(RecipeError, match=r"^loss ") as refused:
        terms({"loss": "custom", **term})
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("whole", r"returned a tensor of shape \(1, 2, 1, 2\), expected a scalar"),
        ("failing", r"RuntimeError: .*\(users_losses.py, line 14\)"),
    ],
)
def test_what_the_function_does_wrong_is_said_in_a_line(module, name, message):
    with pytest.raises(RecipeError, match=message):
        terms(custom(name)).values(LOGITS, MASK)


def test_a_module_that_does_not_run_is_told_with_its_own_words(module, tmp_path, monkeypatch):
    (tmp_path / "broken_losses.py").write_text("import torch\nx = torch.undefined\n")
    (tmp_path / "needy_losses.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecipeError, match="AttributeError: module 'torch' has no attribute 'undefined'"):
        terms({"loss": "custom", "target": "broken_losses:f"})
    with pytest.raises(RecipeError, match="No module named 'no_such_library'"):
        terms({"loss": "custom", "target": "needy_losses:f"})


def test_a_recipe_of_the_users_own_trains_with_it(module, tmp_path, capsys):
    recipe = {
        "name": "own",
        "task": "building",
        "data": {"manifests": [str(make_dataset(tmp_path / "data", scenes=4))]},
        "model": {"kind": "custom", "target": "small_networks:Small", "classes": 2},
        "objective": {"terms": [{"loss": "cross-entropy"}, custom("squared", weight=0.5)]},
        "sampling": {"crop_px": 32, "batch_size": 2},
        "optimizer": {"schedule": {"kind": "cosine", "warmup_steps": 1}},
        "steps": 2,
        "evaluate_every": 2,
        "precision": "no",
    }
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(recipe))
    assert ended("train", file, "-o", tmp_path / "run") == 0
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < line["loss_squared"] < 1, line
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["objective"]["terms"][1][
        "target"
    ].endswith(":squared")

    recipe["objective"]["terms"][1]["target"] = "users_losses:nothing"
    file.write_text(yaml.safe_dump(recipe))
    capsys.readouterr()
    assert ended("train", file, "-o", tmp_path / "wrong") == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("aftermap: loss target 'users_losses:nothing'") and "\n" not in said


def ended(*words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)
