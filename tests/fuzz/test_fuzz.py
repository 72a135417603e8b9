"""Every reader on changed files: read, or refused in one line; no crash, no hang, no traceback.

`AFTERMAP_FUZZ_SCALE` multiplies the tries, `AFTERMAP_FUZZ_SEED` begins elsewhere; `make fuzz` goes on for longer.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forked_python import forked_python

RUN = Path(__file__).parent / "run.py"
TARGETS = [
    *("rasters", "vectors", "xbd", "manifest", "legends", "recipes"),
    *("models", "exported", "checkpoints", "catalogues", "masks"),
]


def run(*words):
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [forked_python(), str(RUN), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    scale, seed = os.environ.get("AFTERMAP_FUZZ_SCALE", "1"), os.environ.get("AFTERMAP_FUZZ_SEED", "1")
    done = run("--json", "--scale", scale, "--seed", seed, "--kept", str(tmp_path_factory.mktemp("kept")))
    assert done.stdout, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused_in_one_line(outcomes, name):
    assert set(outcomes) == set(TARGETS)
    outcome = outcomes[name]
    assert outcome["failures"] == []
    assert outcome["refused"] > 0.1 * outcome["tries"] > 0


BROKEN = """
import os, signal
import run, targets
from aftermap.errors import InputError

def read(folder):
    number = sum(len(path.read_bytes()) for path in folder.iterdir()) % 7
    if number == 5: raise KeyError("a bug")
    if number == 1: os.kill(os.getpid(), signal.SIGSEGV)
    if number == 2: bytearray(1 << 40)
    if number == 3: raise InputError("odd")
    if number == 4: raise InputError("refused in one line")

def make(root):
    (root / "one").mkdir(parents=True)
    (root / "one" / "a.json").write_text('{"a": [1, 2, 3], "b": "text"}')

targets.TARGETS["broken"] = targets.Target(make, (read,), 60)
raise SystemExit(run.main(["--target", "broken", "--json", "--kept", "kept"]))
"""


def test_tracebacks_crashes_and_memory_are_failures_that_can_be_repeated(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    paths = os.pathsep.join([str(RUN.parent), *(path for path in sys.path if path)])
    done = subprocess.run(
        [forked_python(), "broken.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 1, done.stderr[-2000:]
    outcome = json.loads(done.stdout)["broken"]
    reasons = [failure.partition(": ")[2] for failure in outcome["failures"]]
    kinds = ("KeyError: 'a bug'", "the process ended with SIGSEGV", "MemoryError", "AssertionError: 'odd")
    assert {kind for kind in kinds if any(reason.startswith(kind) for reason in reasons)} == set(kinds)
    assert all(reason.startswith(kinds) for reason in reasons)
    assert outcome["tries"] == 60 and outcome["refused"] > 0
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == len(reasons)
    first = kept[0]
    number = first.name.rsplit("-", 1)[1]
    text = (first / "reason.txt").read_text()
    assert text.startswith(f"python tests/fuzz/run.py --target broken --seed 1 --first {number} --tries 1\n")
    assert (first / "files" / "a.json").is_file()
