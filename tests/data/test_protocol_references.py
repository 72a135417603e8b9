"""Lookups and tile filters of random tasks against rules written down label by label."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.incremental.protocol import Protocol
from aftermap.data.incremental.tile_filters import image_split, select_tiles
from aftermap.errors import DataError

UNKNOWN = 255


@st.composite
def tasks(draw):
    """A task that may leave classes out, own a background or not, with any switch."""
    count = draw(st.integers(2, 8))
    own = draw(st.one_of(st.none(), st.integers(0, count - 1)))
    learned = draw(st.permutations([label for label in range(count) if label != own]))
    learned = learned[: draw(st.integers(1, len(learned)))]
    steps = [[learned[0]]]
    for label in learned[1:]:
        if draw(st.booleans()):
            steps.append([])
        steps[-1].append(label)
    if own is not None and draw(st.booleans()):
        steps[0].insert(0, own)  # as the tables of datasets with a background have it
    return Protocol(
        task="drawn",
        classes=tuple(f"c{n}" for n in range(count)),
        background=own,
        steps=tuple(map(tuple, steps)),
        future=draw(st.sampled_from(["ignore", "background"])),
        seed=draw(st.integers(0, 9)),
        compat_new_only=draw(st.booleans()),
        compat_ignored_is_background=draw(st.booleans()),
        compat_background_selects=draw(st.booleans()),
        compat_ignored_excludes=draw(st.booleans()),
    )


def step_of(protocol, label):
    """When a class is learned; None for the background and for what is never learned."""
    return next((s for s, labels in enumerate(protocol.steps) if label in labels), None)


def expected(protocol, step, stage, label):
    if label >= len(protocol.classes):
        ground = protocol.compat_ignored_is_background and label == UNKNOWN and stage in ("train", "test")
        return 0 if ground else UNKNOWN
    learned = step_of(protocol, label)
    order = [label for labels in protocol.steps for label in labels]
    if learned == step:
        return 1 + order.index(label)
    if stage == "train":
        return 0
    if learned is None:
        return 0
    if stage == "validation" and protocol.compat_new_only:
        return UNKNOWN
    if learned < step:
        return 1 + order.index(label)
    return 0 if protocol.future == "background" else UNKNOWN


@given(tasks(), st.sampled_from(["train", "validation", "test"]))
@settings(max_examples=150)
def test_lookups_are_those_of_the_rules(protocol, stage):
    for step in range(len(protocol.steps)):
        wanted = [expected(protocol, step, stage, label) for label in range(256)]
        found = protocol.lookup(step, stage)
        assert found.dtype == np.uint8
        assert found.tolist() == wanted


def is_chosen(protocol, step, mode, labels):
    new = set(protocol.steps[step])
    if step == 0 and protocol.compat_background_selects and protocol.background is not None:
        new.add(protocol.background)
    if not any(label in new for label in labels):
        return False
    if mode == "overlapped":
        return True
    for label in labels:
        if label == UNKNOWN:
            if protocol.compat_ignored_excludes:
                return False
        elif (step_of(protocol, label) or 0) > step:
            return False
    return True


def dealt_out(protocol, tiles):
    """Tile by tile in the order of the seed, to the class with fewest so far."""
    order = random.Random(protocol.seed).sample(range(len(tiles)), len(tiles))
    counts, dealt = {}, {}
    for tile in order:
        present = [label for label in sorted(tiles[tile]) if step_of(protocol, label) is not None]
        if present:
            fewest = min(counts.get(label, 0) for label in present)
            dealt[tile] = next(label for label in present if counts.get(label, 0) == fewest)
            counts[dealt[tile]] = counts.get(dealt[tile], 0) + 1
    return dealt


TILES = st.lists(st.frozensets(st.sampled_from([*range(8), UNKNOWN]), max_size=5), max_size=14)


@given(tasks(), TILES)
@settings(max_examples=150)
def test_tiles_are_those_of_the_rules(protocol, tiles):
    tiles = [frozenset(t for t in tile if t < len(protocol.classes) or t == UNKNOWN) for tile in tiles]
    dealt = dealt_out(protocol, tiles)
    assert image_split(tiles, protocol) == [dealt.get(i) for i in range(len(tiles))]
    for step in range(len(protocol.steps)):
        wanted = {
            mode: [i for i, labels in enumerate(tiles) if is_chosen(protocol, step, mode, labels)]
            for mode in ("overlapped", "disjoint")
        }
        wanted["image-split"] = [i for i in range(len(tiles)) if dealt.get(i) in protocol.steps[step]]
        for mode, numbers in wanted.items():
            try:
                assert select_tiles(tiles, protocol, step, mode=mode) == numbers != []
            except DataError as error:
                assert numbers == []
                assert f"step {step} of task drawn" in str(error)
