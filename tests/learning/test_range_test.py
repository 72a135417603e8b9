"""What a range of learning rates suggests, on curves whose answer is known."""

import math

import numpy as np
import pytest

from aftermap.errors import TrainingError
from aftermap.learning.loop import Step
from aftermap.learning.range_test import RangeTraining, run_range_test, smoothed, suggest

RATES = np.geomspace(1e-6, 1.0, 121).tolist()  # 20 steps per decade


class Curve:
    """Stands for a training: the loss is a function of the learning rate."""

    def __init__(self, loss, steps=121):
        self.loss, self.steps, self.step = loss, steps, 0

    def advance(self, source):
        lr = RATES[self.step]
        value = self.loss(lr)
        if not math.isfinite(value):
            raise TrainingError("not finite")
        self.step += 1
        return Step(self.step, value, {}, lr, 0.0)


def valley(lr):
    """Falls by a logistic curve centred on 1e-3, and rises from 1e-1 on."""
    x = math.log10(lr)
    return 1 / (1 + math.exp(4 * (x + 3))) + (100 * (x + 1) ** 2 if x > -1 else 0.0)


def test_the_steepest_descent_is_found_and_a_tenth_of_the_minimum():
    found = run_range_test(Curve(valley), None).suggestion
    assert found.steepest == pytest.approx(1e-3, rel=0.13)  # a step is 12 %
    assert 0.03 < found.minimum < 0.1 and found.tenth == pytest.approx(found.minimum / 10)
    assert found.lr == found.steepest and "fastest" in found.why


def test_the_tenth_is_taken_where_the_steepest_is_above_it():
    found = run_range_test(Curve(lambda lr: 1 / (1 + math.exp(9 * (math.log10(lr) + 1.6)))), None).suggestion
    late = suggest(RATES[:90], *[[1.0] * 80 + [0.9, 0.6, 0.1, 0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 3.0]] * 2)
    assert late.steepest > late.tenth == late.lr and "tenth" in late.why
    assert found.lr == min(found.steepest, found.tenth)


def test_an_exploding_loss_ends_the_test():
    result = run_range_test(Curve(valley), None)
    assert result.stopped == "the loss exploded" and 0.1 < result.lr[-1] < 0.7
    assert len(result.lr) == len(result.loss) == len(result.smooth)


def test_a_loss_that_is_not_finite_ends_the_test_with_what_is_known():
    result = run_range_test(Curve(lambda lr: valley(lr) if lr < 0.05 else math.nan), None)
    assert result.stopped == "the loss was not finite any more" and result.lr[-1] < 0.05
    assert result.suggestion.steepest == pytest.approx(1e-3, rel=0.13)


def test_a_loss_that_explodes_at_once_says_what_to_do():
    with pytest.raises(TrainingError, match=r"after 0 steps, 10 are the least: lower --lr-min"):
        run_range_test(Curve(lambda lr: math.nan), None)


def test_a_loss_that_never_falls_suggests_nothing():
    noise = np.random.default_rng(0).normal(0, 0.1, 121)
    result = run_range_test(Curve(lambda lr: 1 + float(noise[RATES.index(lr)])), None)
    assert result.suggestion is None and result.stopped.startswith("all steps were done")


def test_a_loss_that_still_falls_says_so():
    result = run_range_test(Curve(lambda lr: 2 - math.log10(lr)), None)
    assert result.stopped == "all steps were done, and the loss was still falling"


def test_smoothing_keeps_lines_in_the_middle_and_the_mean_of_a_spike():
    line = [float(n) for n in range(60)]
    assert smoothed(line)[20:40] == pytest.approx(line[20:40])
    spike = [0.0] * 60
    spike[30] = 1.0
    assert sum(smoothed(spike)) == pytest.approx(1.0) and smoothed(spike)[30] == pytest.approx(
        0.133, abs=1e-3
    )


def test_rates_rise_by_the_same_factor_from_end_to_end():
    training = RangeTraining.__new__(RangeTraining)
    training.config = type("Config", (), {"lr": 1e-5})()
    training.steps, training.lr_max = 5, 1e-1
    rates = [1e-5 * training._lr_factor(step) for step in range(5)]
    assert rates == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
