"""Confidence on an event: sets against another library's, calibration, and a promise that is kept."""

import numpy as np
import pytest
from crepes import ConformalClassifier
from scipy import stats

from aftermap.workflows.totals.calibration import FEWEST, Points, calibrate, conformal_sets, silence


def drawn(count, *, seed=0, sure=1.0):
    """Answered buildings whose classes follow the probabilities, which are then made surer than they should be."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet([0.8, 0.4, 0.3, 0.4], count)
    truth = (shares.cumsum(axis=1) < generator.random((count, 1))).sum(axis=1).clip(0, 3)
    told = shares**sure / (shares**sure).sum(axis=1, keepdims=True)
    return Points(told, told.argmax(axis=1), truth, np.ones(count))


def test_sets_are_those_of_crepes():
    known, asked = drawn(400), drawn(300, seed=1)
    ours = conformal_sets(known, asked.probabilities, asked.predicted, np.ones(300), level=0.9)
    theirs = ConformalClassifier()
    theirs.fit(1 - known.probabilities[np.arange(400), known.truth], bins=known.predicted)
    sets = theirs.predict_set(1 - asked.probabilities, bins=asked.predicted, confidence=0.9, smoothing=False)
    np.testing.assert_array_equal(ours, np.array(sets).astype(bool))


def test_sets_hold_the_truth_within_each_predicted_class():
    known, asked = drawn(800, seed=2, sure=3), drawn(4000, seed=3, sure=3)
    sets = conformal_sets(known, asked.probabilities, asked.predicted, np.ones(4000), level=0.9)
    held = sets[np.arange(4000), asked.truth]
    for kind in range(4):
        assert 0.85 < held[asked.predicted == kind].mean() < 0.96


def test_a_class_without_answers_has_every_class_in_its_sets():
    known = drawn(60)
    known = known.part(known.predicted == 0)
    assert conformal_sets(known, np.array([[0.1, 0.1, 0.1, 0.7]]), np.array([3]), np.ones(1), level=0.9).all()


def test_weights_count_as_repetitions():
    known = drawn(50, seed=4)
    twice = Points(
        *(
            np.repeat(each, 3, axis=0)
            for each in (known.probabilities, known.predicted, known.truth, known.weights)
        )
    )
    heavy = Points(known.probabilities, known.predicted, known.truth, known.weights * 3)
    asked = drawn(40, seed=5)
    one, other = (
        conformal_sets(points, asked.probabilities, asked.predicted, np.ones(40), level=0.8)
        for points in (twice, heavy)
    )
    np.testing.assert_array_equal(one, other)


def test_fewer_than_fifty_answers_calibrate_nothing():
    assert calibrate(drawn(FEWEST - 1)) is None


def test_a_model_too_sure_is_cooled():
    points = drawn(400, seed=6, sure=4)
    found = calibrate(points)
    assert found.method == "temperature" and found.losses["temperature"] < 0.8 * found.losses["none"]
    fresh = drawn(5000, seed=7, sure=4)
    shares = found.apply(fresh.probabilities)
    sure = shares[np.arange(5000), fresh.predicted]
    assert np.allclose(shares.sum(axis=1), 1)
    assert sure.mean() == pytest.approx((fresh.predicted == fresh.truth).mean(), abs=0.03)


def test_the_stated_risk_is_kept():
    broken = 0
    for seed in range(60):
        known, fresh = drawn(150, seed=seed), drawn(4000, seed=1000 + seed)
        found = silence(known, known.probabilities.max(axis=1), risk=0.2)
        if found.threshold is not None:
            told = fresh.probabilities.max(axis=1) >= found.threshold
            broken += (fresh.predicted != fresh.truth)[told].mean() > 0.2
    # 5 % of 60 are 3; more than 8 have a probability of 0.3 %
    assert broken <= 8 and stats.binom(60, 0.05).sf(8) < 0.005


def test_nothing_is_promised_from_nothing():
    points = drawn(5)
    assert silence(points, points.probabilities.max(axis=1), risk=0.05).threshold is None


def test_the_curve_begins_with_the_surest_and_ends_with_all():
    points = drawn(100, seed=9)
    curve = silence(points, points.probabilities.max(axis=1), risk=0.1).curve
    told = [point["told"] for point in curve]
    assert told == sorted(told) and told[-1] == pytest.approx(1)
    assert curve[-1]["risk"] == pytest.approx((points.predicted != points.truth).mean())
    assert all(point["bound"] >= point["risk"] for point in curve)
