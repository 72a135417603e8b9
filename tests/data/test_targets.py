"""Training targets of the xView2 winner (P4) and their properties."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.classes import IGNORE
from aftermap.data.loading.damage_targets import DamageTargets
from aftermap.data.loading.targets import (
    channels_of,
    damage_channels,
    damage_index,
    known,
    validation_channels,
    validation_index,
)

PICTURE = """
111112222222....
111112222222....
111112222222....
111112222222....
111112222222....
1111122222224444
.....33333334444
.....33333334444
.....33333334444
.....33333334444
1144433333334444
114444444.444444
114444444.......
114444444....222
114444444....222
114444444....222
"""


def example():
    """Damage labels (1, 16, 16) of P4."""
    mask = torch.zeros(1, 16, 16, dtype=torch.long)
    for value, rows, cols in (
        (1, (1, 4), (1, 4)), (2, (1, 4), (7, 10)), (3, (6, 9), (7, 10)), (4, (7, 10), (12, 15)),
        (1, (12, 15), (1, 4)), (4, (12, 15), (4, 7)), (2, (15, 16), (15, 16)),
    ):  # fmt: skip
        mask[0, slice(*rows), slice(*cols)] = value
    return mask


def test_the_winners_target_of_a_softmax_model():
    channels = damage_channels(example(), DamageTargets())
    assert channels.sum((0, 2, 3)).tolist() == [60, 42, 51, 35, 68]
    assert (channels.sum(1) == 1).all()
    expected = [[0 if c == "." else int(c) for c in line] for line in PICTURE.split()]
    assert damage_index(example(), DamageTargets())[0].tolist() == expected


def test_the_winners_target_of_its_sigmoid_model():
    channels = damage_channels(example(), DamageTargets(channel_0="building"))
    assert channels.sum((0, 2, 3)).tolist() == [196, 42, 51, 35, 68]
    assert torch.equal(channels[:, 0], channels[:, 1:].any(1))


def test_localization_is_not_dilated():
    mask = (example() > 0).long()
    mask[0, 5, 0] = 1
    assert channels_of(mask, 1).sum().item() == 56


def test_without_dilation_the_channels_are_the_classes():
    assert torch.equal(damage_index(example(), DamageTargets(dilation_px=1)), example())


def test_the_outside_of_the_image_dilates_nothing():
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, 0, 0] = 3
    found = damage_channels(mask, DamageTargets())
    assert found[0, 3].nonzero().tolist() == [[r, c] for r in range(3) for c in range(3)]


def test_what_the_winner_validated_against():
    damage = example()
    building = (damage > 0).long()
    building[0, 5, 0] = 1
    assert validation_channels(building, damage).sum((0, 2, 3)).tolist() == [56, 18, 10, 9, 18]
    assert validation_index(damage).unique(return_counts=True)[1].tolist() == [219, 10, 9, 18]


def test_ignored_pixels_stay_ignored_whatever_is_near():
    mask = example()
    mask[0, 0:3, 6:9] = IGNORE
    index = damage_index(mask, DamageTargets())
    assert (index[mask == IGNORE] == IGNORE).all()
    assert not damage_channels(mask, DamageTargets()).any(1)[index == IGNORE].any()


def test_within_reach_of_an_unknown_building_there_is_no_background():
    mask = torch.zeros(1, 1, 8, dtype=torch.long)
    mask[0, 0, 0], mask[0, 0, 4] = IGNORE, 1
    # the unknown spreads over two pixels of background; the known building keeps all of its reach
    assert damage_index(mask, DamageTargets())[0, 0].tolist() == [IGNORE, IGNORE, 1, 1, 1, 1, 1, 0]


def test_without_dilation_nothing_unknown_spreads():
    mask = example()
    mask[0, 0:3, 6:9] = IGNORE
    assert torch.equal(damage_index(mask, DamageTargets(dilation_px=1)), mask)


def test_classes_win_in_the_order_of_their_priority():
    mask = torch.tensor([[[1, 4, 3, 2]]])

    def wins(order):
        return damage_index(mask, DamageTargets(dilation_px=7, priority=order)).unique().tolist()

    assert [wins(o) for o in ((2, 3, 4, 1), (4, 3, 2, 1), (1, 2, 3, 4))] == [[2], [4], [1]]


def by_pooling(mask, size):
    """The spec's rule word for word: dilate, then minor over major over destroyed over no-damage."""
    m1, m2, m3, m4 = (
        F.max_pool2d((mask == k).float()[:, None], size, 1, size // 2)[:, 0] > 0 for k in range(1, 5)
    )
    m1 = m1 & ~(m2 | m3 | m4)
    m3, m4 = m3 & ~m2, m4 & ~m2
    m4 = m4 & ~m3
    return torch.stack([~(m1 | m2 | m3 | m4), m1, m2, m3, m4], dim=1)


@given(st.integers(0, 10_000), st.sampled_from([1, 3, 5, 9]), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=60)
def test_targets_equal_dilation_by_pooling(seed, size, height, width):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 5, (2, height, width), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < 0.8] = 0
    assert torch.equal(damage_channels(mask, DamageTargets(dilation_px=size)), by_pooling(mask, size))


def test_channels_hold_one_class_each_where_it_is_known():
    mask = torch.randint(0, 5, (2, 9, 9), generator=torch.Generator().manual_seed(0))
    mask[0, :3] = IGNORE
    assert torch.equal(channels_of(mask, 5).sum(1).bool(), known(mask))
    assert torch.equal(channels_of(mask, 5, "building")[:, 0], (mask > 0) & known(mask))


@pytest.mark.parametrize("bad", [{"dilation_px": 4}, {"priority": (1, 2)}])
def test_impossible_targets_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        damage_channels(example(), DamageTargets(**bad))
