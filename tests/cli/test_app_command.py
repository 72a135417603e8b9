"""What every command has in common: how it ends where the user, the reader or a word gets in the way."""

import os
import subprocess
import sys

import pytest
import yaml

import aftermap
from aftermap.cli.app import main

EMPTY = '{"kind": "folder", "scheme": "building", "scenes": []}'
"""A dataset of no scenes."""


def ended(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return stopped.value.code, capsys.readouterr().err.strip()


def interrupted_training(recipe, folder, **_):
    (folder / "resume").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    raise KeyboardInterrupt


def test_an_interrupted_training_says_how_it_goes_on(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("aftermap.workflows.kinds._entry_of", lambda _: interrupted_training)
    run = tmp_path / "run"
    (tmp_path / "manifest.json").write_text(EMPTY)
    words = ("localization.yaml", f"data.manifests=[{tmp_path}]", "-o", str(run))
    code, err = ended(capsys, "train", *words)
    assert (code, err) == (130, f"aftermap: interrupted: aftermap train --resume {run} goes on")


def test_an_interrupted_plan_says_how_it_goes_on(capsys, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("aftermap.workflows.plans.stages.run_jobs", interrupted)
    (tmp_path / "manifest.json").write_text(EMPTY)
    words = ("xview2/plan.yaml", f"data.manifests=[{tmp_path}]", "-o", str(tmp_path / "run"))
    code, err = ended(capsys, "run", *words)
    assert (code, err) == (130, "aftermap: interrupted: the same command goes on (without --redo)")


def test_an_interruption_that_nobody_explains_is_called_one(capsys, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("aftermap.workflows.export.run.export_model", interrupted)
    words = ("export", "box", "--to", "onnx", "-o", str(tmp_path / "out"))
    assert ended(capsys, *words) == (130, "aftermap: interrupted")


@pytest.mark.parametrize("group", [(), ("data",), ("data", "prepare"), ("weights",)])
def test_a_group_of_commands_alone_prints_its_help(capsys, group):
    told = []
    for words in (group, (*group, "--help")):
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        told.append((stopped.value.code, capsys.readouterr()))
    assert told[0] == told[1] and told[0][0] == 0
    assert told[0][1].out.startswith(f"Usage: {' '.join(('aftermap', *group))} COMMAND")


def test_a_word_too_many_is_named_with_the_command(capsys):
    assert ended(capsys, "runs", "list") == (2, "aftermap: not understood: list; see aftermap runs --help")


def test_a_reader_that_has_enough_ends_a_command_in_silence():
    code = (
        "from aftermap.cli import app\n"
        "app.app.command(lambda: print('x' * 100_000), name='long')\n"
        "app.main(['long'])"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_module_is_the_command_for_launchers():
    told = subprocess.run(
        [sys.executable, "-m", "aftermap.cli.app", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == aftermap.__version__
