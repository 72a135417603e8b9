"""A worker: a process that starts the work once and then does one job after the other, in whatever way they come.

    python -m aftermap.worklist.worker DESCRIPTOR     as `processes` starts it

It ends when its parent is gone, and with `OVER_BUDGET` where it holds more memory than it may.
"""

import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from aftermap.errors import AftermapError, AftermapWarning, InputError, MissingExtraError
from aftermap.files import one_line
from aftermap.worklist.job import Answer, Do, Job, Work

OVER_BUDGET = 77
"""Exit status of a worker that held more memory than it may."""

_EVERY_SECONDS = 0.1
_PAGE = os.sysconf("SC_PAGE_SIZE")


def perform(do: Do, job: Job) -> Answer:
    """Do a job; whatever is raised becomes an answer in one line."""
    begun = time.monotonic()

    def took() -> float:
        return time.monotonic() - begun

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AftermapWarning)  # the work keeps those of its job
            return Answer(dict(do(job)), seconds=took())
    except (InputError, MissingExtraError) as error:
        return Answer(None, str(error), "input", took())
    except AftermapError as error:
        return Answer(None, str(error), "error", took())
    except MemoryError:
        return Answer(None, "out of memory", "memory", took())
    except Exception as error:
        logging.getLogger(__name__).error("%s: %s", job.name, traceback.format_exc())
        return Answer(None, f"{type(error).__name__}: {one_line(error)}", "error", took())


def watch(most_bytes: int | None, *, parent: int | None = None) -> None:
    """End this process once it holds more than so many bytes, or its parent is another than it was; beside the work."""

    def look() -> None:
        while True:
            if parent is not None and os.getppid() != parent:
                os._exit(1)
            if most_bytes is not None and resident_bytes() > most_bytes:
                os._exit(OVER_BUDGET)
            time.sleep(_EVERY_SECONDS)

    threading.Thread(target=look, name="watch", daemon=True).start()


def resident_bytes() -> int:
    """The memory that this process holds now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def main() -> None:
    """Serve the process at the other end of a socket until it says that there is no more work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    line = Connection(int(sys.argv[1]))
    try:
        work, most_bytes, parent = line.recv()
        watch(most_bytes, parent=parent)
        do = _started(work, line)
        while do is not None and (job := line.recv()) is not None:
            line.send(perform(do, job))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)


def _started(work: Work, line: Connection) -> Do | None:
    """The work, ready; what hinders it is told."""
    try:
        do = work.start()
    except AftermapError as error:
        line.send(error if _travels(error) else AftermapError(str(error)))
        return None
    line.send(None)
    return do


def _travels(error: AftermapError) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True


if __name__ == "__main__":
    main()
