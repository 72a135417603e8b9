"""The replay memory: budget, balance, determinism."""

import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.incremental.replay import choose_replay
from aftermap.data.scene import Scene
from aftermap.errors import DataError, DataWarning

TILE_MB = 100 * 100 * 4 / 1e6


def scenes(count, sides=None):
    sides = sides or [100] * count
    return [
        Scene(name=f"t{n}", event="e", pre=Path("a.png"), width=side, height=side)
        for n, side in enumerate(sides)
    ]


def choose(sets, memory_mb, *, sides=None, classes=(1, 2, 3), **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        sets = [frozenset(s) for s in sets]
        return choose_replay(scenes(len(sets), sides), sets, memory_mb, classes=classes, **options)


SETS = st.lists(st.frozensets(st.integers(0, 5), max_size=4), min_size=1, max_size=15)


@given(SETS, st.integers(0, 20), st.integers(0, 20), st.integers(0, 5), st.booleans())
@settings(max_examples=80)
def test_a_smaller_budget_gives_the_beginning_of_a_larger_one(sets, one, other, seed, uneven):
    sides = [60 + 20 * (n % 4) for n in range(len(sets))] if uneven else None
    small, large = sorted((one, other))
    try:
        first = choose(sets, small * TILE_MB, sides=sides, seed=seed)
        second = choose(sets, large * TILE_MB, sides=sides, seed=seed)
    except DataError:
        return
    assert second[: len(first)] == first


@given(SETS, st.integers(1, 20), st.integers(0, 5))
@settings(max_examples=80)
def test_the_budget_holds_and_only_tiles_with_old_classes_are_taken(sets, tiles, seed):
    found = choose(sets, tiles * TILE_MB, seed=seed)
    with_old = {n for n, labels in enumerate(sets) if labels & {1, 2, 3}}
    assert len(found) == len(set(found)) == min(tiles, len(with_old))
    assert set(found) <= with_old


@given(SETS, st.integers(0, 5))
@settings(max_examples=80)
def test_as_many_tiles_as_classes_hold_every_class(sets, seed):
    found = choose(sets, 3 * TILE_MB, seed=seed)
    occurring = frozenset().union(*sets) & {1, 2, 3}
    assert frozenset().union(*(sets[n] for n in found)) >= occurring


def test_a_rare_class_is_not_crowded_out():
    sets = [{1}] * 50 + [{2}] * 3 + [{3}]
    held = Counter(label for n in choose(sets, 9 * TILE_MB) for label in sets[n])
    assert held == {1: 5, 2: 3, 3: 1}


def test_tiles_with_many_classes_come_first_where_all_must_fit():
    sets = [{1}, {2}, {3}, {1, 2, 3}]
    assert choose(sets, TILE_MB) == [3]


def test_small_tiles_come_first_where_they_hold_as_much():
    assert choose([{1}, {1}], 100, sides=[200, 100], classes=[1]) == [1, 0]


def test_the_choice_follows_from_the_seed():
    sets = [{1}] * 20
    assert choose(sets, 5 * TILE_MB, seed=1) == choose(sets, 5 * TILE_MB, seed=1)
    assert choose(sets, 5 * TILE_MB, seed=1) != choose(sets, 5 * TILE_MB, seed=2)


def test_bands_and_mask_count_in_bytes():
    assert len(choose([{1}] * 10, 1.0, channels=3)) == 10
    assert len(choose([{1}] * 30, 1.0, channels=3)) == 25
    assert len(choose([{1}] * 30, 1.0, channels=4)) == 20


def test_no_memory_remembers_nothing():
    assert choose([{1}], 0) == []


def test_a_memory_too_small_for_one_tile_is_refused():
    with pytest.raises(DataError, match=r"a replay memory of 0.01 MB holds no tile.*takes 0.04 MB"):
        choose([{1}], 0.01)


def test_a_class_left_out_for_want_of_memory_is_named():
    sets = [frozenset({1}), frozenset({2})]
    with pytest.warns(DataWarning, match="remembers 1 tile and none of class [12]: give it more"):
        choose_replay(scenes(2), sets, TILE_MB, classes=[1, 2])


def test_negative_budgets_are_refused():
    with pytest.raises(ValueError, match="expected 0 or more"):
        choose([{1}], -1)
