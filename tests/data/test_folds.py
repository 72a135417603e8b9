from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.checking.folds import assign_folds, group_labels, hashed_folds, random_folds
from aftermap.data.checking.overlap import same_ground
from aftermap.data.readers.webtiles import WebTile
from aftermap.errors import DataError
from made_xbd import manifest, scene

FOURTEEN = [[3, 8], [0, 12], [2, 9], [4, 5], [1, 10], [6, 13], [7, 11]]
TWENTY = [[11, 12, 14], [0, 1, 3], [2, 5, 17], [8, 10, 18], [4, 9, 16], [6, 13, 19], [7, 15]]


def tiles(areas=7):
    """Areas of zoom 19, each with its tiles of zooms 19 and 20; events do not tell the areas."""
    made = []
    for area in range(areas):
        parent = WebTile(309600 + 3 * area, 261600, 19)
        x, y = 2 * parent.x, 2 * parent.y
        for tile in (parent, *(WebTile(x + i, y + j, 20) for i in (0, 1) for j in (0, 1))):
            grid = tile.scene_grid(height=100, width=100)
            made.append(scene(f"{tile.name}-{tile.zoom}", event="town", grid=grid))
    return manifest(made)


@pytest.mark.parametrize(("count", "folds"), [(14, FOURTEEN), (20, TWENTY)])
def test_random_folds_are_the_published_ones(count, folds):
    assert random_folds(count) == folds


@pytest.mark.parametrize("fold", range(7))
def test_the_leaking_folds_take_scenes_in_their_order(fold):
    scenes = [scene(f"s{i:02d}", col=i) for i in range(14)]
    result = assign_folds(manifest(scenes), folds=7, fold=fold, compat_leak=True)
    assert [i for i, s in enumerate(result.scenes) if s.split == "validation"] == FOURTEEN[fold]
    assert result.options["split"] == "folds-leak"


def test_the_leaking_folds_show_one_place_in_both_splits():
    result = assign_folds(tiles(), folds=7, fold=0, compat_leak=True).scenes
    assert any(result[pair.first].split != result[pair.second].split for pair in same_ground(result))


@settings(max_examples=20)
@given(st.integers(2, 7), st.integers(0, 6), st.sampled_from([19, 17, 12, None]))
def test_folds_share_no_ground(folds, fold, zoom):
    whole = tiles()
    if zoom is None:
        events = [s.model_copy(update={"event": f"e{i // 5}"}) for i, s in enumerate(whole.scenes)]
        whole = manifest(events)
    if len(set(group_labels(whole.scenes, group_zoom=zoom))) < folds:
        return
    result = assign_folds(whole, folds=folds, fold=fold % folds, group_zoom=zoom).scenes
    assert {s.split for s in result} == {"train", "validation"}
    assert all(result[pair.first].split == result[pair.second].split for pair in same_ground(result))


def test_every_scene_is_validated_on_exactly_once():
    seen = Counter()
    for fold in range(4):
        result = assign_folds(tiles(), folds=4, fold=fold, group_zoom=19)
        seen.update(s.name for s in result.scenes if s.split == "validation")
    assert sorted(seen) == sorted(s.name for s in tiles().scenes)
    assert set(seen.values()) == {1}


def test_the_order_of_the_scenes_does_not_matter():
    whole = tiles()
    order = np.random.default_rng(0).permutation(len(whole.scenes))
    mixed = manifest([whole.scenes[i] for i in order])
    found = [
        {s.name: s.split for s in assign_folds(m, folds=3, fold=1, group_zoom=19).scenes}
        for m in (whole, mixed)
    ]
    assert found[0] == found[1]


@settings(max_examples=50)
@given(st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=2, max_size=60), st.integers(2, 9))
def test_hashed_folds_differ_by_one_group_at_most(names, folds):
    sizes = Counter(hashed_folds(sorted(names), folds))
    counts = [sizes.get(fold, 0) for fold in range(folds)]
    assert max(counts) - min(counts) <= 1


def test_a_new_group_moves_few_others():
    names = [f"area-{i}" for i in range(70)]
    before = dict(zip(names, hashed_folds(names, 7), strict=True))
    after = dict(zip([*names, "new"], hashed_folds([*names, "new"], 7), strict=True))
    assert sum(before[name] != after[name] for name in names) <= 5


def test_groups_are_called_after_their_tiles():
    labels = group_labels(tiles(2).scenes, group_zoom=19)
    assert labels == ["309600-261600"] * 5 + ["309603-261600"] * 5


def test_events_that_share_ground_are_one_group():
    scenes = [scene("a", event="x"), scene("b", event="y", col=0.5), scene("c", event="z", col=9)]
    assert group_labels(scenes) == ["x", "x", "z"]


def test_a_held_out_event_is_tested_with_all_that_shares_its_ground():
    scenes = [scene(f"s{i}", event=f"e{i}", col=3 * i) for i in range(5)]
    scenes.append(scene("twin", event="e9", col=0.5))
    result = assign_folds(manifest(scenes), folds=2, fold=0, hold_out=["e0"])
    assert {s.name for s in result.scenes if s.split == "test"} == {"s0", "twin"}
    assert Counter(s.split for s in result.scenes) == {"train": 2, "validation": 2, "test": 2}


def test_the_choice_is_noted():
    options = assign_folds(tiles(), folds=3, fold=1, group_zoom=19).options
    assert options == {"split": "folds", "split_fold": "1 of 3", "split_group_zoom": "19"}


def test_fewer_groups_than_folds_are_an_error():
    with pytest.raises(DataError, match="1 separate groups of scenes cannot be dealt out to 7 folds"):
        assign_folds(tiles(), folds=7, fold=0)


def test_a_zoom_needs_georeference():
    with pytest.raises(DataError, match="scene a has no georeference"):
        assign_folds(manifest([scene("a", grid=None), scene("b")]), folds=2, fold=0, group_zoom=19)


def test_an_unknown_event_cannot_be_held_out():
    with pytest.raises(DataError, match="no event 'moon'"):
        assign_folds(tiles(), folds=2, fold=0, hold_out=["moon"])


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (3, 3), (3, -1)])
def test_a_fold_has_to_exist(folds, fold):
    with pytest.raises(ValueError, match="counted from 0"):
        assign_folds(tiles(), folds=folds, fold=fold)
