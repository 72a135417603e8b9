import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftermap.scoring.decision_weights import reweight, tune_weights


def test_reweighting_by_hand():
    p = np.array([0.5, 0.3, 0.2])[:, None, None]
    # 0.3 * 1 and 0.2 * 6 share the 0.5 that both had: 0.5 * 0.3 / 1.5 and 0.5 * 1.2 / 1.5
    assert reweight(p, np.array([1.0, 6.0]))[:, 0, 0] == pytest.approx([0.5, 0.1, 0.4])


@given(st.integers(0, 1000))
def test_reweighting_keeps_the_building_probability_and_the_sum(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(5), (2, 3, 4)).transpose(0, 3, 1, 2).astype(np.float32)
    q = reweight(p, rng.uniform(0.1, 10, 4))
    assert np.array_equal(q[:, 0], p[:, 0]) and np.allclose(q.sum(1), 1, atol=1e-5)


def test_a_certain_background_stays_certain():
    p = np.array([1.0, 0.0, 0.0], np.float32)[:, None, None]
    assert reweight(p, np.array([1.0, 3.0]))[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_tuning_recovers_a_class_that_is_always_second():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 4000)
    second = np.where(target == 1, 0.4, 0.2) + rng.normal(0, 0.02, 4000)
    p = np.stack([1 - second, second], axis=1)
    weights = tune_weights(p, target)
    assert ((p * weights).argmax(1) == target).mean() > 0.99


def test_classes_that_do_not_occur_keep_their_weight():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    weights = tune_weights(p, np.where(p[:, 0] > 0.2, 0, 1))
    assert weights[2] == weights[3] == 1 and weights[0] == 1


def test_tuning_never_lowers_the_score_on_its_own_pixels():
    p = np.random.default_rng(1).dirichlet(np.ones(4), 300)
    target = p.argmax(axis=1)
    assert tune_weights(p, target).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("levels", [8, 255, 1 << 24])
def test_the_search_is_that_of_scoring_every_trial_anew(levels):
    rng = np.random.default_rng(4)
    p = (
        np.round(rng.dirichlet(np.full(4, 0.4), 500) * levels) / levels
    )  # with few levels many are equal, or 0
    target = rng.choice(4, 500, p=(0.5, 0.3, 0.15, 0.05))

    def score(factors):
        table = np.zeros((4, 4))
        np.add.at(table, (target, (p * factors).argmax(axis=1)), 1)
        hit = np.diag(table)
        per_class = 2 * hit / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1e-300)
        return 4 / (1 / (per_class + 1e-6)).sum()

    weights, best = np.ones(4), score(np.ones(4))
    for _ in range(3):
        for index in range(1, 4):
            for step in np.exp(np.linspace(-2.4, 2.4, 25)):
                trial = weights.copy()
                trial[index] = step
                if score(trial) > best + 1e-6:
                    best, weights = score(trial), trial
    assert tune_weights(p, target).tolist() == weights.tolist()
