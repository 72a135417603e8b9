"""Encoder weights that a user brings: hash and licence recorded, a frozen encoder left as it is."""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from aftermap.artefacts.card import describe
from aftermap.artefacts.store import load_card, load_model
from aftermap.config import build_config
from aftermap.errors import ModelError, RecipeError
from aftermap.files import sha256_of
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.trainable import fix_norm
from aftermap.models.build import build_model
from aftermap.models.configs import SmpConfig, UnetConfig
from aftermap.models.weights.brought import brought_encoder
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import train
from small_networks import Small
from squares import make_dataset

DINO = "vit_tiny_patch16_dinov3_qkvb"
NARROW = {"decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8}


@pytest.fixture
def file(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "own.safetensors", metadata={"license": "CC BY 4.0"})
    torch.save({"weight": torch.zeros(1)}, tmp_path / "bare.pth")
    return tmp_path / "own.safetensors"


def test_the_licence_is_the_recipes_or_else_the_files(file):
    said = brought_encoder(UnetConfig(encoder_weights=file), "mine")
    assert (said.licence, said.file, said.name) == ("mine", "own.safetensors", "resnet18")
    assert said.sha256 == sha256_of(file)
    assert brought_encoder(UnetConfig(encoder_weights=file), " ").licence == "CC BY 4.0"
    assert brought_encoder(UnetConfig(encoder_weights="imagenet"), "") is None
    assert brought_encoder(UnetConfig(), "") is None


def test_a_file_of_unknown_licence_is_refused_with_what_timm_lists(file):
    config = SmpConfig(
        architecture="dpt",
        encoder_name="tu-vit_small_patch16_dinov3",
        encoder_weights=file.with_name("bare.pth"),
    )
    with pytest.raises(
        RecipeError,
        match=r"bare.pth is not known.*encoder_licence.*of vit_small_patch16_dinov3 under dinov3-license",
    ):
        brought_encoder(config, "")
    with pytest.raises(ModelError, match="no encoder weights at"):
        brought_encoder(UnetConfig(encoder_weights=file.with_name("absent.pth")), "mine")


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        (DINO, {"architecture": "dpt", "dates": 2, "arguments": NARROW}, "blocks.11.mlp.fc2.weight"),
        ("convnext_atto", {"architecture": "fpn"}, "stages_3.blocks.1.mlp.fc2.weight"),
    ],
)
def test_files_under_timms_names_fill_transformers_and_convnext(name, options, key, tmp_path):
    state = timm.create_model(name).state_dict()
    save_file(state, tmp_path / "own.safetensors")
    built = build_model(SmpConfig(encoder_name=name, encoder_weights=tmp_path / "own.safetensors", **options))
    own = built.encoder.model.state_dict()[key]
    assert torch.equal(own, state[key.replace("stages_3", "stages.3")])


def test_a_frozen_encoder_stays_as_it_is_and_its_licence_is_on_the_card(tmp_path):
    data = make_dataset(tmp_path / "squares", scenes=4)
    encoder = timm.create_model("resnet10t", features_only=True, out_indices=(0, 1))
    save_file(encoder.state_dict(), tmp_path / "own.safetensors", metadata={"licence": "Theirs 1.0"})
    model = {
        "kind": "siamese-unet",
        "encoder_name": "resnet10t",
        "encoder_depth": 2,
        "decoder_channels": [8, 8],
    }
    tree = {
        "name": "frozen",
        "task": "damage",
        "data": {"manifests": [str(data)]},
        "model": model | {"encoder_weights": str(tmp_path / "own.safetensors")},
        "tune": "decoder",
        "norm": "fixed-encoder",
        "sampling": {"crop_px": 32, "batch_size": 2},
        "augment": None,
        "precision": "no",
        "steps": 2,
        "evaluate_every": 2,
        "licence": "MIT",
    }
    trained = train(build_config(TrainRecipe, tree), tmp_path / "run").model
    card = load_card(trained)
    assert card.licence == "MIT; encoder weights: Theirs 1.0" and card.encoder.file == "own.safetensors"
    assert f"from `own.safetensors` (SHA-256 `{card.encoder.sha256}`), licence Theirs 1.0" in describe(card)
    kept = load_model(trained).model.encoder.body.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in encoder.state_dict().items())
    child = {**tree, "name": "child", "init_from": str(trained), "model": model, "licence": "free"}
    card = load_card(train(build_config(TrainRecipe, child), tmp_path / "child").model)
    assert card.licence == "free; encoder weights: Theirs 1.0"
    assert json.loads((tmp_path / "child/model/card.json").read_text())["encoder"]["licence"] == "Theirs 1.0"


def test_the_recipe_of_the_page_is_right(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs/encoders.md").read_text()
    tree = yaml.safe_load(re.search(r'title="dinov3.yaml"\n(.*?)^```', page, re.S | re.M)[1])
    recipe = build_config(TrainRecipe, tree)
    save_file({"weight": torch.zeros(1)}, tmp_path / "dinov3.safetensors")
    model = recipe.model.model_copy(update={"encoder_weights": tmp_path / "dinov3.safetensors"})
    assert brought_encoder(model, recipe.encoder_licence).licence == "DINOv3 License"
    assert timm.is_model(recipe.model.encoder_name) and recipe.norm == "fixed-encoder"


def test_a_model_without_an_encoder_has_none_to_freeze():
    model = Small()
    del model.encoder
    with pytest.raises(ModelError, match="no part named encoder"):
        fix_norm(model, Supervised(SupervisedConfig()), "fixed-encoder")
