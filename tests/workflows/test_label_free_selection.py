"""Choosing the best step of a run without labels."""

import json

import pytest

from aftermap.artefacts.store import load_card
from aftermap.data.scene import Manifest
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import train
from saved_models import SMALL
from squares import make_dataset


def test_a_mean_teacher_trains_and_is_chosen_without_any_label(tmp_path):
    folder = make_dataset(tmp_path / "squares", scenes=4)
    manifest = Manifest.load(folder)
    bare = {"damage_mask": None, "building_mask": None, "class_pixels": []}
    manifest.model_copy(update={"scenes": [s.model_copy(update=bare) for s in manifest.scenes]}).save(folder)
    recipe = TrainRecipe.model_validate(
        {
            "name": "bare",
            "task": "building",
            "data": {"manifests": [str(folder)], "unlabelled": True},
            "model": {"kind": "unet", **SMALL},
            "objective": {"kind": "mean-teacher", "terms": [], "decay": 0.5},
            "selection": {"metric": "information"},
            "sampling": {"crop_px": 32, "batch_size": 2},
            "steps": 2,
            "evaluate_every": 1,
            "precision": "no",
        }
    )
    trained = train(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["score"] <= 1 and 0 <= line["agreement_building"] <= 1 for line in lines)
    assert trained.metrics["score"] == max(line["score"] for line in lines)
    shown = load_card(trained.model).metrics["validation, without labels"]
    assert shown["score"] == pytest.approx(trained.metrics["score"], abs=1e-4)
    assert set(shown) >= {"entropy", "share_building"}


def test_the_teachers_answers_are_read_as_the_models():
    recipe = {
        "name": "x",
        "task": "building",
        "data": {"manifests": ["x"], "unlabelled": True},
        "model": {"kind": "unet", **SMALL},
        "activation": "sigmoid",
        "objective": {"kind": "mean-teacher", "terms": []},
    }
    with pytest.raises(ValueError, match=r"objective\.activation is softmax, activation is sigmoid"):
        TrainRecipe.model_validate(recipe)
    recipe["objective"]["activation"] = "sigmoid"
    assert TrainRecipe.model_validate(recipe).objective.activation == "sigmoid"
