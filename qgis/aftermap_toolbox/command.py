"""Calls aftermap in an environment of its own and passes on what it says. Needs nothing of QGIS, so that it can be tested."""

import os
import queue
import re
import shutil
import signal
import subprocess
import threading

SETTING = "AFTERMAP_COMMAND"
"""The setting of the provider, and the variable of the environment, that say which command is meant."""

_FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA")
_PERCENT = re.compile(r"^(?P<stage>[^:]+): .*?, (?P<percent>\d+) %")
_PATIENCE_SECONDS = 10.0


class CommandError(Exception):
    """aftermap is not there, or refused; the message is what it said."""


def find_command(setting=""):
    """Path of the command: the setting, else the variable AFTERMAP_COMMAND, else the one on the path.

    Raises:
        CommandError: there is none, with what to do.
    """
    told = (setting or "").strip() or os.environ.get(SETTING, "").strip()
    found = shutil.which(told or "aftermap")
    if found is None:
        what = f"{told} is no command" if told else "aftermap is not on the path"
        raise CommandError(
            f"{what}: install it (python3 -m venv aftermap; aftermap/bin/pip install aftermap) and give the path of "
            "aftermap/bin/aftermap under Settings, Options, Processing, Providers, aftermap"
        )
    return found


def own_environment(environment):
    """Variables for a Python that is not that of QGIS: without those that would lead it to libraries of QGIS."""
    kept = {name: value for name, value in environment.items() if name not in _FOREIGN}
    return kept | {"AFTERMAP_PROGRESS_SECONDS": "1", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}


def percent_of(line):
    """How far a line of progress says the work is, 0 to 100; None where it says nothing of it."""
    found = _PERCENT.match(line)
    return float(found["percent"]) if found else None


def run(words, *, tell, progress, is_cancelled):
    """Run aftermap until it ends or is cancelled.

    Args:
        words: the command and its arguments.
        tell: takes every line that is no progress.
        progress: takes how far it is, 0 to 100.
        is_cancelled: asked a few times a second; a cancelled run is interrupted as by Ctrl-C, so that it can be gone
            on with.

    Returns:
        What it wrote to standard output.

    Raises:
        CommandError: it refused, or was cancelled.
    """
    new_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {}
    try:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=own_environment(os.environ),
            encoding="utf-8",
            errors="replace",
            **new_group,
        )
    except OSError as error:
        raise CommandError(f"{words[0]} cannot be run: {error.strerror or error}") from None
    lines, printed = queue.Queue(), []
    readers = [
        threading.Thread(target=lambda: [lines.put(line.rstrip()) for line in process.stderr], daemon=True),
        threading.Thread(target=lambda: printed.append(process.stdout.read()), daemon=True),
    ]
    for reader in readers:
        reader.start()
    last, is_stopped = "", False
    while process.poll() is None or readers[0].is_alive() or not lines.empty():
        if is_cancelled() and not is_stopped:
            is_stopped = True
            process.send_signal(signal.CTRL_BREAK_EVENT if os.name == "nt" else signal.SIGINT)
            patience = threading.Timer(_PATIENCE_SECONDS, process.kill)
            patience.daemon = True
            patience.start()
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            continue
        percent = percent_of(line)
        if percent is not None:
            progress(percent)
        elif line:
            last = line
            tell(line)
    readers[1].join()
    process.stderr.close()
    process.stdout.close()
    if is_stopped:
        raise CommandError("cancelled")
    if process.returncode != 0:
        raise CommandError(last or f"aftermap ended with {process.returncode}")
    return "".join(printed)
