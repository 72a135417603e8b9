"""The engine for many machines: Ray actors, each with one model and one job at a time."""

import logging
import os
import threading
import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from aftermap.errors import AftermapError, InputError
from aftermap.files import one_line
from aftermap.worklist.job import Answer, Job, Work, over_budget
from aftermap.worklist.team import Limits, Queue, Say
from aftermap.worklist.worker import perform, resident_bytes

_LOOK_SECONDS = 0.5
_WATCH_SECONDS = 0.1
_FALSE_STARTS = 3


class _Actor:
    """A worker of the cluster; it gets addresses and gives back small facts."""

    def __init__(self, work: Work, memory_bytes: int | None) -> None:
        self._memory_bytes = memory_bytes
        try:
            self._do, self._error = work.start(), ""
        except AftermapError as error:
            self._error = str(error)

    def start(self) -> str:
        """Why no job can be done; empty where all can."""
        return self._error

    def run(self, job: Job) -> Answer:
        """Do a job; one that takes too much memory is left under way, and the driver ends this actor."""
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(perform(self._do, job)), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_WATCH_SECONDS)
            if self._memory_bytes is not None and resident_bytes() > self._memory_bytes:
                return over_budget(self._memory_bytes)
        return answers[0]


class _Worker:
    """An actor as the driver sees it."""

    def __init__(self, number: int, work: Any, limits: Limits) -> None:
        options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        if limits.memory_bytes is not None:
            options["memory"] = limits.memory_bytes  # a machine gets no more workers than its memory holds
        self.number, self.name = number, f"actor {number}"
        self.actor = ray.remote(_Actor).options(**options).remote(work, limits.memory_bytes)
        self.job: Job | None = None
        self.is_ready = False
        self.since = time.monotonic()
        self.waits_for: Any = self.actor.start.remote()

    def give(self, job: Job) -> None:
        """Have it do a job."""
        self.job, self.since = job, time.monotonic()
        self.waits_for = self.actor.run.remote(job)

    def close(self) -> None:
        """End it, whatever it does."""
        ray.kill(self.actor)


def run_on_ray(work: Work, queue: Queue, limits: Limits, *, address: str | None, say: Say) -> None:
    """Do all jobs of a queue on a cluster; an actor that dies, or whose machine does, is replaced.

    One job at most is under way on each actor, and a job goes only to an actor that has its model.

    Args:
        work: what is done.
        queue: the jobs; each is answered.
        limits: of the workers.
        address: of the cluster; None starts one on this machine, or joins the one of `RAY_ADDRESS`.
        say: for the log.

    Raises:
        AftermapError: there is no such cluster, or the work cannot be started at all.
    """
    ours = not ray.is_initialized()
    if ours:
        _connect(address, limits)
    try:
        _run(ray.put(work), queue, limits, say)
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str | None, limits: Limits) -> None:
    """Join a cluster, or start one here."""
    here = address is None and "RAY_ADDRESS" not in os.environ
    try:
        ray.init(
            address="local"
            if here
            else address,  # else it joins a cluster that was started here, or tries one that is gone
            include_dashboard=False if here else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({"num_cpus": limits.workers} if here and limits.workers else {}),
        )
    except (OSError, RuntimeError, ValueError, RayError) as error:
        place = "on this machine" if address is None else f"at {address}"
        raise InputError(f"no Ray cluster {place}: {one_line(error)[:300]}") from None


def _run(work: Any, queue: Queue, limits: Limits, say: Say) -> None:
    count = min(limits.workers or int(ray.cluster_resources().get("CPU", 1)), queue.left)
    team = [_Worker(number, work, limits) for number in range(1, count + 1)]
    false_starts = 0
    try:
        while queue.left:
            for worker in team:
                if worker.is_ready and worker.job is None and queue.has_waiting:
                    worker.give(queue.take(worker.name))
            waited = {worker.waits_for: worker for worker in team if worker.waits_for is not None}
            heard, _ = ray.wait(list(waited), num_returns=1, timeout=_LOOK_SECONDS)
            gone: list[_Worker] = []
            for worker in (waited[each] for each in heard):
                job, answer, is_alive = _hear(worker)
                if job is not None and answer is not None:
                    queue.answered(job, answer)
                false_starts = 0 if worker.is_ready else false_starts + 1
                if not is_alive:
                    gone.append(worker)
                    say(f"{worker.name}: ended, {answer.reason if answer else 'without a word'}")
                    if false_starts >= _FALSE_STARTS:
                        raise AftermapError(f"workers die before any job: {answer.reason if answer else ''}")
            for worker in team:
                late = limits.seconds is not None and time.monotonic() - worker.since > limits.seconds
                if late and worker.job is not None and worker not in gone:
                    worker.close()
                    gone.append(worker)
                    queue.answered(worker.job, Answer(None, f"took longer than {limits.seconds:g} s", "time"))
            for worker in gone:
                team.remove(worker)
                if queue.has_waiting:
                    team.append(_Worker(worker.number, work, limits))
    finally:
        for worker in team:
            worker.close()


def _hear(worker: _Worker) -> tuple[Job | None, Answer | None, bool]:
    """The job that a worker had, what it said of it, and whether it lives."""
    job, told = worker.job, worker.waits_for
    worker.job = worker.waits_for = None
    took = time.monotonic() - worker.since
    try:
        answer = ray.get(told, timeout=60)
    except (RayActorError, OutOfMemoryError, GetTimeoutError, RayTaskError) as error:
        return job, _death(error, took), False
    if worker.is_ready:
        is_over = isinstance(answer, Answer) and answer.cause == "memory"
        if is_over:
            worker.close()
        return job, answer, not is_over
    if answer:
        raise AftermapError(answer)
    worker.is_ready = True
    return None, None, True


def _death(error: RayError, took: float) -> Answer:
    """Why a worker died, as far as Ray tells."""
    words = one_line(error)
    if isinstance(error, OutOfMemoryError):
        return Answer(None, "Ray ended its worker because memory was short", "crash", took)
    return Answer(None, f"its worker died: {words[:300]}", "crash", took)
