import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.checking.folds import group_labels
from aftermap.data.checking.overlap import same_ground
from aftermap.data.checking.splits import assign_splits, buildings, random_holdout
from aftermap.errors import DataError, DataWarning
from made_xbd import manifest, scene


def row(count, *, event="storm", start=0, step=1.0, polygons=lambda i: {"no-damage": 10}):
    """Tiles side by side from west to east."""
    return [
        scene(f"{event}-{i:02d}", event=event, col=start + step * i, polygons=polygons(i))
        for i in range(count)
    ]


def splits(result):
    return {scene.name: scene.split for scene in result.scenes}


def counts(result):
    return Counter(scene.split for scene in result.scenes)


TOWNS = manifest(
    [
        s
        for n, event in enumerate(("fire", "flood", "quake", "storm", "wave"))
        for s in row(8, event=event, start=20 * n)
    ]
)


@pytest.mark.parametrize("by", ["event", "block", "random"])
def test_every_scene_gets_a_split(by):
    assert set(counts(assign_splits(TOWNS, by=by))) == {"train", "validation", "test"}


@pytest.mark.parametrize("by", ["event", "block", "random"])
def test_the_result_depends_only_on_the_arguments(by):
    reversed_ = TOWNS.model_copy(update={"scenes": TOWNS.scenes})
    assert assign_splits(TOWNS, by=by, seed=4) == assign_splits(reversed_, by=by, seed=4)


@pytest.mark.parametrize("by", ["event", "block", "random"])
def test_another_seed_gives_another_split(by):
    assert len({tuple(splits(assign_splits(TOWNS, by=by, seed=seed)).items()) for seed in range(6)}) > 1


@pytest.mark.parametrize("by", ["event", "block", "random"])
def test_the_choice_is_noted_in_the_options(by):
    options = assign_splits(TOWNS, by=by, seed=2, fractions=(0.6, 0.2, 0.2)).options
    assert options == {"split": by, "split_fractions": "0.6,0.2,0.2", "split_seed": "2"}


def test_by_event_keeps_events_whole():
    result = assign_splits(TOWNS, by="event", fractions=(0.6, 0.2, 0.2))
    by_event = {}
    for s in result.scenes:
        by_event.setdefault(s.event, set()).add(s.split)
    assert all(len(found) == 1 for found in by_event.values())
    assert counts(result) == {"train": 24, "validation": 8, "test": 8}


def test_by_event_needs_enough_events():
    with pytest.raises(DataError, match="1 separate events cannot be split into 3: split by block"):
        assign_splits(manifest(row(9)), by="event")


def test_by_event_joins_events_that_share_ground():
    shared = manifest([scene("a", event="x"), scene("b", event="y", col=0.5), scene("c", event="z", col=9)])
    with pytest.raises(DataError, match="2 separate events"):
        assign_splits(shared, by="event")
    result = splits(assign_splits(shared, by="event", fractions=(0.5, 0, 0.5)))
    assert result["a"] == result["b"] != result["c"]


def test_random_shares_follow_the_fractions():
    assert counts(assign_splits(manifest(row(20)), by="random")) == {"train": 14, "validation": 3, "test": 3}


def test_a_fraction_of_0_leaves_a_split_empty():
    for by in ("block", "random", "event"):
        assert set(counts(assign_splits(TOWNS, by=by, fractions=(0.8, 0.2, 0)))) == {"train", "validation"}


@settings(max_examples=30)
@given(
    st.lists(st.floats(0, 12), min_size=4, max_size=12),
    st.sampled_from(["block", "random"]),
    st.integers(0, 9),
)
def test_no_two_splits_share_ground(places, by, seed):
    scenes = [scene(f"s{i:02d}", col=place) for i, place in enumerate(places)]
    result = assign_splits(manifest(scenes), by=by, seed=seed).scenes
    assert all(result[pair.first].split == result[pair.second].split for pair in same_ground(result))


def test_scenes_with_the_same_image_stay_together():
    scenes = row(10)
    scenes[9] = scenes[9].model_copy(update={"checksums": scenes[0].checksums})
    for by in ("block", "random"):
        for seed in range(5):
            found = splits(assign_splits(manifest(scenes), by=by, seed=seed))
            assert found["storm-00"] == found["storm-09"]


def test_blocks_are_contiguous_strips():
    # 27 places make 9 strips of 3, however the names are ordered.
    scenes = row(27)
    order = np.random.default_rng(0).permutation(27)
    result = assign_splits(manifest([scenes[i] for i in order]), by="block")
    along = sorted(result.scenes, key=lambda s: s.grid.transform[2])
    for first in range(0, 27, 3):
        assert len({s.split for s in along[first : first + 3]}) == 1


def test_strips_run_across_the_longer_side():
    tall = [scene(f"s{c}{r:02d}", col=c, row=r) for c in range(3) for r in range(9)]
    result = assign_splits(manifest(tall), by="block")
    for r in range(9):
        assert len({s.split for s in result.scenes if s.name.endswith(f"{r:02d}")}) == 1


def test_blocks_balance_the_rare_class():
    # All destroyed buildings lie in the eastern third; each split must get some.
    east = row(27, polygons=lambda i: {"no-damage": 10, "destroyed": 5 if i >= 18 else 0})
    result = assign_splits(manifest(east), by="block")
    destroyed = Counter()
    for s in result.scenes:
        destroyed[s.split] += s.polygons["destroyed"]
    assert min(destroyed[name] for name in ("train", "validation", "test")) >= 15


def test_every_event_is_in_every_block_split():
    result = assign_splits(TOWNS, by="block")
    for event in ("fire", "wave"):
        assert {s.split for s in result.scenes if s.event == event} == {"train", "validation", "test"}


def test_an_event_with_one_scene_goes_to_train():
    assert splits(assign_splits(manifest(row(1)), by="block")) == {"storm-00": "train"}


def test_scenes_without_grid_are_placed_by_name_with_a_warning():
    scenes = [s.model_copy(update={"grid": None}) for s in row(9)]
    with pytest.warns(DataWarning, match="placed by their names.*storm 9"):
        result = assign_splits(manifest(scenes), by="block")
    found = [s.split for s in result.scenes]
    assert all(len(set(found[first : first + 3])) == 1 for first in (0, 3, 6))


def test_a_held_out_event_is_the_test_split():
    result = assign_splits(TOWNS, by="block", hold_out=["flood"])
    assert {s.event for s in result.scenes if s.split == "test"} == {"flood"}
    assert {s.split for s in result.scenes if s.event != "flood"} == {"train", "validation"}
    assert {s.split for s in result.scenes if s.event == "flood"} == {"test"}
    assert result.options["split_hold_out"] == "flood"


def test_an_unknown_event_to_hold_out_suggests_a_known_one():
    with pytest.raises(DataError, match=r"no event 'flod' in the manifest: did you mean 'flood'"):
        assign_splits(TOWNS, hold_out=["flod"])


def test_not_all_events_can_be_held_out():
    with pytest.raises(DataError, match="nothing is left to train on"):
        assign_splits(manifest(row(3)), by="block", hold_out=["storm"])


def test_published_splits_are_taken_over():
    names = ("train", "tier3", "hold", "test")
    scenes = [s.model_copy(update={"source_split": name}) for s, name in zip(row(4), names, strict=True)]
    found = list(splits(assign_splits(manifest(scenes), by="source")).values())
    assert found == ["train", "train", "validation", "test"]


def test_scenes_of_no_published_split_are_an_error():
    with pytest.raises(DataError, match="4 scenes come from no published split"):
        assign_splits(manifest(row(4)), by="source")


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_must_be_three_shares_of_1(fractions):
    with pytest.raises(ValueError, match="three shares"):
        assign_splits(TOWNS, fractions=fractions)


def test_buildings_are_polygons_or_else_their_pixels():
    assert buildings(scene("a", polygons={"no-damage": 3, "un-classified": 1})) == 4
    assert buildings(scene("a", class_pixels=[90, 5, 0, 0, 5])) == 10


def fingerprint(numbers):
    return hashlib.sha256(np.asarray(numbers, "<i8").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("count", "seed", "held", "learned", "held_sha", "learned_sha"),
    [
        (20, 0, [18, 1], [19, 8, 10, 17], "a75e2a3fb63159a4", "17f520cbc343e506"),
        (100, 0, [26, 86, 2, 55, 75, 93], [53, 92, 78, 13], "bbe966e6ba3ffcb7", "2848e2822b08624c"),
        (100, 1, [80, 84, 33, 81, 93, 17], [92, 39, 56, 52], "dae32d37f04450a1", "2edef8d2d9d18c0e"),
        (100, 2, [83, 30, 56, 24, 16, 23], [99, 92, 76, 14], "eb2debd0b43e5aa5", "5a871a77535dde20"),
        (9168, 0, [3747, 5949, 4216, 7273, 7061, 7856], [3535, 779, 6105, 6006], "83bcdf2f318036d3", "29e465d75fbcd304"),
        (9168, 1, [3841, 763, 4940, 82, 1458, 3329], [573, 412, 7547, 342], "dde991c9c5e3f096", "ca42d6d92f8e5992"),
        (9168, 2, [8043, 7380, 6809, 6262, 1685, 135], [4516, 7906, 3621, 10], "aa873df521cc52cf", "f0576fb3d26f13f6"),
    ],
)  # fmt: skip
def test_the_random_holdout_is_the_winners(count, seed, held, learned, held_sha, learned_sha):
    found_learned, found_held = random_holdout(count, seed)
    assert (found_held[:6], found_learned[:4]) == (held, learned)
    assert (fingerprint(found_held), fingerprint(found_learned)) == (held_sha, learned_sha)


def test_the_three_holdouts_of_xbd_overlap_as_published():
    holdouts = [set(random_holdout(9168, seed)[1]) for seed in range(3)]
    assert [len(held) for held in holdouts] == [917] * 3
    assert len(set.union(*holdouts)) == 2495


def test_groups_without_a_zoom_are_events():
    by_event, by_group = (assign_splits(TOWNS, by=by, seed=3) for by in ("event", "group"))
    assert splits(by_event) == splits(by_group)


def test_cells_of_the_ground_stay_whole():
    # one event, 40 tiles of some 55 m: a zoom of 19 (76 m) makes cells of one or two tiles
    result = assign_splits(manifest(row(40)), by="group", group_zoom=19)
    labels = group_labels(result.scenes, group_zoom=19)
    found = {label: set() for label in labels}
    for label, s in zip(labels, result.scenes, strict=True):
        found[label].add(s.split)
    assert len(found) > 20
    assert all(len(names) == 1 for names in found.values())
    assert set(counts(result)) == {"train", "validation", "test"}
    assert result.options["split_group_zoom"] == "19"


def test_a_zoom_needs_a_split_by_group():
    with pytest.raises(ValueError, match="split by group"):
        assign_splits(TOWNS, by="block", group_zoom=19)


def test_too_few_cells_are_told_apart_from_too_few_events():
    with pytest.raises(DataError, match=r"1 separate groups cannot be split into 3.*finer --group-zoom"):
        assign_splits(manifest(row(9)), by="group", group_zoom=8)
