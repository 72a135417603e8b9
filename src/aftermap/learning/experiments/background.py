"""Work for slow services off the training loop's path: one daemon thread that does jobs in order."""

import queue
import threading
import time
from collections.abc import Callable


class Worker:
    """Does jobs one after another on a thread that never keeps the process alive.

    Jobs answer for their own errors; one that raises ends the thread, and what is left is never done.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue()
        self._done = threading.Condition()
        self._left = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Have `job` done after those submitted before; returns at once."""
        with self._done:
            self._left += 1
        self._jobs.put(job)

    def wait(self, seconds: float) -> bool:
        """Wait until all jobs are done, at most `seconds`; False where some are left."""
        end = time.monotonic() + seconds
        with self._done:
            while self._left and self._thread.is_alive() and (left := end - time.monotonic()) > 0:
                self._done.wait(min(left, 0.2))
            return self._left == 0

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job()
            with self._done:
                self._left -= 1
                self._done.notify_all()
