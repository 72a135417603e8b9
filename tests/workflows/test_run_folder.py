"""Run folders that are broken off early, asked for twice, or on a full disk."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aftermap.errors import OutputError, TrainingError
from aftermap.files import Claim, DiskFullError
from aftermap.learning.run import Run
from aftermap.workflows.training.run_folder import check_folder, open_run


def begun(folder: Path) -> Run:
    """A run that was killed before its first saved state."""
    run = Run.start(folder, "name: tiny\n", {"seed": 1})
    run.append_metrics({"step": 1, "score": 0.5})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "sco')
    return run


def test_a_run_without_a_saved_state_can_be_gone_on_with_and_keeps_its_identity(tmp_path):
    run = begun(tmp_path / "run")
    identity = run.facts()["id"]
    with pytest.raises(OutputError, match="already holds a run: pass --resume"):
        check_folder(run.folder, resume=False)
    check_folder(run.folder, resume=True)
    with open_run(run.folder, {}, dict, resume=True) as (again, _):
        assert not again.has_state and again.metrics(up_to_step=0) == []
    assert run.facts()["id"] == identity and run.facts()["status"] == "complete"
    with pytest.raises(TrainingError, match="holds no interrupted run"):
        check_folder(run.folder, resume=True)


def test_two_processes_do_not_go_on_with_one_run(tmp_path):
    run = begun(tmp_path / "run")
    code = (
        "import sys, pathlib; from aftermap.files import Claim\n"
        "Claim(pathlib.Path(sys.argv[1])); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(
            OutputError, match=rf"is being written by process {other.pid}: wait until it is done"
        ):
            check_folder(run.folder, resume=True)
        with (
            pytest.raises(OutputError, match="is being written by process"),
            open_run(run.folder, {}, dict, resume=True),
        ):
            pass
        other.kill()
    check_folder(run.folder, resume=True)
    assert run.facts()["status"] == "running"


def test_what_an_older_version_left_of_a_saved_state_is_put_right(tmp_path):
    run = begun(tmp_path / "run")
    for name in ("resume.old", "resume.part"):
        (run.folder / name).mkdir()
        (run.folder / name / "step.json").write_text(json.dumps({"step": 3, "of": name}))
    with open_run(run.folder, {}, dict, resume=True) as (again, _):
        assert again.has_state and json.loads((run.resume / "step.json").read_text())["of"] == "resume.old"
    assert not list(run.folder.glob("resume.*"))


def test_a_full_disk_ends_a_run_in_one_line_and_its_folder_stays_as_it_was(tmp_path, monkeypatch):
    run = begun(tmp_path / "run")
    before = (run.folder / "run.json").read_bytes()

    whole = Path.open

    def full(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if mode[0] in "wa":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    line = r"cannot write .*run: the disk is full: free some space, then pass --resume"
    for write in (lambda: run.record(step=3), lambda: run.append_metrics({"step": 3}), lambda: run.log("x")):
        with pytest.raises(DiskFullError, match=line):
            write()
    monkeypatch.undo()
    assert (run.folder / "run.json").read_bytes() == before


def test_a_claim_is_given_back(tmp_path):
    with Claim(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []
