"""Schedules of the weights of terms over a run."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.learning.configs.terms import NotNegative

Fraction = Annotated[float, Field(ge=0, le=1)]


class Schedule(Config):
    """Factor of a weight over a run: `start` until `begin`, then to `end` at `finish`, both fractions of the run.

    Attributes:
        kind: `constant` is 1 throughout; `linear` or `cosine` is the way from `start` to `end`.
        start: factor at first.
        end: factor at last.
        begin: fraction of the run after which the factor begins to change.
        finish: fraction of the run after which it no longer does.
    """

    kind: Literal["constant", "linear", "cosine"] = "constant"
    start: NotNegative = 1.0
    end: NotNegative = 1.0
    begin: Fraction = 0.0
    finish: Fraction = 1.0

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        # not what was written: recipes are stored with every default filled in
        if self.kind == "constant" and (self.start, self.end, self.begin, self.finish) != (1, 1, 0, 1):
            raise ValueError(
                "a constant schedule has nothing but its kind: choose linear or cosine, or a weight"
            )
        if self.kind != "constant" and self.start == self.end:
            raise ValueError(
                f"a {self.kind} schedule needs start and end that differ, found {self.start:g} twice"
            )
        if self.begin >= self.finish:
            raise ValueError(
                f"begin is {self.begin:g} and finish {self.finish:g}, expected begin before finish"
            )
        return self


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """Factor of a term's weight at optimizer step `step` of `steps`, counted from 0."""
    if schedule.kind == "constant":
        return 1.0
    progress = step / max(1, steps - 1)
    way = min(1.0, max(0.0, (progress - schedule.begin) / (schedule.finish - schedule.begin)))
    if schedule.kind == "cosine":
        way = (1 - math.cos(math.pi * way)) / 2
    return schedule.start + (schedule.end - schedule.start) * way
