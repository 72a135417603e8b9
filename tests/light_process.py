"""The command in processes that have imported next to nothing, which one process forks: its imports are paid once.

    ended = light_process().command("map", "no.tif", "there.tif", "-o", "out", cwd=folder)
    assert ended.code == 2 and "torch" not in ended.modules

A process of the tests has PyTorch loaded, and its forks would have it too. There are three that fork here: `whole` has
loaded what most commands load, `bare` the same without any extra, for commands that lack modules, and `door` nothing but
the command line, for tests of what is loaded first.
"""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Literal

from aftermap.extras import MODULES

Kind = Literal["whole", "bare", "door"]
COMMON = (
    "aftermap.api",
    "aftermap.workflows.kinds",
    "aftermap.workflows.plans.plan",
    "aftermap.workflows.mapping.damage",
    "aftermap.workflows.mapping.inputs.images",
)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit status.
        out: what it printed.
        err: the same on standard error.
        modules: top-level modules that it had loaded then.
        seconds: of processor time.
        opened: how many files it opened in its folder, where a signal was asked for.
    """

    code: int
    out: str
    err: str
    modules: frozenset[str]
    seconds: float
    opened: int


class LightProcess:
    """A process that forks others for single commands.

    Args:
        preload: modules to import in it, besides those of most commands.
        kind: of the process, see above.
    """

    def __init__(self, *preload: str, kind: Kind = "whole") -> None:
        environment = {name: value for name, value in os.environ.items() if name != "AFTERMAP_BACKEND"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, kind, *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        atexit.register(self.close)

    def command(
        self,
        *words: object,
        cwd: Path,
        absent: tuple[str, ...] = (),
        signal_at: tuple[int, int] | None = None,
    ) -> Ended:
        """Run `aftermap WORDS` in a folder.

        Args:
            words: the command line.
            cwd: the folder.
            absent: modules that it cannot import, as if they were not installed.
            signal_at: the number of a file, among those that it opens there, and the signal that it gets as it does.
        """
        request = {
            "words": [str(word) for word in words],
            "cwd": str(cwd),
            "absent": absent,
            "signal_at": signal_at,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return Ended(**told | {"modules": frozenset(told["modules"])})

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@functools.cache
def light_process(kind: Kind = "whole") -> LightProcess:
    """The one of its kind of this process of the tests."""
    return LightProcess(kind=kind)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    installed = sys.meta_path.copy()
    if sys.argv[1] == "bare":
        sys.meta_path.insert(0, _lacking(module for modules in MODULES.values() for module in modules))
    for name in ("aftermap.cli.app", *(COMMON if sys.argv[1] != "door" else ()), *sys.argv[2:]):
        import_module(name)
    sys.meta_path[:] = installed
    for line in sys.stdin:
        answers.write(json.dumps(_forked(**json.loads(line))) + "\n")


def _lacking(names: Iterable[str]) -> MetaPathFinder:
    from missing_extras import NotInstalled

    return NotInstalled(names)


def _forked(
    words: list[str], cwd: str, absent: list[str], signal_at: tuple[int, int] | None
) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / name for name in ("out", "err", "modules")]
        before = _seconds()
        child = os.fork()
        if child == 0:
            _command(words, cwd, absent, signal_at, *files)
        _, status = os.waitpid(child, 0)
        out, err, modules = (file.read_text(errors="replace") if file.exists() else "" for file in files)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": out,
        "err": err,
        "modules": modules.split()[1:],
        "opened": int(modules.partition(" ")[0] or 0),
        "seconds": _seconds() - before,
    }


def _command(
    words: list[str],
    cwd: str,
    absent: list[str],
    signal_at: tuple[int, int] | None,
    out: Path,
    err: Path,
    modules: Path,
) -> None:
    code, opened = 70, 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal opened
        if event == "open" and str(arguments[0]).startswith(("out", ".", cwd)):
            opened += 1
            if opened == signal_at[0]:  # type: ignore[index]
                os.kill(os.getpid(), signal_at[1])  # type: ignore[index]

    try:
        for number, file in ((1, out), (2, err)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(cwd)
        if absent:
            sys.meta_path.insert(0, _lacking(absent))
            assert not {name.partition(".")[0] for name in sys.modules} & set(absent)
        from aftermap.cli.app import main

        if signal_at:  # which whoever started the tests in the background may have told to ignore
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            sys.addaudithook(count)
        sys.argv = ["aftermap", *words]
        main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        modules.write_text(" ".join([str(opened), *{name.partition(".")[0] for name in sys.modules}]))
        os._exit(code)


def _seconds() -> float:
    now = os.times()
    return now.children_user + now.children_system


if __name__ == "__main__":
    _serve()
