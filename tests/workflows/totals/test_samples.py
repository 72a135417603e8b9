"""The sample of a map: which buildings come when, and with which probability."""

import dataclasses
import json

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.errors import InputError
from aftermap.workflows.totals.sampling import FLOOR, Sample, draw_sample, timetable
from sampled_towns import town


@pytest.fixture(scope="module")
def frame():
    return town(not_assessed=5)


def test_the_timetable_visits_each_then_goes_where_most_is_learned():
    # N S is 60, 30, 10: after two of each the priorities N S / sqrt(n (n + 1)) are 24.5, 12.2, 4.1; 17.3; 13.4; ...
    plan = timetable(np.array([100, 100, 100]), np.array([0.6, 0.3, 0.1]), 10, np.zeros(3, int))
    assert plan == [0, 1, 2, 0, 1, 2, 0, 0, 0, 1]


def test_a_stratum_is_never_asked_for_more_than_it_has():
    plan = timetable(np.array([3, 50]), np.array([0.5, 0.01]), 30, np.zeros(2, int))
    assert plan.count(0) == 3 and plan.count(1) == 27


def test_buildings_that_were_not_assessed_are_not_sampled(frame):
    sample = draw_sample(frame, 400, seed=1)
    assert len(sample) == len(sample.ids) == 295
    assert not {f"b{number}" for number in range(5)} & set(sample.ids)


def test_every_valid_prefix_is_stratified(frame):
    sample = draw_sample(frame, 100, seed=1)
    assert 4 <= len(sample.strata) <= 12
    for length in range(sample.least, 101):
        assert sample.counts(length).min() >= 1
    assert sample.counts().min() >= FLOOR
    assert sample.inclusion().sum() == pytest.approx(100)
    assert sample.sizes.sum() == 295


def test_inclusion_probabilities_are_those_of_many_draws():
    first, length = draw_sample(town(60, seed=3), 40, seed=0), 17
    none = np.zeros(0, np.int64)
    samples = [dataclasses.replace(first, seed=seed, order=none).extended(40) for seed in range(1000)]
    seen = np.mean([np.bincount(s.order[:length], minlength=60) for s in samples], axis=0)
    # a share of 1,000 draws has a standard deviation of at most 0.016
    assert np.abs(seen - first.inclusion(length)).max() < 0.065


def test_rows_may_come_in_any_order(frame):
    turned = frame.sample(frac=1, random_state=3)
    assert draw_sample(turned, 50, seed=2).drawn == draw_sample(frame, 50, seed=2).drawn


def test_a_longer_sample_begins_with_the_shorter_one(frame):
    short = draw_sample(frame, 40, seed=5)
    long = short.extended(120)
    assert long.drawn[:40] == short.drawn and len(set(long.drawn)) == 120
    assert long.extended(60) is long
    assert len(long.extended(10**6)) == 295


def test_a_saved_sample_is_read_back(frame, tmp_path):
    sample = draw_sample(frame, 40, seed=5, outlines_sha256="ab")
    sample.save(tmp_path)
    again = Sample.load(tmp_path)
    assert again.drawn == sample.drawn and again.strata == sample.strata and again.outlines_sha256 == "ab"
    np.testing.assert_array_equal(again.stratum, sample.stratum)
    np.testing.assert_allclose(again.probabilities, sample.probabilities, atol=1e-4)
    assert again.extended(90).drawn == sample.extended(90).drawn


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tree: tree.pop("strata"),
        lambda tree: tree["order"].append("nobody"),
        lambda tree: tree["order"].append(tree["order"][0]),
        lambda tree: tree["buildings"]["stratum"].pop(),
        lambda tree: tree.update(format=99),
        lambda tree: tree["buildings"].update(stratum="abc"),
    ],
)
def test_an_odd_sample_is_one_line(frame, tmp_path, spoil):
    path = draw_sample(frame, 40, seed=5).save(tmp_path)
    tree = json.loads(path.read_text())
    spoil(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="sample"):
        Sample.load(tmp_path)
    path.write_text("null")
    with pytest.raises(InputError, match=r"sample\.json is not a sample$"):
        Sample.load(tmp_path)


def test_without_a_sample_the_way_to_one_is_told(tmp_path):
    with pytest.raises(InputError, match="aftermap review"):
        Sample.load(tmp_path)


def test_nothing_assessed_is_refused(frame):
    with pytest.raises(InputError, match="no building of the map was assessed"):
        draw_sample(frame.iloc[:5], 10, seed=0)


def parts(sample, places):
    return sample.stratum[sample.order[places]]


def test_a_gap_ends_its_own_stratum_only(frame):
    sample = draw_sample(frame, 60, seed=7)
    names = sample.drawn
    gap = 20
    used = sample.used({n for n in names if n != names[gap]}, set(names))
    stratum = sample.stratum[sample.order]
    wanted = [p for p in range(60) if not (p >= gap and stratum[p] == stratum[gap])]
    assert used.tolist() == wanted


def test_answers_for_another_reason_bring_nobody_in(frame):
    sample = draw_sample(frame, 60, seed=7)
    names = sample.drawn
    turns = set(names[:25])
    used = sample.used(turns | set(names[25:29]) | {"b7", "elsewhere"}, turns)
    assert used.tolist() == list(range(25))


def test_a_whole_sample_counts_whoever_answered_it(frame):
    sample = draw_sample(frame, 30, seed=7)
    assert len(sample.used(set(sample.drawn), set())) == 30


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 120), size=st.integers(1, 150), seed=st.integers(0, 99))
def test_any_town_gives_a_sample(count, size, seed):
    sample = draw_sample(town(count, seed=seed), size, seed=seed)
    assert len(set(sample.drawn)) == len(sample) == min(count, size)
    assert (sample.counts() <= sample.sizes).all()
    assert sample.sizes.tolist() == np.bincount(sample.stratum, minlength=len(sample.strata)).tolist()


def test_one_class_and_equal_probabilities_are_no_obstacle():
    frame = town(50).assign(damage="no-damage", p_no_damage=1.0, p_minor=0.0, p_major=0.0, p_destroyed=0.0)
    frame["area_m2"] = np.nan
    sample = draw_sample(frame, 40, seed=0)
    assert len(sample.strata) == 1 and dataclasses.asdict(sample.strata[0])["name"] == "no-damage"


def test_areas_of_a_map_without_georeference_are_pixels():
    generator = np.random.default_rng(0)
    sides = generator.uniform(2, 9, 120)
    frame = geopandas.GeoDataFrame(
        town(120, seed=2).assign(area_m2=np.nan), geometry=[shapely.box(0, 0, side, side) for side in sides]
    )
    names = [each.name for each in draw_sample(frame, 60, seed=0).strata]
    assert any("px" in name for name in names) and not any("m²" in name for name in names)
