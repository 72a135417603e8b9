"""Some commands ended by a signal at a file that they open; ended_commands walks all of them where it is asked to."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from ended_commands import LIGHT_COMMANDS, clear, surroundings, walk

from light_process import LightProcess, light_process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ended") / "user"
    surroundings(place)
    return place


@pytest.mark.parametrize("name", ["map", "predict", "data prepare"])
def test_a_command_ended_by_a_signal_says_so_and_is_gone_on_with(name: str, folder: Path):
    faults = [
        (number, ended.err, found)
        for number, ended, found in walk(light_process(), LIGHT_COMMANDS[name], folder, points=1)
        if found
    ]
    assert faults == []


@pytest.fixture(scope="module")
def other() -> Iterator[LightProcess]:
    """A second process that forks commands, as one waits for its own."""
    process = LightProcess()
    yield process
    process.close()


@pytest.mark.parametrize("name", ["map", "data prepare"])
def test_two_that_go_on_at_once_do_not_meet(name: str, folder: Path, other: LightProcess):
    """The first is stopped while it works; the second is refused in one line, and the first ends well."""
    clear(folder)
    command, process = LIGHT_COMMANDS[name], light_process()
    words = command.words.split()
    opened = process.command(*words, cwd=folder, signal_at=(10**9, 0)).opened
    clear(folder)
    assert process.command(*words, cwd=folder, signal_at=(opened // 2, signal.SIGTERM)).code == 143
    with ThreadPoolExecutor(1) as pool:
        try:
            words = (command.again or command.words).split()
            first = pool.submit(other.command, *words, cwd=folder, signal_at=(opened // 4, signal.SIGSTOP))
            working = stopped_child(other)
            second = process.command(*words, cwd=folder)
            working.send_signal(signal.SIGCONT)
            assert first.result(60).code == 0, first.result().err
        except BaseException:
            other.close()  # whose command waits, and the pool for it
            raise
    *warned, told = second.err.splitlines()
    assert second.code == 2 and all(line.startswith("warning: ") for line in warned)
    assert told.startswith("aftermap: ") and f"is being written by process {working.pid}" in told


def stopped_child(process: LightProcess) -> psutil.Process:
    """The process that one has forked, as soon as it is stopped."""
    patience = time.monotonic() + 60
    while time.monotonic() < patience:
        for child in psutil.Process(process.pid).children():
            if child.status() == psutil.STATUS_STOPPED:
                return child
        time.sleep(0.02)
    raise AssertionError("it was not stopped")
