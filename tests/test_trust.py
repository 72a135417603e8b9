"""Code that a card names runs only where the user trusts it."""

import json
import os
import subprocess

import pytest

from aftermap import trust as trusted
from aftermap.artefacts.store import load_model
from aftermap.config import build_config
from aftermap.errors import ModelError, RecipeError
from aftermap.models.build import trust_own
from aftermap.models.configs import CustomConfig, SiameseUnetConfig, UnetConfig
from forked_python import forked_python
from saved_models import SMALL, save_bands, save_damage

TARGET = "saved_models:Bands"


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.delenv(trusted.VARIABLE)
    monkeypatch.setattr(trusted, "_trusted", set())


@pytest.fixture
def bands(tmp_path):
    return save_bands(tmp_path / "bands", 2)


def test_a_card_that_names_code_is_refused_and_the_message_says_how_to_go_on(bands):
    with pytest.raises(ModelError, match=r"card\.json wants to run 'saved_models:Bands'.*pass --trust"):
        load_model(bands)


def test_a_card_that_names_nothing_opens_as_ever(tmp_path):
    assert load_model(save_damage(tmp_path / "damage")).card.dates == 2


def test_trust_holds_for_the_context_alone(bands):
    with trusted.trusting():
        assert load_model(bands).card.model.target == TARGET
    with pytest.raises(ModelError, match="wants to run"):
        load_model(bands)


def test_trust_in_one_target_is_no_trust_in_another(bands):
    with trusted.trusting("other:Bands"), pytest.raises(ModelError, match="wants to run"):
        load_model(bands)
    with trusted.trusting(TARGET):
        load_model(bands)


def test_a_recipe_of_the_users_own_vouches_for_its_target(bands):
    trust_own(UnetConfig(**SMALL))  # names no code
    with pytest.raises(ModelError, match="wants to run"):
        load_model(bands)
    trust_own(CustomConfig(target=TARGET, classes=2))
    load_model(bands)


def test_processes_of_ours_inherit_trust(monkeypatch):
    monkeypatch.setenv(trusted.VARIABLE, "")
    trusted.trust("a:b")
    trusted.trust("c:d")
    code = (
        "from aftermap.trust import check_trusted\n"
        "check_trusted('a:b', 'x'); check_trusted('c:d', 'x')\n"
        "try: check_trusted('e:f', 'x')\n"
        "except Exception as error: print(type(error).__name__)"
    )
    done = subprocess.run([forked_python(), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ModelError"]


def test_the_command_runs_nothing_without_the_option(bands, tmp_path):
    ran = tmp_path / "ran"
    tree = json.loads((bands / "card.json").read_text())
    tree["model"] |= {"target": "pathlib:Path.touch", "arguments": {"self": str(ran)}}
    (bands / "card.json").write_text(json.dumps(tree))
    command = [
        forked_python(),
        "-m",
        "aftermap.cli.app",
        "predict",
        str(bands),
        str(tmp_path),
        "-o",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert (done.returncode, done.stderr.count("\n"), ran.exists()) == (2, 1, False)


PLACES = ["hf-hub:someone/model", "hf_hub:someone/model", "local-dir:model", "../x", "a b", ""]


@pytest.mark.parametrize("name", PLACES)
def test_an_encoder_is_named_and_not_a_place(name):
    with pytest.raises(RecipeError, match="no name of an encoder"):
        build_config(UnetConfig, {"encoder_name": name})


@pytest.mark.parametrize(
    "option", ["pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"]
)
def test_options_of_an_encoder_name_no_files(option):
    with pytest.raises(RecipeError, match=f"{option} cannot be set here"):
        build_config(SiameseUnetConfig, {"encoder_options": {option: "x", "channels": [8, 16, 32, 64]}})
