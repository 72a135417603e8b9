import json
import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants

import aftermap
from aftermap.artefacts import hub
from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.edit import rewrite_card
from aftermap.artefacts.ensemble import Ingredient, compose, load_ensemble, save_ensemble
from aftermap.artefacts.store import load_card, save_model
from aftermap.errors import ModelError, OutputError
from aftermap.inference.ensemble import open_predictor
from aftermap.models.build import build_model
from aftermap.models.configs import UnetConfig

CONFIG = UnetConfig(encoder_name="test_resnet", encoder_depth=2, decoder_channels=(8, 8))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "hf://someone/damage"


def make_model(folder, seed=0):
    torch.manual_seed(seed)
    card = Card(
        name=f"tiny-{seed}",
        model=CONFIG,
        dates=1,
        scheme="building",
        licence="MIT",
        training=TrainingRecord(data="none", data_licence="none"),
    )
    save_model(folder, build_model(CONFIG), card)
    return folder


def make_ensemble(folder):
    parts = [Ingredient(make_model(folder.parent / f"part-{seed}", seed)) for seed in (0, 1)]
    save_ensemble(folder, *compose("pair", parts))
    return folder


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No test here may speak to a network, and none sees the user's own cache."""
    calls = []

    def refuse(*_):
        calls.append("connect")
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return calls


def put_in_cache(folder, name=NAME, reference="main"):
    """Lay a folder into the local cache as the hub's client does: blobs, and links to them per commit."""
    root = folder.parent / "cache" / f"models--{name.removeprefix('hf://').replace('/', '--')}"
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        blob = root / "blobs" / f"{len(list((root / 'blobs').glob('*')))}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blob)
        link = root / "snapshots" / COMMIT / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (root / "refs").mkdir(parents=True)
    (root / "refs" / reference).write_text(COMMIT)
    return root / "snapshots" / COMMIT


def test_a_model_in_the_cache_is_loaded_without_a_network_call(model, offline):
    put_in_cache(model)
    image = torch.randn(1, 1, 3, 32, 32)
    assert torch.equal(aftermap.load_model(NAME).model(image), aftermap.load_model(model).model(image))
    assert offline == []


def test_a_revision_is_found_by_its_name_and_by_its_commit(model):
    put_in_cache(model, reference="v2")
    assert aftermap.load_model(f"{NAME}@v2").card.name == "tiny-0"
    assert aftermap.load_model(f"{NAME}@{COMMIT}").card.name == "tiny-0"
    with pytest.raises(ModelError, match="cannot be reached"):
        aftermap.load_model(NAME)


def test_a_name_that_went_through_a_path_still_works(model, tmp_path):
    put_in_cache(model)
    assert aftermap.load_model(Path(NAME)).card.name == "tiny-0"


def test_an_ensemble_in_the_cache_is_a_model_for_the_predictor(tmp_path, offline):
    put_in_cache(make_ensemble(tmp_path / "ensemble"))
    assert open_predictor(NAME).name == "pair"
    assert offline == []


def test_a_model_of_the_hub_can_become_a_member_and_be_copied_with_another_card(model, tmp_path):
    put_in_cache(model)
    save_ensemble(tmp_path / "e", *compose("one", [Ingredient(Path(NAME))]))
    changed = load_card(NAME).model_copy(update={"building_threshold": 0.3})
    rewrite_card(NAME, changed, out=tmp_path / "tuned")
    shutil.rmtree(tmp_path / "cache")
    assert open_predictor(tmp_path / "e").name == "one"
    assert aftermap.load_model(tmp_path / "tuned").card.building_threshold == 0.3


def test_without_cache_and_network_one_line_says_so(offline):
    with pytest.raises(ModelError, match=r"hf://someone/damage: the hub cannot be reached; it is not in the"):
        aftermap.load_model(NAME)


def test_an_altered_weight_file_in_the_cache_is_refused(model):
    file = put_in_cache(model) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.resolve().write_bytes(data)
    with pytest.raises(ModelError, match="was altered"):
        aftermap.load_model(NAME)


def test_a_card_that_names_code_to_run_is_refused(model):
    tree = json.loads((model / "card.json").read_text())
    tree["model"] = {"kind": "custom", "target": "os:system", "classes": 2, "arguments": {"command": "true"}}
    (model / "card.json").write_text(json.dumps(tree))
    put_in_cache(model)
    with pytest.raises(ModelError, match="wants to run 'os:system'"):
        aftermap.load_model(NAME)


@pytest.mark.parametrize(
    "name", ["hf://damage", "hf://a/b/c", "hf://a/b@", "hf://a b/c", "hf:///etc/passwd", "hf://a/.."]
)
def test_other_names_are_explained(name):
    with pytest.raises(ModelError, match="expected hf://owner/name"):
        aftermap.load_model(name)


def test_only_the_files_of_a_model_folder_are_asked_for(tmp_path, monkeypatch):
    source = make_ensemble(tmp_path / "ensemble")
    (source / "evil.pkl").write_bytes(b"x")
    target = tmp_path / "cache" / COMMIT
    asked = []

    def snapshot(repository, *, revision, allow_patterns):
        asked.append((repository, revision))
        for name in allow_patterns:
            if (source / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, target / name)
        return str(target)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert hub.fetch_model(f"{NAME}@v1") == target
    assert asked == [("someone/damage", "v1"), ("someone/damage", COMMIT)]
    found = sorted(str(f.relative_to(target)) for f in target.rglob("*") if f.is_file())
    assert found == sorted(hub.model_files(source)) and "evil.pkl" not in found


def test_a_download_without_weights_is_incomplete(model, tmp_path, monkeypatch):
    (model / "model.safetensors").unlink()
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(model))
    with pytest.raises(ModelError, match=r"no complete model folder: model\.safetensors is missing"):
        hub.fetch_model(NAME)


def test_pulling_writes_plain_files_that_load_alone(model, tmp_path):
    put_in_cache(model)
    pulled = hub.pull_model(NAME, tmp_path / "pulled")
    shutil.rmtree(tmp_path / "cache")
    assert sorted(p.name for p in pulled.iterdir()) == ["README.md", "card.json", "model.safetensors"]
    assert not any(p.is_symlink() for p in pulled.iterdir())
    assert aftermap.load_model(pulled).sha256 == aftermap.load_model(model).sha256


def test_pulling_an_ensemble_brings_its_members(tmp_path):
    put_in_cache(make_ensemble(tmp_path / "ensemble"))
    hub.pull_model(NAME, tmp_path / "pulled")
    assert open_predictor(tmp_path / "pulled").sha256 == load_ensemble(tmp_path / "ensemble").sha256


def test_pulling_altered_weights_writes_nothing(model, tmp_path):
    file = put_in_cache(model) / "model.safetensors"
    file.resolve().write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="was altered"):
        hub.pull_model(NAME, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists() and not (tmp_path / "pulled.part").exists()


def test_pulling_does_not_replace_what_is_no_model(model, tmp_path):
    put_in_cache(model)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="is no model folder"):
        hub.pull_model(NAME, tmp_path / "home")
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_asking_for_a_newer_version_offline_is_an_error(model, tmp_path):
    put_in_cache(model)
    with pytest.raises(ModelError, match="cannot be reached"):
        hub.pull_model(NAME, tmp_path / "pulled", refresh=True)


class FakeApi:
    """The two calls of HfApi that publish; keeps what was sent."""

    def __init__(self, error=None):
        self.error, self.repositories, self.files = error, [], {}

    def create_repo(self, repository, *, private, exist_ok):
        if self.error:
            raise self.error
        self.repositories.append((repository, private, exist_ok))

    def create_commit(self, repository, *, operations, commit_message):
        for operation in operations:
            with operation.as_file() as file:
                self.files[operation.path_in_repo] = file.read()
        self.message = commit_message


def test_pushing_sends_the_folder_in_one_commit_with_the_hubs_header(model):
    api = FakeApi()
    (model / "notes.txt").write_text("mine")
    assert hub.push_model(model, NAME, private=True, api=api) == "https://huggingface.co/someone/damage"
    assert api.repositories == [("someone/damage", True, True)]
    assert sorted(api.files) == ["README.md", "card.json", "model.safetensors"]
    assert api.files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    readme = api.files["README.md"].decode()
    assert readme.startswith("---\nlibrary_name: aftermap\n") and "license: mit\n" in readme
    assert readme.endswith((model / "README.md").read_text()) and api.message == "tiny-0, version 1"


def test_what_was_pushed_can_be_loaded_back(tmp_path):
    api = FakeApi()
    hub.push_model(make_ensemble(tmp_path / "ensemble"), NAME, api=api)
    for name, data in api.files.items():
        (tmp_path / "sent" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sent" / name).write_bytes(data)
    put_in_cache(tmp_path / "sent")
    assert open_predictor(NAME).sha256 == load_ensemble(tmp_path / "ensemble").sha256


def test_another_licence_is_named_for_the_hub(model):
    assert b"license: other\nlicense_name: 'research-only'\n" in hub._readme(model, "research only")


def test_an_incomplete_folder_is_not_pushed(model):
    (model / "model.safetensors").unlink()
    api = FakeApi()
    with pytest.raises(ModelError, match="incomplete"):
        hub.push_model(model, NAME, api=api)
    assert api.repositories == []


def test_pushing_to_a_revision_is_refused(model):
    with pytest.raises(ModelError, match="push to hf://someone/damage"):
        hub.push_model(model, f"{NAME}@v1", api=FakeApi())


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, r"answered 401: log in with 'hf auth login'"), (500, "answered 500; the model was not published")],
)
def test_what_the_hub_refuses_is_one_line(model, status, message):
    from huggingface_hub.errors import HfHubHTTPError

    error = HfHubHTTPError(
        "long\nstory", response=SimpleNamespace(status_code=status, headers={}, request=None)
    )
    with pytest.raises(ModelError, match=message):
        hub.push_model(model, NAME, api=FakeApi(error))


def test_pushing_without_network_is_one_line(model):
    with pytest.raises(ModelError, match=r"cannot be reached|no token is here") as caught:
        hub.push_model(model, NAME)
    assert "\n" not in str(caught.value)
