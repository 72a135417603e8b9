"""Programs that are forked from the tests behave as those that Python starts."""

import os
import signal
import subprocess
import sys

import pytest

from forked_python import forked_python

PROGRAM = """
import atexit, os, sys
atexit.register(print, "at the end")
print(sys.argv, os.getcwd(), os.environ["WORD"], sys.stdin.read(), __name__)
print("told", file=sys.stderr)
raise SystemExit(3)
"""


@pytest.mark.parametrize("how", ["-c", "script", "-m", "-P -m"])
def test_a_program_has_its_arguments_folder_environment_and_streams(tmp_path, how):
    (tmp_path / "program.py").write_text(PROGRAM)
    words = {"-c": ["-c", PROGRAM], "script": ["program.py"], "-m": ["-m", "program"]}
    words["-P -m"] = ["-P", *words["-m"]]
    environment = {**os.environ, "WORD": "a word", "PYTHONPATH": str(tmp_path)}
    both = [
        subprocess.run(
            [python, *words[how], "x", "y z"],
            input="typed",
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
        for python in (sys.executable, forked_python())
    ]
    mine, theirs = ((done.returncode, done.stdout, done.stderr) for done in both)
    assert mine == theirs
    assert theirs[0] == 3 and theirs[1].endswith("a word typed __main__\nat the end\n")


def test_a_traceback_and_a_signal_end_a_program_as_they_do(tmp_path):
    def ended(code):
        return subprocess.run([forked_python(), "-c", code], capture_output=True, text=True, check=False)

    broken = ended("raise KeyError('a bug')")
    assert broken.returncode == 1 and broken.stderr.endswith("KeyError: 'a bug'\n")
    assert ended("raise SystemExit('a word')").stderr == "a word\n"
    assert ended("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").returncode == -signal.SIGKILL


def test_a_program_is_killed_with_its_stand_in():
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([forked_python(), "-c", code], stdout=subprocess.PIPE, text=True) as process:
        number = int(process.stdout.readline())
        process.kill()
        assert process.stdout.read() == ""  # the program held the other end
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(number, 0)
            subprocess.run(["sleep", "0.02"], check=True)


def test_signals_are_passed_on():
    code = "import time\ntry: print(1, flush=True); time.sleep(60)\nexcept KeyboardInterrupt: print('interrupted')"
    with subprocess.Popen([forked_python(), "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate()[0] == "interrupted\n" and process.returncode == 0
    code = "import time; print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([forked_python(), "-c", code], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.terminate()
        assert process.wait() == -signal.SIGTERM


def test_what_is_open_stays_open():
    read, write = os.pipe()
    code = f"import os; os.write({write}, b'told')"
    subprocess.run([forked_python(), "-P", "-c", code], pass_fds=(write,), check=True)
    os.close(write)
    assert os.read(read, 9) == b"told"
    os.close(read)
