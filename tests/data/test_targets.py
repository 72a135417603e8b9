"""Training targets of the xView2 winner (P4) and their properties."""

import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.data.targets import DamageTargets, class_channels, class_index, damage_channels, known

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
    assert class_index(channels, example())[0].tolist() == expected


def test_the_winners_target_of_its_sigmoid_model():
    channels = damage_channels(example(), DamageTargets(channel_0="building"))
    assert channels.sum((0, 2, 3)).tolist() == [196, 42, 51, 35, 68]
    assert torch.equal(channels[:, 0], channels[:, 1:].any(1))
    assert not class_index(channels, example())[
        channels[:, 0]
    ].any()  # always 0, the first channel that is set


def test_localization_is_not_dilated():
    mask = (example() > 0).long()
    mask[0, 5, 0] = 1
    assert class_channels(mask, 1).sum().item() == 56


def test_without_dilation_the_channels_are_the_classes():
    channels = damage_channels(example(), DamageTargets(dilation_px=1))
    assert torch.equal(class_index(channels, example()), example())


def test_the_outside_of_the_image_dilates_nothing():
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, 0, 0] = 3
    found = damage_channels(mask, DamageTargets())
    assert found[0, 3].nonzero().tolist() == [[r, c] for r in range(3) for c in range(3)]


def test_ignored_pixels_stay_ignored_and_spread_nothing():
    mask = example()
    mask[0, 0:3, 6:9] = IGNORE
    channels = damage_channels(mask, DamageTargets())
    index = class_index(channels, mask)
    assert (index[mask == IGNORE] == IGNORE).all() and not (index[mask != IGNORE] == IGNORE).any()
    assert torch.equal(known(index), mask != IGNORE)
    ring = torch.full((1, 5, 5), IGNORE)
    ring[0, 0, 0] = 0
    assert damage_channels(ring, DamageTargets())[0, 0].all()


def test_classes_win_in_the_order_of_their_priority():
    mask = torch.tensor([[[1, 4, 3, 2]]])

    def wins(order):
        return (
            class_index(damage_channels(mask, DamageTargets(dilation_px=7, priority=order)), mask)
            .unique()
            .tolist()
        )

    assert [wins(o) for o in ((2, 3, 4, 1), (4, 3, 2, 1), (1, 2, 3, 4))] == [[2], [4], [1]]


@pytest.mark.parametrize("bad", [{"dilation_px": 4}, {"priority": (1, 2)}])
def test_impossible_targets_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        damage_channels(example(), DamageTargets(**bad))
