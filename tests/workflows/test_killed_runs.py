"""Real runs that die before some of their file operations; killed_runs walks all of them where it is asked to."""

import os
import subprocess
from pathlib import Path

import pytest

from forked_python import forked_python

TESTS = Path(__file__).resolve().parents[1]
LEAST = {"map": (100, 4), "plan": (180, 3), "export": (20, 2), "adapt": (40, 2)}
"""Points of each walk, and how many are gone on from."""


@pytest.mark.parametrize("names", [("map",), ("plan", "export", "adapt")], ids=" ".join)
def test_a_run_killed_before_any_file_operation_ends_as_if_it_had_not_been(names):
    found = os.pathsep.join(map(str, (TESTS, TESTS.parent / "src")))
    done = subprocess.run(
        [forked_python(), str(TESTS / "workflows" / "killed_runs.py"), *names],
        env={**os.environ, "PYTHONPATH": found},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in told] == list(names)
    for name, points, _, gone_on in told:
        assert (int(points), int(gone_on)) >= LEAST[name] and int(gone_on) >= LEAST[name][1], name
