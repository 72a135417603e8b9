"""Seconds by stage of a long job."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Stopwatch:
    """Adds up the wall time of stages; stages that run side by side are measured each for itself.

    Attributes:
        seconds: by stage, in the order in which they first began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure what runs inside."""
        self.seconds.setdefault(stage, 0.0)
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - begun

    def timed(self, stage: str, work: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """`work`, every call of which is measured; calls of one stage must not run side by side."""

        def measured(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with self(stage):
                return work(*args, **kwargs)

        return measured
