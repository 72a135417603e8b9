"""What both engines share: which job is next, what becomes of one that failed, and when there is nothing left."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aftermap.worklist.job import Answer, Job, Outcome

OnOutcome = Callable[[Outcome], None]
Say = Callable[[str], None]
"""Takes a line for the log."""


@dataclass(frozen=True)
class Limits:
    """What workers may take.

    Attributes:
        workers: how many; 0 for as many as there are cores (of the cluster, with Ray).
        retries: how often a job is begun again whose worker died or whose error is not one of its input.
        memory_bytes: that a worker may hold; None for any.
        seconds: that a job may take; None for any.
    """

    workers: int = 0
    retries: int = 1
    memory_bytes: int | None = None
    seconds: float | None = None


class Queue:
    """Jobs that are to be done, and how those ended that are not.

    Args:
        jobs: in the order in which they are begun.
        limits: how often a job may be tried.
        on_outcome: called once for every job, when nothing more is done for it.
        say: for the log.
    """

    def __init__(self, jobs: Sequence[Job], limits: Limits, on_outcome: OnOutcome, say: Say) -> None:
        self._waiting = deque(jobs)
        self._attempts = {job.name: 0 for job in jobs}
        self._limits, self._on_outcome, self._say = limits, on_outcome, say
        self.left = len(jobs)
        self.outcomes: list[Outcome] = []

    @property
    def has_waiting(self) -> bool:
        """Whether a worker without work could have some."""
        return bool(self._waiting)

    def take(self, worker: str) -> Job:
        """The next job, for a worker."""
        job = self._waiting.popleft()
        self._attempts[job.name] += 1
        self._say(f"{job.name}: attempt {self._attempts[job.name]}, {worker}")
        return replace(job, attempt=self._attempts[job.name])

    def put_back(self, job: Job) -> None:
        """A job that was taken and never reached its worker."""
        self._attempts[job.name] -= 1
        self._waiting.appendleft(job)

    def answered(self, job: Job, answer: Answer) -> None:
        """A worker is done with a job, or died of it."""
        attempts = self._attempts[job.name]
        if answer.facts is not None:
            outcome = Outcome(job.name, "done", answer.seconds, attempts, facts=answer.facts)
            self._say(f"{job.name}: done in {answer.seconds:.1f} s")
        else:
            again = answer.cause in ("crash", "error") and attempts <= self._limits.retries
            self._say(f"{job.name}: {answer.reason}{', tried again' if again else ''}")
            if again:
                self._waiting.append(job)
                return
            outcome = Outcome(job.name, "failed", answer.seconds, attempts, answer.reason, answer.cause)
        self.left -= 1
        self.outcomes.append(outcome)
        self._on_outcome(outcome)
