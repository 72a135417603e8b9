"""`aftermap search` at the command line: a study from end to end, by workers too, and mistakes in one line."""

import json
import sys

import pytest
import yaml

from aftermap.cli.app import main
from aftermap.workflows.search.run import Search
from forked_python import forked_python
from squares import make_dataset


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    recipe = {
        "name": "tiny",
        "task": "building",
        "data": {"manifests": [str(make_dataset(folder / "squares", scenes=4))]},
        "model": {
            "kind": "unet",
            "encoder_name": "resnet10t",
            "encoder_depth": 2,
            "decoder_channels": [8, 8],
        },
        "sampling": {"crop_px": 32, "batch_size": 2},
        "augment": None,
        "precision": "no",
        "steps": 2,
        "evaluate_every": 1,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    space = {"study": {"trials": 5, "pruner": "none"}, "space": {"optimizer.lr": {"log": [1e-3, 1e-1]}}}
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    (folder / "typo.yaml").write_text("space: {optimizer.weight_decays: {log: [1e-3, 1e-1]}}\n")
    return folder


def run_cli(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


def test_a_search_is_begun_and_resumed_by_a_worker(files, capsys, monkeypatch):
    monkeypatch.setattr(sys, "executable", forked_python())
    out = files / "runs"
    code, told, progress = run_cli(
        capsys,
        "search",
        files / "recipe.yaml",
        "--space",
        files / "space.yaml",
        "--trials",
        "1",
        "--json",
        "-o",
        out,
    )
    report = json.loads(told)
    assert code == 0 and report["best"]["number"] == 0 and "trial 0 complete" in progress
    code, told, _ = run_cli(capsys, "search", "--resume", out, "--trials", "2", "--workers", "2")
    assert code == 0 and "best: trial" in told and f"aftermap train {out / 'best.yaml'}" in told
    trials = Search.open(out).trials()
    assert len(trials) == 2 and all(t.value is not None for t in trials)
    assert len(list((out / "trials").glob("*/model"))) == 1


def test_data_that_are_not_there_end_a_search_in_one_line(files, tmp_path, capsys):
    words = ["search", files / "recipe.yaml", "--space", files / "space.yaml", "data.manifests=[nowhere]"]
    code, _, err = run_cli(capsys, *words, "-o", tmp_path / "s")
    assert code == 2 and "nowhere" in err.strip().splitlines()[-1]


def test_a_range_test_suggests_a_rate(files, tmp_path, capsys):
    words = [
        "search",
        files / "recipe.yaml",
        "--range-test",
        "--range-steps",
        "30",
        "--lr-max",
        "0.1",
        "--json",
    ]
    code, told, _ = run_cli(capsys, *words, "-o", tmp_path / "range")
    found = json.loads(told)
    assert code == 0 and found["suggestion"]["lr"] == min(
        found["suggestion"]["steepest"], found["suggestion"]["tenth"]
    )
    assert (tmp_path / "range" / "range.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search"], "no recipe given"),
        (["search", "RECIPE"], "no space given: pass --space"),
        (["search", "RECIPE", "--range-test", "--trials", "3"], "--range-test is no study"),
        (["search", "--resume", "nowhere"], "nowhere holds no search to resume"),
        (["search", "RECIPE", "--resume", "nowhere"], "a search is resumed as it was begun"),
        (["search", "RECIPE", "--space", "TYPO"], "'optimizer.weight_decays': did you mean 'weight_decay'?"),
        (["search", "RECIPE", "--space", "nowhere.yaml"], "there is no recipe nowhere.yaml"),
        (["search", "RECIPE", "--range-test", "--lr-min", "2"], "cannot rise from 2 to 1"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(files, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    names = {"RECIPE": files / "recipe.yaml", "TYPO": files / "typo.yaml"}
    code, _, err = run_cli(capsys, *(names.get(word, word) for word in words))
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
