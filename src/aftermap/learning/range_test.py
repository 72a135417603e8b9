"""Learning-rate range test: the rate rises exponentially step by step, and the loss tells where it is too high."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aftermap.errors import TrainingError
from aftermap.learning.loop import BatchSource, Step, Training

SMOOTHING_STEPS = 3.0
"""Standard deviation, in steps, of the Gaussian that smooths the loss after the test."""

_MEMORY = 0.9
_EXPLODED = 3.0
_LEAST_DROP = 0.1
_FEWEST = 10
_DONE = "all steps were done"


class RangeTraining(Training):
    """A training whose learning rate rises from `config.lr` to `lr_max` by the same factor at every step."""

    lr_max: float = 1.0

    def _lr_factor(self, step: int) -> float:
        return float((self.lr_max / self.config.lr) ** min(1.0, step / max(1, self.steps - 1)))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a curve of losses says about the learning rate.

    Attributes:
        steepest: rate at which the smoothed loss falls fastest per decade.
        minimum: rate at which it is lowest.
        tenth: a tenth of `minimum`.
        lr: the one to take, the lower of `steepest` and `tenth`: a rate too low costs time, one too high the run.
        why: which of the two it is.
    """

    steepest: float
    minimum: float
    tenth: float
    lr: float
    why: str


@dataclass(frozen=True, slots=True)
class RangeTest:
    """The outcome of a range test.

    Attributes:
        lr, loss: of each step.
        smooth: the loss averaged over neighbouring steps.
        stopped: why the test ended.
        suggestion: None where the loss never fell by more than twice its scatter.
    """

    lr: list[float]
    loss: list[float]
    smooth: list[float]
    stopped: str
    suggestion: Suggestion | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def run_range_test(
    training: RangeTraining, source: BatchSource, *, on_step: Callable[[Step], None] = lambda step: None
) -> RangeTest:
    """Raise the learning rate until the steps are done or the loss explodes.

    The loss has exploded when its running mean lies above its lowest value by three times as much as it had fallen
    (and by at least 30 % of the first loss), or when it is not finite.

    Args:
        training: fresh; its model is spoilt afterwards.
        source: batches to learn from.
        on_step: called after every step.

    Raises:
        TrainingError: too few steps before the loss explodes to say anything.
    """
    rates: list[float] = []
    losses: list[float] = []
    mean, lowest, first, stopped = 0.0, math.inf, 0.0, _DONE
    while training.step < training.steps:
        try:
            step = training.advance(source)
        except TrainingError:
            stopped = "the loss was not finite any more"
            break
        rates.append(step.lr)
        losses.append(step.loss)
        mean = _MEMORY * mean + (1 - _MEMORY) * step.loss
        current = mean / (1 - _MEMORY ** len(losses))
        first = current if len(losses) == 1 else first
        lowest = min(lowest, current)
        on_step(step)
        limit = lowest + _EXPLODED * max(first - lowest, _LEAST_DROP * abs(first))
        if len(losses) >= _FEWEST and current > limit:
            stopped = "the loss exploded"
            break
    if len(losses) < _FEWEST:
        raise TrainingError(
            f"{stopped} after {len(losses)} steps, {_FEWEST} are the least: lower --lr-min or raise --range-steps"
        )
    smooth = smoothed(losses)
    if stopped == _DONE and int(np.argmin(smooth)) == len(smooth) - 1:
        stopped += ", and the loss was still falling"
    return RangeTest(rates, losses, smooth, stopped, suggest(rates, losses, smooth))


def smoothed(losses: list[float]) -> list[float]:
    """Losses averaged over their neighbours with Gaussian weights, on both sides alike, so that nothing lags."""
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places[None]) / SMOOTHING_STEPS) ** 2)
    means: list[float] = (weights @ np.asarray(losses) / weights.sum(axis=1)).tolist()
    return means


def suggest(rates: list[float], losses: list[float], smooth: list[float]) -> Suggestion | None:
    """A learning rate from a rising range of them, None where the loss did not fall by more than twice its scatter.

    Source: Smith 2017, Cyclical learning rates, section 3.3; a tenth of the lowest loss's rate is the rule of
    thumb of fastai.
    """
    lowest = int(np.argmin(smooth))
    residuals = np.abs(np.asarray(losses) - np.asarray(smooth))
    scatter = 1.4826 * float(np.median(residuals))  # a standard deviation that the explosion leaves alone
    if lowest == 0 or smooth[0] - smooth[lowest] <= 2 * scatter:
        return None
    slopes = np.gradient(np.asarray(smooth), np.log10(rates))
    steepest, minimum = rates[int(np.argmin(slopes[: lowest + 1]))], rates[lowest]
    tenth = minimum / 10
    if steepest <= tenth:
        return Suggestion(steepest, minimum, tenth, steepest, "the loss falls fastest there")
    return Suggestion(steepest, minimum, tenth, tenth, "a tenth of the rate with the lowest loss")
