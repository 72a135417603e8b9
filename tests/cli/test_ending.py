"""Signals end a command as Ctrl-C does: what is saved there is saved here, in one line; the status names the signal."""

import os
import signal
import subprocess
import sys
import time

import pytest

SLEEPER = """
import sys, time
from pathlib import Path
from aftermap.cli import app

def work(folder: Path) -> int:
    try:
        (folder / "begun").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / "saved").write_text("everything")
        {ends}
    return 0

app.app.command(work, name="work")
app.main(["work", sys.argv[1]])
"""
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def begun(words, mark, **options):
    """A process that has got as far as to make a file, and that minds signals whatever this one was begun by (nohup)."""
    options.setdefault("preexec_fn", lambda: [signal.signal(number, signal.SIG_DFL) for number in STATUS])
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    patience = time.monotonic() + 60
    while not mark.exists() and process.poll() is None:
        assert time.monotonic() < patience, f"{mark} was not made"
        time.sleep(0.02)
    return process


def sleeper(folder, ends, **options):
    return begun([sys.executable, "-c", SLEEPER.format(ends=ends), folder], folder / "begun", **options)


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_saves_and_says_what_ctrl_c_does(number, tmp_path):
    process = sleeper(tmp_path, "raise KeyboardInterrupt('interrupted: work --resume goes on') from None")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (
        STATUS[number],
        "",
        "aftermap: interrupted: work --resume goes on\n",
    )
    assert (tmp_path / "saved").read_text() == "everything"


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")],
)
def test_an_ending_that_nobody_explains_is_named(number, word, tmp_path):
    process = sleeper(tmp_path, "raise")
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", f"aftermap: {word}\n")
    assert process.returncode == STATUS[number]


def test_a_command_that_ends_well_where_it_is_stopped_tells_the_signal_by_its_status(tmp_path):
    process = sleeper(tmp_path, "print('half a report')")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("half a report\n", "")
    assert process.returncode == 143


def test_a_second_signal_does_not_disturb_the_saving(tmp_path):
    process = sleeper(tmp_path, "(folder / 'half').touch(); time.sleep(1); (folder / 'whole').touch(); raise")
    process.send_signal(signal.SIGTERM)
    while not (tmp_path / "half").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert (tmp_path / "whole").exists()


def test_what_is_ignored_stays_ignored(tmp_path):
    """`nohup aftermap ...` goes on when its terminal is closed."""
    process = sleeper(tmp_path, "raise", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_forked_process_ends_at_once(tmp_path):
    """Pools end their workers by SIGTERM: those must not save or say anything."""
    ends = "(folder / f'saved-{__import__(\"os\").getpid()}').touch(); raise"
    code = SLEEPER.format(ends=ends).replace(
        "time.sleep(60)", "child = __import__('os').fork(); time.sleep(60)"
    )
    process = begun([sys.executable, "-c", code, tmp_path], tmp_path / "begun", start_new_session=True)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "", "aftermap: terminated\n")
    assert [path.name for path in tmp_path.glob("saved-*")] == [f"saved-{process.pid}"]


def test_a_synthesis_that_is_stopped_ends_in_one_line(tmp_path):
    words = [
        sys.executable,
        "-m",
        "aftermap.cli.app",
        "data",
        "synth",
        "-o",
        tmp_path / "towns",
        "--scenes",
        "500",
    ]
    process = begun([*words, "--size", "256"], tmp_path / ".part-towns" / "images")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "", "aftermap: terminated\n")
