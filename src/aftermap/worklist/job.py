"""What a work list is made of: jobs, what is done for each, and how each ended."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

State = Literal["done", "failed"]
Cause = Literal["", "input", "error", "crash", "memory", "time"]
"""Why a job failed: what it was given, another error, the death of its worker, too much memory, too much time."""


@dataclass(frozen=True)
class Job:
    """One piece of work: names and addresses, never pixels.

    Attributes:
        name: unique in its list.
        what: plain values that the work understands.
        attempt: which one this is, from 1.
    """

    name: str
    what: Mapping[str, Any]
    attempt: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        name: of the job.
        state: done or failed.
        seconds: of the last attempt.
        attempts: how often it was begun.
        reason: why it failed, in one line.
        cause: the kind of reason.
        facts: what the work says of it.
    """

    name: str
    state: State
    seconds: float = 0.0
    attempts: int = 1
    reason: str = ""
    cause: Cause = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON and tables, the facts left out."""
        tree = asdict(self)
        del tree["facts"]
        return tree | {"seconds": round(self.seconds, 2)}


Do = Callable[[Job], Mapping[str, Any]]
"""Does a job and returns plain values about it. What it makes it puts in its place itself, whole or not at all."""


class Work(Protocol):
    """What is done for every job, as it is sent to the workers: small, picklable, of an importable class.

    A job may be begun several times and by two workers at once, so doing it twice must leave what doing it once does.
    """

    def start(self) -> Do:
        """Load what all jobs share, such as the model; called once by every worker.

        Raises:
            AftermapError: no worker could do any job.
        """


def over_budget(memory_bytes: int) -> "Answer":
    """What is said of a job whose worker held more memory than it may."""
    return Answer(None, f"needs more memory than the {memory_bytes / 1e9:g} GB of a worker", "memory")


@dataclass(frozen=True)
class Answer:
    """What a worker says of a job.

    Attributes:
        facts: of the work; None where the job failed.
        reason: why it did.
        cause: the kind of reason.
        seconds: that it took.
    """

    facts: Mapping[str, Any] | None
    reason: str = ""
    cause: Cause = ""
    seconds: float = 0.0
