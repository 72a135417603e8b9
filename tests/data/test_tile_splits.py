"""Training and validation tiles: by large image, and as the original draws them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.incremental.tile_filters import bernoulli_split, source_split
from aftermap.data.scene import Scene, Tile
from aftermap.errors import DataError


def tiles(*sources):
    made = []
    for number, source in enumerate(sources):
        tile = Tile(source=source, row=0, col=8 * number, height=8, width=800) if source else None
        made.append(Scene(name=f"t{number:03d}", event="e", pre=Path("a.png"), width=8, height=8, tile=tile))
    return made


def test_twenty_tiles_are_drawn_as_published():
    train, validation = bernoulli_split(20, 1337)
    assert validation == [7, 13]
    assert sorted(train + validation) == [*range(20)]


@pytest.mark.parametrize(("count", "train", "validation"), [(3456, 3116, 340), (5400, 4850, 550)])
def test_published_datasets_are_drawn_as_published(count, train, validation):
    drawn = bernoulli_split(count, 1337)
    assert [len(part) for part in drawn] == [train, validation]
    assert drawn[1][:10] == [7, 13, 31, 37, 49, 53, 57, 58, 67, 69]


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=30), st.integers(0, 9), st.floats(0.05, 0.6))
@settings(max_examples=60)
def test_no_image_is_on_both_sides(sources, seed, fraction):
    if len(set(sources)) < 2:
        return
    scenes, sets = tiles(*sources), [frozenset({0})] * len(sources)
    train, validation = source_split(scenes, sets, fraction=fraction, seed=seed)
    assert train
    assert validation
    assert sorted(train + validation) == [*range(len(sources))]
    assert not {sources[i] for i in train} & {sources[i] for i in validation}


def test_the_order_of_the_tiles_does_not_matter():
    names = "aabbccddee"
    scenes, sets = tiles(*names), [frozenset({ord(n) % 3}) for n in names]
    held = {names[i] for i in source_split(scenes, sets, seed=4)[1]}
    turned = {names[::-1][i] for i in source_split(scenes[::-1], sets[::-1], seed=4)[1]}
    assert held == turned


def test_the_share_is_met_to_within_one_image():
    scenes = tiles(*[f"image{n}" for n in range(10) for _ in range(6)])
    train, validation = source_split(scenes, [frozenset({1})] * 60, fraction=0.2)
    assert (len(train), len(validation)) == (48, 12)


def test_seeds_choose_differently():
    scenes = tiles(*[f"image{n}" for n in range(12)])
    held = {tuple(source_split(scenes, [frozenset({1})] * 12, seed=seed)[1]) for seed in range(8)}
    assert len(held) > 3


@pytest.mark.parametrize("seed", range(6))
def test_validation_takes_the_image_with_most_classes_that_training_can_spare(seed):
    # d alone has class 9; of the others b has most classes
    sets = [frozenset(s) for s in ({1}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3, 9}, {1, 3})]
    assert source_split(tiles(*"abcde"), sets, seed=seed)[1] in ([1], [2])


def test_scenes_that_are_whole_images_are_split_one_by_one():
    assert [len(part) for part in source_split(tiles(*[None] * 10), [frozenset({1})] * 10)] == [9, 1]


def test_tiles_of_one_image_are_refused():
    with pytest.raises(DataError, match="all 3 tiles are of one image"):
        source_split(tiles(*"aaa"), [frozenset({1})] * 3)


@pytest.mark.parametrize("fraction", [0, 1, -0.1])
def test_shares_of_nothing_or_all_are_refused(fraction):
    with pytest.raises(ValueError, match="expected a share above 0 and below 1"):
        bernoulli_split(10, 0, fraction)
