"""Which tiles a step sees: the worked example of eight tiles, its properties, and what is refused."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.incremental.protocol import protocol_for
from aftermap.data.incremental.tile_filters import image_split, label_sets, select_tiles
from aftermap.data.legends import LEGENDS
from aftermap.data.scene import Scene
from aftermap.errors import DataError

ISPRS, ISAID = LEGENDS["isprs"], LEGENDS["isaid"]
SEED = 1337
EIGHT = [frozenset(s) for s in ({0, 1, 3}, {1}, {0, 3}, {0, 2, 4}, {1, 5}, {0}, {2, 3}, {0, 1, 4})]
FIVE = [frozenset(s) for s in ({0}, {0, 3}, {0, 7}, {0, 1, 8, 14}, {3, 10})]
NONE = None

# Section 22.5: task, step, tiles with overlap, without later classes, by the image split.
PUBLISHED = [
    ("6s", 0, [0, 1, 4, 7], [1], [1, 4]),
    ("6s", 1, [0, 2, 6], NONE, [0, 2]),
    ("6s", 2, [0, 2, 3, 5, 7], [0, 2, 5], [3, 5]),
    ("6s", 3, [3, 6], [6], [6]),
    ("6s", 4, [3, 7], [3, 7], [7]),
    ("6s", 5, [4], [4], NONE),
    ("222a", 0, [0, 2, 3, 5, 6, 7], [5], [3, 5, 6]),
    ("222a", 1, [0, 1, 2, 4, 6, 7], [0, 1, 2, 6], [0, 1, 2, 4]),
    ("222a", 2, [3, 4, 7], [3, 4, 7], [7]),
    ("321", 0, [0, 1, 2, 4, 6, 7], [1, 4], [0, 1, 2, 4]),
    ("321", 1, [0, 2, 3, 5, 6, 7], [0, 2, 5, 6], [3, 5, 6]),
    ("321", 2, [3, 7], [3, 7], [7]),
    ("offline", 0, [*range(8)], [*range(8)], [*range(8)]),
]
# The same for a dataset with its own background, the original's way.
PUBLISHED_ISAID = [
    (0, [0, 1, 2, 3, 4], [0, 1], [1, 4]),
    (1, [2, 3], [2], [2]),
    (2, [3], NONE, [3]),
    (3, [3, 4], [3, 4], NONE),
]


def chosen(sets, protocol, step, mode):
    try:
        return select_tiles(sets, protocol, step, mode=mode)
    except DataError:
        return NONE


@pytest.mark.parametrize(("task", "step", "overlapped", "disjoint", "split"), PUBLISHED)
def test_eight_tiles_are_chosen_as_published(task, step, overlapped, disjoint, split):
    protocol = protocol_for(ISPRS, task, seed=SEED)
    found = [chosen(EIGHT, protocol, step, mode) for mode in ("overlapped", "disjoint", "image-split")]
    assert found == [overlapped, disjoint, split]


@pytest.mark.parametrize(("step", "overlapped", "disjoint", "split"), PUBLISHED_ISAID)
def test_tiles_with_an_own_background_are_chosen_as_published_under_compat(step, overlapped, disjoint, split):
    protocol = protocol_for(
        ISAID, "4s", seed=SEED, compat_background_selects=True, compat_ignored_excludes=True
    )
    found = [chosen(FIVE, protocol, step, mode) for mode in ("overlapped", "disjoint", "image-split")]
    assert found == [overlapped, disjoint, split]


def test_the_own_background_chooses_no_tile():
    protocol = protocol_for(ISAID, "4s")
    assert select_tiles(FIVE, protocol, 0) == [1, 4]
    assert select_tiles(FIVE, protocol, 0, mode="disjoint") == [1]


def test_tiles_are_drawn_in_the_published_order():
    assert random.Random(SEED).sample(range(8), 8) == [5, 4, 6, 1, 2, 7, 3, 0]
    assert image_split(EIGHT, protocol_for(ISPRS, "6s", seed=SEED)) == [3, 1, 3, 0, 1, 0, 2, 4]


def test_an_unknown_pixel_bars_a_tile_only_under_compat():
    tiles = [frozenset({1, 255}), frozenset({1})]
    fixed = protocol_for(ISPRS, "6s", filter="disjoint")
    compat = protocol_for(ISPRS, "6s", filter="disjoint", compat_ignored_excludes=True)
    assert select_tiles(tiles, fixed, 0) == [0, 1]
    assert select_tiles(tiles, compat, 0) == [1]


def test_classes_of_no_step_bar_no_tile_and_get_none():
    protocol = protocol_for(ISPRS, "building / tree", seed=SEED)
    tiles = [frozenset({1, 5}), frozenset({5, 255}), frozenset({1, 3})]
    assert select_tiles(tiles, protocol, 0, mode="disjoint") == [0]
    assert image_split(tiles, protocol)[1] is None


BOTH = [frozenset({1, 3})] * 2


@pytest.mark.parametrize(
    ("tiles", "task", "step", "mode", "reason"),
    [
        (BOTH, "6s", 5, "overlapped", "step 5 of task 6s has no tile to learn clutter from: none of 2 tiles holds it"),
        (BOTH, "222a", 2, "overlapped", "to learn car, clutter from: none of 2 tiles holds any of them"),
        (BOTH, "6s", 0, "disjoint", "disjoint bars all 2 tiles that hold it, for a class of a later step"),
        (BOTH[:1], "building / tree", 1, "image-split", "dealt out the one tile that holds it to other classes"),
    ],
)  # fmt: skip
def test_an_empty_step_names_itself_its_classes_and_the_way_out(tiles, task, step, mode, reason):
    with pytest.raises(DataError, match=reason):
        select_tiles(tiles, protocol_for(ISPRS, task), step, mode=mode)


def scene(tmp_path, counts, *, side=4):
    return Scene(
        name="a", event="e", pre=tmp_path / "a.png", class_mask=tmp_path / "m.png",
        width=side, height=side, class_pixels=counts,
    )  # fmt: skip


def test_labels_come_from_the_counts_without_reading_a_mask(tmp_path):
    found = label_sets([scene(tmp_path, [10, 0, 6]), scene(tmp_path, [10, 0, 5])])
    assert found == [{0, 2}, {0, 2, 255}]


def test_damage_counts_tell_of_buildings(tmp_path):
    damage = scene(tmp_path, [10, 0, 0, 0, 6])
    assert label_sets([damage], target="damage") == [{0, 4}]
    assert label_sets([damage], target="building") == [{0, 1}]


def test_a_scene_without_labels_has_none(tmp_path):
    assert label_sets([scene(tmp_path, []).without_labels()]) == [frozenset()]


SETS = st.lists(st.frozensets(st.sampled_from([0, 1, 2, 3, 4, 5, 255]), max_size=4), min_size=1, max_size=12)
TASK = st.sampled_from(["6s", "222a", "321", "offline"])


@given(SETS, TASK, st.integers(0, 99))
@settings(max_examples=60)
def test_the_image_split_shows_no_tile_twice_and_none_without_a_new_class(tiles, task, seed):
    protocol = protocol_for(ISPRS, task, seed=seed)
    steps = [chosen(tiles, protocol, t, "image-split") or [] for t in range(len(protocol.steps))]
    used = [tile for step in steps for tile in step]
    assert len(used) == len(set(used))
    assert set(used) == {i for i, labels in enumerate(tiles) if labels - {255}}
    assert all(tiles[i] & set(protocol.new(t)) for t, step in enumerate(steps) for i in step)


@given(SETS, TASK)
@settings(max_examples=60)
def test_disjoint_tiles_are_overlapped_ones_without_later_classes(tiles, task):
    protocol = protocol_for(ISPRS, task)
    for step in range(len(protocol.steps)):
        overlapped = set(chosen(tiles, protocol, step, "overlapped") or [])
        disjoint = set(chosen(tiles, protocol, step, "disjoint") or [])
        assert disjoint <= overlapped
        assert all(tiles[i] & set(protocol.later(step)) for i in overlapped - disjoint)


@given(SETS, TASK)
@settings(max_examples=60)
def test_every_tile_with_a_class_is_overlapped_at_some_step(tiles, task):
    protocol = protocol_for(ISPRS, task)
    steps = [chosen(tiles, protocol, t, "overlapped") or [] for t in range(len(protocol.steps))]
    assert {i for step in steps for i in step} == {i for i, labels in enumerate(tiles) if labels - {255}}
