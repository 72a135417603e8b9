import os
import time
from pathlib import Path

import pytest

from aftermap.errors import OutputError
from aftermap.files import Claim, turn


def test_a_folder_is_claimed_once_at_a_time(tmp_path):
    folder = tmp_path / "made" / "run"
    with Claim(folder):
        with pytest.raises(OutputError, match=rf"run is being written by process {os.getpid()}: wait until"):
            Claim(folder)
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert list(folder.iterdir()) == []
    Claim(folder).release()


def test_the_file_of_a_dead_process_is_no_claim(tmp_path):
    (tmp_path / ".lock").write_text("1\n")
    Claim(tmp_path).release()


def test_turns_are_taken_one_after_the_other(tmp_path):
    """Four processes add to a number that each reads before it writes."""
    number = tmp_path / "number"
    number.write_text("0")
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            for _ in range(5):
                with turn(tmp_path / "lock", seconds=600):
                    known = int(number.read_text())
                    time.sleep(0.001)
                    number.write_text(str(known + 1))
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    assert number.read_text() == "20" and not (tmp_path / "lock").exists()


def test_a_turn_that_does_not_come_is_taken_all_the_same(tmp_path):
    with turn(tmp_path / "lock", seconds=0), turn(tmp_path / "lock", seconds=0.01):
        pass
    with turn(Path("/nowhere/at/all/lock"), seconds=0):
        pass
