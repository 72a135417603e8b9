"""Searching with several processes: each takes trials from the same study until none is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from aftermap.errors import AftermapError, TrainingError
from aftermap.workflows.search.run import Search

_MODULE = "aftermap.workflows.search.worker"
_SAVING_SECONDS = 120.0


def run_workers(
    search: Search,
    count: int,
    *,
    on_change: Callable[[list[FrozenTrial]], None] = lambda trials: None,
    poll_seconds: float = 0.5,
) -> None:
    """Do what is left of a search in several processes, each with its share of the processor's threads.

    A worker that dies leaves its trial to the others; what it said stands in `OUT/workers/`.

    Args:
        search: a search that is open in this process, which takes no trials itself.
        count: processes.
        on_change: called with all trials whenever one began or ended.
        poll_seconds: between two looks at the study.

    Raises:
        TrainingError: every worker ended, and trials are left.
        KeyboardInterrupt: interrupted; the workers have saved their states.
    """
    logs = search.folder / "workers"
    logs.mkdir(exist_ok=True)
    threads = max(1, _threads() // count)
    workers = [_start(search.folder, logs / f"{number}.log", threads) for number in range(count)]
    seen: list[tuple[int, TrialState, int]] = []
    try:
        while True:
            running = any(worker.poll() is None for worker in workers)  # before the study is read
            trials = search.trials()
            states = [(trial.number, trial.state, len(trial.params)) for trial in trials]
            if states != seen:
                seen = states
                on_change(trials)
            if not running:
                break
            time.sleep(poll_seconds)
    finally:
        _stop(workers)
    if len(search.ended()) < search.wanted:
        raise TrainingError(
            f"{search.wanted - len(search.ended())} trials are left and no worker is: {_last_words(logs)}; "
            f"aftermap search --resume {search.folder} goes on"
        )


def main() -> None:
    """Be a worker: take trials from the search in the folder named by the first argument."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    _end_with_parent()
    try:
        Search.open(Path(sys.argv[1])).run()
    except AftermapError as error:
        sys.exit(" ".join(str(error).split()))
    except KeyboardInterrupt:
        sys.exit(130)


def _start(folder: Path, log: Path, threads: int) -> subprocess.Popen[bytes]:
    # a session of its own: Ctrl-C in the terminal comes to the parent, which passes it on once
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )


def _stop(workers: list[subprocess.Popen[bytes]]) -> None:
    """Have every worker that is still at it save its state and end."""
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGINT)
    end = time.monotonic() + _SAVING_SECONDS
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, end - time.monotonic()))
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def _last_words(logs: Path) -> str:
    """The last line that any worker wrote."""
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(errors="replace").strip().splitlines()
        if lines:
            return lines[-1].strip()[:300]
    return "they were killed, as the system does when memory runs out"


def _threads() -> int:
    """Threads to share out: OMP_NUM_THREADS where it is set, else the processor's."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    """On Linux, save the state and end when the process that started this one is killed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGINT)


if __name__ == "__main__":
    main()
