"""Totals from a sample: values worked out by hand, another library's, and what must hold for any sample."""

import dataclasses

import numpy as np
import ppi_py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aftermap.workflows.review.answers import Answer
from aftermap.workflows.totals.estimate import COUNTED, DESIGN_BASED, MODEL_ASSISTED, estimate, looked_at
from aftermap.workflows.totals.estimators import Drawn, model_assisted, tuned_weight
from aftermap.workflows.totals.intervals import stratified_interval
from aftermap.workflows.totals.sampling import draw_sample
from sampled_towns import answered, town


@pytest.fixture(scope="module")
def frame():
    return town(600, seed=4)


@pytest.fixture(scope="module")
def sample(frame):
    return draw_sample(frame, 120, seed=2)


def interval(buildings, looked, found):
    low, high = stratified_interval(np.array(buildings), np.array(looked), np.array(found))
    return float(low), float(high)


def test_no_error_in_one_stratum_gives_the_exact_bound():
    # (1 - p)^50 = 0.05, of very many buildings
    low, high = interval([10**6], [50], [0])
    assert low == 0 and high == pytest.approx(10**6 * (1 - 0.05 ** (1 / 50)), rel=0.03)


def test_one_stratum_gives_the_mid_p_interval():
    # mid-P of 8 found in 40: P(X > 8) + P(X = 8) / 2 = 0.025 at the lower end
    low, high = interval([10**6], [40], [8])
    for bound, side in ((low, "low"), (high, "high")):
        law = stats.binom(40, bound / 10**6)
        tail = law.sf(8) if side == "low" else law.cdf(7)
        assert tail + law.pmf(8) / 2 == pytest.approx(0.025, abs=0.004)


def test_many_answers_give_the_interval_of_a_normal_estimate():
    low, high = interval([40_000, 60_000], [4000, 6000], [1000, 3000])
    variance = 40_000**2 * 0.25 * 0.75 / 4000 * 0.9 + 60_000**2 * 0.25 / 6000 * 0.9
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(variance), rel=0.01)
    assert (high + low) / 2 == pytest.approx(40_000, rel=0.01)


def test_a_full_count_has_no_width_and_anything_less_has():
    assert interval([30, 20], [30, 20], [4, 0]) == (4, 4)
    low, high = interval([30, 20], [30, 19], [4, 0])
    assert 4 <= low < high <= 5


def test_strata_without_an_error_are_not_each_at_their_worst():
    whole = interval([800], [80], [0])[1]
    assert interval([100] * 8, [10] * 8, [0] * 8)[1] == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize("damaged", [0, 3, 40, 250])
def test_intervals_hold_what_they_should(damaged):
    generator = np.random.default_rng(damaged)
    sizes, looked = np.array([700, 200, 100]), np.array([40, 25, 15])
    holds = np.array([damaged // 5, damaged // 5, 0])
    holds[2] = min(damaged - holds.sum(), 100)
    holds[0] += damaged - holds.sum()
    found = generator.hypergeometric(holds, sizes - holds, looked, size=(1500, 3))
    low, high = stratified_interval(sizes, looked, found)
    assert ((low <= damaged + 1e-6) & (high >= damaged - 1e-6)).mean() >= 0.93


def test_totals_are_near_the_truth_and_add_up(frame, sample):
    told = estimate(None, sample, answered(frame, sample))
    assert told.kind == DESIGN_BASED and told.answers == 120 and told.cannot_tell == 0
    for name, true in (
        ("damaged", (frame["truth"] != "no-damage").sum()),
        ("destroyed", (frame["truth"] == "destroyed").sum()),
    ):
        total = told.totals[name]
        assert total.low <= true <= total.high and total.low < total.estimate < total.high
        assert total.others["prediction-powered"][0] == pytest.approx(total.estimate, rel=0.4)
    classes = [
        told.totals[name].estimate for name in ("no-damage", "minor-damage", "major-damage", "destroyed")
    ]
    assert sum(classes) == pytest.approx(600) == pytest.approx(told.totals["buildings"].estimate)
    assert sum(classes[1:]) == pytest.approx(told.totals["damaged"].estimate)
    assert told.totals["damaged"].mapped == (frame["damage"] != "no-damage").sum()


def test_a_census_counts(frame):
    sample = draw_sample(frame, 600, seed=1)
    told = estimate(None, sample, answered(frame, sample))
    true = (frame["truth"] == "major-damage").sum()
    total = told.totals["major-damage"]
    assert told.kind == COUNTED and (total.low, total.estimate, total.high) == (true, true, true)


def test_answers_may_come_in_any_order(frame, sample):
    given_ = answered(frame, sample)
    assert estimate(None, sample, given_[::-1]) == estimate(None, sample, given_)


def test_answers_for_another_reason_change_nothing(frame, sample):
    given_ = answered(frame, sample, 70)
    later = sample.drawn[75:]
    elsewhere = [n for n in frame["building_id"] if n not in sample.drawn][:50]
    picked = [
        Answer(building_id=n, verdict="destroyed", reviewer="bo", origin="active") for n in later + elsewhere
    ]
    before, after = estimate(None, sample, given_), estimate(None, sample, given_ + picked)
    assert after.totals == before.totals and after.unused == 45


def test_phantoms_are_taken_out(frame, sample):
    given_ = [
        answer.model_copy(update={"verdict": "not-a-building"}) if place % 4 == 0 else answer
        for place, answer in enumerate(answered(frame, sample))
    ]
    told = estimate(None, sample, given_)
    assert told.totals["not-a-building"].found == 30
    assert told.totals["buildings"].estimate + told.totals["not-a-building"].estimate == pytest.approx(600)
    assert told.totals["buildings"].high < 600 and told.totals["not-a-building"].mapped is None


def test_what_cannot_be_told_is_bounded(frame, sample):
    given_ = answered(frame, sample)
    silent = [
        a.model_copy(update={"verdict": "cannot-tell"}) if n % 10 == 0 else a for n, a in enumerate(given_)
    ]
    told = estimate(None, sample, silent)
    total = told.totals["damaged"]
    assert told.cannot_tell == 12 and told.answers == 108
    assert total.least < total.estimate < total.most
    exact = estimate(None, sample, given_).totals["damaged"].estimate
    assert total.least <= exact <= total.most


def test_without_answers_there_is_no_interval(sample):
    told = estimate(None, sample, [])
    assert told.totals == {} and "too few answers" in told.notes[0]


def test_a_part_is_estimated_from_its_own_answers_where_they_suffice(frame, sample):
    half = set(frame["building_id"][:300])
    told = estimate(half, sample, answered(frame, sample))
    assert told.buildings == 300 and told.kind == DESIGN_BASED
    true = (frame["truth"][:300] != "no-damage").sum()
    assert told.totals["damaged"].low <= true <= told.totals["damaged"].high


def test_a_small_part_is_model_assisted_and_says_so(frame, sample):
    few = set(frame["building_id"][:12])
    told = estimate(few, sample, answered(frame, sample))
    total = told.totals["damaged"]
    assert told.kind == MODEL_ASSISTED and "model-assisted" in told.notes[0]
    assert 0 <= total.low <= total.estimate <= total.high <= 12 and total.high > total.low


def test_prediction_powered_is_that_of_ppi_python():
    generator = np.random.default_rng(2)
    chance = generator.random(40_000)
    truth = (generator.random(40_000) < chance).astype(float)
    rows = generator.permutation(40_000)[:200]
    rest = np.setdiff1d(np.arange(40_000), rows)
    drawn = Drawn(np.array([40_000]), np.array([chance.sum()]), np.zeros(200, int), truth[rows], chance[rows])
    for weight in (0.0, 0.4, 1.0):
        ours = model_assisted(drawn, np.full(200, weight))[0]
        theirs = ppi_py.ppi_mean_pointestimate(truth[rows], chance[rows], chance[rest], lam=weight)[0]
        # theirs is the mean of those not looked at; ours adds those that were
        assert ours == pytest.approx(truth[rows].sum() + len(rest) * theirs, rel=1e-9)
    tuned = tuned_weight(drawn, folds=1)
    low, high = ppi_py.ppi_mean_ci(truth[rows], chance[rows], chance[rest], alpha=0.05)
    point, variance, _ = model_assisted(drawn, tuned)
    assert point / 40_000 == pytest.approx((low[0] + high[0]) / 2, abs=1e-3)
    assert 1.96 * np.sqrt(variance) / 40_000 == pytest.approx((high[0] - low[0]) / 2, rel=0.02)


def test_a_weight_is_tuned_by_other_folds():
    values = np.array([1.0, 0, 1, 0, 1, 0, 1, 0, 1, 0])
    drawn = Drawn(np.array([100]), np.array([50.0]), np.zeros(10, int), values, values)
    assert tuned_weight(drawn).tolist() == [1] * 10
    assert tuned_weight(dataclasses.replace(drawn, predicted=1 - values)).tolist() == [0] * 10


@settings(max_examples=12, deadline=None)
@given(
    count=st.integers(5, 200),
    size=st.integers(5, 90),
    seed=st.integers(0, 999),
    share=st.floats(0.2, 1),
    silent=st.integers(2, 9),
)
def test_any_sample_gives_figures_in_order(count, size, seed, share, silent):
    frame = town(count, seed=seed, skill=0.5)
    sample = draw_sample(frame, size, seed=seed)
    given_ = answered(frame, sample, int(share * size))
    given_ = [
        a.model_copy(update={"verdict": "cannot-tell"}) if n % silent == 1 else a
        for n, a in enumerate(given_)
    ]
    looked = looked_at(sample, given_)
    told = estimate(None, sample, looked)
    for total in told.totals.values():
        assert 0 <= total.low <= total.estimate + 1e-9 <= total.high + 2e-9 <= count + 3e-9
        assert total.least <= total.most + 1e-9
        assert total.high > total.low or told.answers == count
