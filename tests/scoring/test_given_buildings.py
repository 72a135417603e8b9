"""Figures of given buildings, by hand, and against plain loops."""

import numpy as np
import pytest

from aftermap.scoring.given_buildings import auc, given_metrics, reliability, risk_coverage

OWN = np.array([[0.9, 0.1, 0.0, 0.0], [0.6, 0.2, 0.2, 0.0], [0.3, 0.1, 0.1, 0.5], [0.7, 0.1, 0.1, 0.1]])
TRUTH = np.array([0, 2, 3, 3])
DECIDED = np.array([0, 0, 3, 1])
ONCE = np.ones((1, 4))


def test_figures_by_hand():
    found = {name: float(value[0]) for name, value in given_metrics(OWN, DECIDED, TRUTH, ONCE).items()}
    assert found["accuracy"] == 0.5  # the first and the third
    assert found["none_accuracy"] == 0.25
    # scores of damage 0.1, 0.4, 0.7, 0.3 against one undamaged at 0.1: all three above
    assert found["auc_damaged"] == pytest.approx(1.0)
    # scores of destroyed 0, 0, 0.5, 0.1: positives 0.5 and 0.1, both above the two zeros
    assert found["auc_destroyed"] == pytest.approx(1.0)
    # damaged: two of three are called so, nothing else: F1 = 4 / (4 + 0 + 1)
    assert found["f1_damaged"] == pytest.approx(0.8)
    # none: hit 1, false 1, missed 0: 2/3; minor: false 1: 0; major: missed 1: 0; destroyed: hit 1, missed 1: 2/3
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0 + 0 + 2 / 3) / 4)
    # likeliest right: yes at 0.9, no at 0.6, yes at 0.5, no at 0.7, each in a bin of its own
    assert found["ece"] == pytest.approx((0.1 + 0.6 + 0.5 + 0.7) / 4)
    squares = [0.01 + 0.01, 0.36 + 0.04 + 0.64, 0.09 + 0.01 + 0.01 + 0.25, 0.49 + 0.01 + 0.01 + 0.81]
    assert found["brier"] == pytest.approx(sum(squares) / 4)
    # surest first, wrong: 0, 1 (0.7), 1 (0.6), 0: risks 0, 1/2, 2/3, 2/4
    assert found["aurc"] == pytest.approx((0 + 1 / 2 + 2 / 3 + 2 / 4) / 4)


def test_weights_are_repetitions():
    generator = np.random.default_rng(0)
    own = np.round(generator.dirichlet(np.ones(4), 60), 2)
    own /= own.sum(axis=1, keepdims=True)
    truth, decided = generator.integers(0, 4, (2, 60))
    times = generator.integers(0, 4, (3, 60))
    weighted = given_metrics(own, decided, truth, times)
    for row in range(3):
        index = np.repeat(np.arange(60), times[row])
        whole = given_metrics(own[index], decided[index], truth[index], np.ones((1, len(index))))
        for name, value in whole.items():
            assert weighted[name][row] == pytest.approx(value[0]), name


def test_auc_counts_pairs_and_halves_ties():
    generator = np.random.default_rng(1)
    score, positive = generator.integers(0, 6, 40).astype(float), generator.random(40) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
    assert auc(score, positive, np.ones((1, 40)))[0] == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(score, np.ones(40, bool), np.ones((1, 40)))[0])


def test_nothing_gives_nan_and_no_error():
    empty = given_metrics(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, int), np.ones((2, 0)))
    assert all(np.isnan(value).all() and value.shape == (2,) for value in empty.values())


def test_curves_by_hand():
    assert reliability(OWN, TRUTH, bins=2) == [(pytest.approx(0.675), 0.5, 4)]
    assert risk_coverage(OWN, TRUTH) == [
        (0.25, 0.0),
        (0.5, 0.5),
        (0.75, pytest.approx(2 / 3)),
        (1.0, 0.5),
    ]
