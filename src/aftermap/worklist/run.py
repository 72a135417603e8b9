"""Do a list of jobs, whatever becomes of single ones."""

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from aftermap.errors import InputError
from aftermap.extras import needs
from aftermap.worklist.job import Job, Outcome, Work
from aftermap.worklist.team import Limits, OnOutcome, Queue, Say

Engine = Literal["processes", "ray"]
_PLACE = re.compile(r"(?:ray://)?\[?([\w.:-]+?)\]?:(\d+)")
_ANSWERS_SECONDS = 10.0
ENGINES: tuple[Engine, ...] = get_args(Engine)


def run_jobs(
    work: Work,
    jobs: Sequence[Job],
    *,
    engine: Engine = "processes",
    limits: Limits | None = None,
    address: str | None = None,
    on_outcome: OnOutcome = lambda outcome: None,
    say: Say = lambda line: None,
) -> list[Outcome]:
    """Do every job once, by several workers; one that fails or kills its worker does not stop the others.

    A job whose input is at fault, or that takes more memory or time than it may, is not tried again; one whose worker
    died, or that failed for another reason, is, `limits.retries` times. What jobs make they put in their place
    themselves; this process only ever sees names and small facts.

    Args:
        work: what is done, with all that workers need to know.
        jobs: names are unique.
        engine: processes of this machine, or Ray.
        limits: how many workers, and what they may take.
        address: of the cluster, for Ray: `auto`, or `ray://host:port`; by default one of this machine's own.
        on_outcome: called when nothing more is done for a job.
        say: takes lines for a log.

    Returns:
        How they ended, in the order of the jobs.

    Raises:
        AftermapError: the work cannot be started at all.
        InputError, MissingExtraError: as `check_engine`.
    """
    limits = limits or Limits()
    names = [job.name for job in jobs]
    if len(set(names)) != len(names):
        raise ValueError("two jobs have one name")
    check_engine(engine, address)
    queue = Queue(jobs, limits, on_outcome, say)
    if jobs and engine == "ray":
        _settle_ray(address)
        from aftermap.worklist.on_ray import run_on_ray

        run_on_ray(work, queue, limits, address=address, say=say)
    elif jobs:
        from aftermap.worklist.processes import run_in_processes

        run_in_processes(work, queue, limits, say=say)
    found = {outcome.name: outcome for outcome in queue.outcomes}
    return [found[name] for name in names]


def check_engine(engine: Engine, address: str | None) -> None:
    """Refuse an engine before any work.

    Raises:
        InputError: there is no such engine, an address without Ray, or nothing answers there.
        MissingExtraError: Ray is asked for and not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"there is no engine {engine}: use {' or '.join(ENGINES)}")
    if engine == "ray":
        needs("--engine ray", "cluster")
        _check_answers(address or os.environ.get("RAY_ADDRESS", ""))
    elif address is not None:
        raise InputError(f"--address {address} is of a Ray cluster: pass --engine ray with it")


def _check_answers(address: str) -> None:
    """Refuse the address of a cluster where nothing listens: Ray itself tries for minutes before it says so.

    Raises:
        InputError: nothing does.
    """
    place = _PLACE.fullmatch(address)
    if place is None:  # auto, local: found by Ray
        return
    try:
        socket.create_connection((place[1], int(place[2])), _ANSWERS_SECONDS).close()
    except (OSError, OverflowError):
        raise InputError(f"no Ray cluster at {address}: nothing answers there") from None


def _settle_ray(address: str | None) -> None:
    """Say to Ray, before it is loaded, what it only hears from the environment; what the user says there stands."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # it gives its workers the lowest priority but four, so that anything else on the machine stops them
    os.environ.setdefault("RAY_worker_niceness", "0")
    # a cluster asks for the token wherever one is there when it is started, and who joins it sends none unasked
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if (address or "RAY_ADDRESS" in os.environ) and ("RAY_AUTH_TOKEN" in os.environ or token.is_file()):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
