"""Ray itself: a cluster of one core on this machine, started once."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import odd_jobs
from aftermap.worklist.job import Job
from aftermap.worklist.run import run_jobs
from aftermap.worklist.team import Limits

ENDS = ("well", "input", "killed-once", "second", "large")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Where Ray's sockets lie: their names have 107 letters at most, and folders of tests are long."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_actors_end_as_processes_do(tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch):
    tests = Path(odd_jobs.__file__).parent
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent / "src")]))
    found = run_jobs(
        odd_jobs.OddWork(tmp_path),
        [Job(end, {"end": end}) for end in ENDS],
        engine="ray",
        limits=Limits(workers=1, retries=1, memory_bytes=400_000_000),
    )
    ended = {outcome.name: outcome for outcome in found}
    assert [(ended[name].state, ended[name].attempts) for name in ENDS[:4]] == [
        *(("done", 1), ("failed", 1), ("done", 2), ("done", 2))
    ]
    assert ended["input"].reason == "pre.tif is no image"
    assert (ended["large"].reason, ended["large"].state, ended["large"].cause, ended["large"].attempts) == (
        "needs more memory than the 0.4 GB of a worker",
        "failed",
        "memory",
        1,
    )
    assert len((tmp_path / "killed-once").read_text().splitlines()) == 2
