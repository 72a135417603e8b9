import json

import numpy as np
import pytest
import torch

from aftermap.artefacts.card import Calibration, Card, TrainingRecord, describe
from aftermap.artefacts.store import load_card, load_model, save_model
from aftermap.errors import ModelError, OutputError
from aftermap.models.build import build_model
from aftermap.models.configs import SegformerConfig, SmpConfig, UnetConfig, Xview2UnetConfig

CONFIG = UnetConfig(encoder_name="test_resnet", encoder_depth=3, decoder_channels=(16, 16, 16))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    card = Card(
        name="tiny",
        model=CONFIG,
        dates=1,
        scheme="building",
        licence="MIT",
        training=TrainingRecord(data="none", data_licence="none"),
        metrics={"here": {"f1": 0.5}},
    )
    save_model(tmp_path / "m", build_model(CONFIG), card)
    return tmp_path / "m"


def test_a_model_comes_back_with_the_same_outputs(folder):
    torch.manual_seed(0)
    original = build_model(CONFIG).eval()
    image = torch.randn(1, 1, 3, 32, 32)
    assert torch.equal(load_model(folder).model(image), original(image))


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        SegformerConfig(decoder_channels=8, classes=2),
        Xview2UnetConfig(encoder_name="test_resnet", decoder_channels=(8,) * 5, classes=2),
        SmpConfig(architecture="fpn", encoder_name="test_resnet", classes=2),
    ],
    ids=lambda config: config.kind,
)
def test_a_model_that_is_only_run_is_the_same_and_draws_no_random_number(tmp_path, config):
    card = Card(
        name="run", model=config, dates=1, scheme="building", licence="MIT",
        training=TrainingRecord(data="none", data_licence="none"),
    )  # fmt: skip
    save_model(tmp_path / "m", build_model(config), card)
    drawn = load_model(tmp_path / "m").model
    before = torch.get_rng_state()
    model = load_model(tmp_path / "m", to_run=True).model
    assert torch.equal(torch.get_rng_state(), before)
    ours, theirs = (dict(net.named_parameters()) | dict(net.named_buffers()) for net in (model, drawn))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_half_precision_halves_the_file_and_barely_moves_the_outputs(folder, tmp_path):
    loaded = load_model(folder)
    save_model(tmp_path / "half", loaded.model, loaded.card, dtype="float16")
    size = [(f / "model.safetensors").stat().st_size for f in (folder, tmp_path / "half")]
    assert size[1] < 0.52 * size[0]
    image = torch.randn(1, 1, 3, 32, 32)
    assert torch.allclose(load_model(tmp_path / "half").model(image), loaded.model(image), atol=5e-3)


def test_the_readme_says_what_the_card_says(folder):
    text = (folder / "README.md").read_text()
    assert (
        "# tiny (version 1)" in text and "| here | 0.500 |" in text and "Licence of the weights: MIT" in text
    )


def test_a_missing_file_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"incomplete: model\.safetensors is missing"):
        load_model(folder)


def test_an_altered_weight_file_is_refused(folder):
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="was altered"):
        load_model(folder)


def test_a_card_of_a_later_format_is_refused(folder):
    tree = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(tree | {"format": 2}))
    with pytest.raises(ModelError, match="cannot be understood"):
        load_card(folder)


def test_a_folder_without_card_and_no_folder_are_refused(tmp_path):
    with pytest.raises(ModelError, match="not a model folder"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="no model at"):
        load_model(tmp_path / "nowhere")


def test_a_run_folder_given_for_its_model_names_the_model(folder):
    run = folder.parent / "run"
    run.mkdir()
    folder.rename(run / "model")
    with pytest.raises(ModelError, match=r"not a model folder: .* did you mean .*run/model\?"):
        load_card(run)


def test_a_folder_that_cannot_be_made_is_an_output_error(folder):
    loaded = load_model(folder)
    with pytest.raises(OutputError, match=r"cannot write .*card\.json/m"):
        save_model(folder / "card.json" / "m", loaded.model, loaded.card)


@pytest.mark.parametrize("changes", [{"building_threshold": 38}, {"class_thresholds": (-0.1,)}])
def test_a_threshold_that_is_no_probability_is_refused(folder, changes):
    with pytest.raises(ValueError, match="thresholds are probabilities from 0 to 1"):
        Card.model_validate(load_card(folder).model_dump() | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution_m": (5, -1)}, "resolution_m is 5 to -1, expected the finest and the coarsest"),
        (
            {"normalisation": {"mean": (1, 2, 3), "std": (1, 0, 1)}},
            "normalisation: std holds 0, expected positive",
        ),
        ({"banana": 1}, "unknown key 'banana': did you mean 'bands'"),
    ],
)
def test_a_card_that_no_model_can_have_is_refused_with_the_key(folder, changes, message):
    tree = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(tree | changes))
    with pytest.raises(ModelError, match=f"card.json cannot be understood: {message}") as error:
        load_card(folder)
    assert "pydantic" not in str(error.value)


def test_saving_again_replaces_the_folder_whole(folder):
    loaded = load_model(folder)
    save_model(folder, loaded.model, loaded.card.model_copy(update={"name": "other"}))
    assert load_card(folder).name == "other"
    assert sorted(p.name for p in folder.parent.iterdir()) == ["m"]


def test_a_calibration_is_a_power_and_factors_by_class():
    calibration = Calibration(temperature=2.0, factors=(1.0, 1.0, 1.0, 2.0))
    found = calibration.apply(np.array([[0.64, 0.04, 0.16, 0.16], [np.nan] * 4]))
    np.testing.assert_allclose(found[0], np.array([0.8, 0.2, 0.4, 0.8]) / 2.2)
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": 0, "factors": (1, 1, 1, 1)}, "greater than 0"),
        ({"temperature": 1, "factors": (1, 1, 1, 0)}, "greater than 0"),
        ({"temperature": 1, "factors": (1, 1)}, "calibration has 2 factors, joint-damage-scale has 4"),
    ],
)
def test_a_calibration_of_another_scheme_or_without_a_scale_is_refused(folder, given, said):
    card = load_card(folder).model_dump() | {"scheme": "joint-damage-scale", "calibration": given}
    with pytest.raises(ValueError, match=said):
        Card.model_validate(card)


def test_the_readme_says_how_objects_and_probabilities_are_decided(folder):
    card = load_card(folder).model_copy(
        update={
            "object_threshold": 0.7,
            "calibration": Calibration(
                temperature=1.5, factors=(1, 1, 1, 1), fitted_on="five events", events={"a fire": 0.04}
            ),
        }
    )
    text = describe(card)
    assert "- A traced shape is a building from a mean probability of 0.7 on" in text
    assert "temperature 1.5, factors 1, 1, 1, 1, fitted on five events" in text
    assert "without which it was fitted: a fire 0.040" in text
