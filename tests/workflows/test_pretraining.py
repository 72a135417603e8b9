"""Pretraining from end to end: a file of weights that a training begins with, and what its card says."""

import json

import pytest
import torch
from safetensors.torch import load_file

from aftermap.cli.app import main
from aftermap.config import build_config
from aftermap.data.scene import Manifest
from aftermap.errors import DataError, RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import SiameseUnetConfig
from aftermap.models.weights.brought import brought_encoder
from aftermap.workflows.kinds import read_recipe
from aftermap.workflows.pretraining.config import PretrainRecipe
from aftermap.workflows.pretraining.run import pretrain, unlabelled_images
from squares import make_dataset

TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "squares", scenes=6)


def recipe(folder, **changes):
    tree = {
        "kind": "pretrain",
        "data": {"manifests": [str(folder)], "licence": "CC0"},
        "encoder_name": "resnet10t",
        "encoder_depth": 2,
        "encoder_options": TINY,
        "objective": {"patch_px": 8},
        "crop_px": 32,
        "batch_size": 4,
        "precision": "no",
        "optimizer": {"lr": 0.001},
        "steps": 4,
        "evaluate_every": 2,
        "licence": "CC0",
    } | changes
    return build_config(PretrainRecipe, tree)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return pretrain(
        recipe(data), tmp_path_factory.mktemp("runs") / "run", command="aftermap pretrain squares"
    )


def test_the_file_says_what_it_is_and_fits_networks_of_that_encoder(trained):
    card = json.loads((trained.model / "encoder.json").read_text())
    assert (card["encoder_name"], card["method"], card["licence"]) == ("resnet10t", "masked-image", "CC0")
    assert card["training"]["command"] == "aftermap pretrain squares" and card["metrics"]["loss"] > 0
    assert card["sha256"] in (trained.model / "README.md").read_text()
    config = SiameseUnetConfig(
        encoder_name="resnet10t",
        encoder_depth=2,
        encoder_options=TINY,
        encoder_weights=trained.model,
        decoder_channels=(8, 8),
    )
    assert brought_encoder(config, "").licence == "CC0"
    built, stored = (
        build_model(config).encoder.body.state_dict(),
        load_file(trained.model / "encoder.safetensors"),
    )
    assert all(torch.equal(built[name], stored[name]) for name in stored) and stored


def test_an_interrupted_run_ends_with_the_same_weights(data, trained, tmp_path):
    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe(data), tmp_path / "run", on_progress=stop)
    again = pretrain(recipe(data), tmp_path / "run", resume=True)
    one, other = (load_file(run.model / "encoder.safetensors") for run in (trained, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again.metrics["held_out_loss"] == trained.metrics["held_out_loss"]


def test_every_date_is_an_image_without_labels_and_scenes_are_not_torn_apart(data):
    learned, held_out = unlabelled_images(recipe(data))
    assert len(learned) == 10 and len(held_out) == 2
    assert {s.name.removesuffix("-post") for s in learned}.isdisjoint({s.name for s in held_out})
    assert not any(
        s.post or s.building_mask or s.damage_mask or s.class_pixels for s in (*learned, *held_out)
    )
    pre = {scene.name: scene.pre for scene in learned}
    scenes = {scene.name: scene for scene in Manifest.load(data).scenes}
    assert all(pre[f"{name}-post"] == scenes[name].post for name in pre if f"{name}-post" in pre)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"crop_px": 30}, RecipeError, "crop_px is 30, this encoder takes multiples of 4, such as 32"),
        ({"data.events": ["fire"]}, DataError, "no scene is of event fire: there are squares"),
    ],
)
def test_mistakes_are_told(data, tmp_path, changes, error, words):
    events = changes.get("data.events", [])
    said = {name: value for name, value in changes.items() if name != "data.events"}
    with pytest.raises(error, match=words):
        pretrain(
            recipe(data, **said | {"data": {"manifests": [str(data)], "events": events}}), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_the_command_writes_an_encoder(data, tmp_path, capsys):
    tiny = ["encoder_name=resnet10t", "encoder_weights=null", "encoder_depth=2", "crop_px=32", "batch_size=2"]
    words = ["pretrain", data, *tiny, "steps=1", "evaluate_every=1", "precision=no", "-o", tmp_path / "run"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    assert end.value.code == 0 and "encoder, for model.encoder_weights" in capsys.readouterr().out
    assert (tmp_path / "run/model/encoder.safetensors").is_file()
    with pytest.raises(SystemExit) as end:
        main(["pretrain", str(data), "-r", "localization.yaml", "-o", str(tmp_path / "no")])
    assert end.value.code == 2 and "takes recipes of kind pretrain" in capsys.readouterr().err


def test_the_recipe_that_comes_along_is_of_this_kind(data):
    kind, settings = read_recipe("pretrain.yaml", [f"data.manifests=[{data}]"])
    assert kind == "pretrain" and settings.objective.kind == "masked-image"
    _, other = read_recipe("pretrain.yaml", [f"data.manifests=[{data}]", "objective.kind=vicreg"])
    assert other.objective.kind == "vicreg"
