"""Turned batches: exact where turns are quarter turns, the same for images, masks and features."""

from collections import Counter

import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.learning.objectives.turned_views import Turns, draw_turns

SQUARE = torch.arange(16).reshape(1, 4, 4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(samples, seed=0, **given):
    options = {"square": True, "flips": True, "rotation": "quarter-turns", "alike": False} | given
    return draw_turns(samples, generator=generator(seed), **options)


@pytest.mark.parametrize(
    ("element", "rows"),
    [
        (0, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]),
        (1, [[3, 7, 11, 15], [2, 6, 10, 14], [1, 5, 9, 13], [0, 4, 8, 12]]),
        (2, [[15, 14, 13, 12], [11, 10, 9, 8], [7, 6, 5, 4], [3, 2, 1, 0]]),
        (3, [[12, 8, 4, 0], [13, 9, 5, 1], [14, 10, 6, 2], [15, 11, 7, 3]]),
        (4, [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8], [15, 14, 13, 12]]),
        (6, [[12, 13, 14, 15], [8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]),
    ],
)
def test_quarter_turns_are_counter_clockwise_and_exact(element, rows):
    assert Turns((element,)).masks(SQUARE)[0].tolist() == rows


def test_the_eight_elements_are_eight_different_turns():
    assert len({tuple(Turns((e,)).masks(SQUARE).flatten().tolist()) for e in range(8)}) == 8


def test_each_sample_takes_its_own_turn():
    values = torch.rand(6, 2, 3, 4, 4)
    elements = (5, 0, 3, 5, 1, 0)
    together = Turns(elements).images(values)
    alone = torch.cat([Turns((e,)).images(values[i : i + 1]) for i, e in enumerate(elements)])
    assert torch.equal(together, alone)


def test_gradients_come_back_to_the_pixel_they_belong_to():
    values = torch.rand(2, 1, 3, 3, requires_grad=True)
    turns = Turns((1, 6))
    weight = torch.rand(2, 1, 3, 3)
    (turns.images(values) * weight).sum().backward()
    assert torch.equal(values.grad, Turns((3, 6)).images(weight))


@pytest.mark.parametrize("angle", [90.0, 180.0, 270.0])
def test_free_rotation_agrees_with_quarter_turns(angle):
    image = torch.rand(1, 2, 8, 8, dtype=torch.float64)
    mask = torch.randint(0, 6, (1, 8, 8))
    free, exact = Turns((0,), (angle,)), Turns((int(angle // 90),))
    torch.testing.assert_close(free.images(image), exact.images(image))
    assert torch.equal(free.masks(mask), exact.masks(mask))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_of_a_published_crop_move_features_as_they_are(quarters):
    features = torch.rand(1, 2, 512, 512, generator=generator())
    exact = Turns((quarters,)).images(features)
    assert torch.equal(exact, torch.rot90(features, quarters, (-2, -1)))
    free = Turns((0,), (90.0 * quarters,)).images(features)
    assert (free - exact).abs().max().item() == pytest.approx(0, abs=1e-4)  # 0 in the original


def test_free_rotation_keeps_the_shape_of_things_in_an_oblong_image():
    image = torch.zeros(1, 1, 9, 17)
    image[0, 0, 4, 11] = 1.0  # 3 px right of the centre
    turned = Turns((0,), (90.0,)).images(image)
    assert (turned[0, 0] > 0.99).nonzero().tolist() == [[1, 8]]  # 3 px above it


def test_corners_from_outside_are_unknown_and_not_inside():
    turns = Turns((0,), (45.0,))
    mask = turns.masks(torch.ones(1, 16, 16, dtype=torch.int64))
    inside = turns.inside(torch.zeros(1, 3, 16, 16))
    assert mask[0, 0, 0] == IGNORE and mask[0, 8, 8] == 1
    assert not inside[0, 0, 0] and inside[0, 8, 8]
    image = turns.images(torch.ones(1, 1, 16, 16))
    assert torch.equal(inside, image[:, 0] > 1 - 1e-4)


def test_quarter_turns_leave_nothing_outside():
    assert Turns((1,)).inside(SQUARE[:, None]) is None


def test_unknown_pixels_stay_unknown_when_rotated():
    mask = torch.full((1, 8, 8), IGNORE)
    assert Turns((0,), (30.0,)).masks(mask).eq(IGNORE).all()


def test_all_eight_elements_are_equally_likely():
    counts = Counter(drawn(8000).elements)
    assert sorted(counts) == list(range(8))
    assert all(abs(n - 1000) < 150 for n in counts.values())


def test_one_draw_per_batch_turns_all_alike():
    assert all(len(set(drawn(5, seed, alike=True).elements)) == 1 for seed in range(9))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"flips": False}, {0, 1, 2, 3}),
        ({"rotation": "none"}, {0, 4, 6}),
        ({"square": False}, {0, 2, 4, 6}),
        ({"square": False, "flips": False}, {0, 2}),
        ({"rotation": "free"}, {0, 4}),
    ],
)
def test_only_wanted_turns_are_drawn(options, expected):
    assert set(drawn(200, **options).elements) == expected


def test_free_angles_are_drawn_for_each_sample():
    assert len(set(drawn(4, rotation="free").angles)) == 4


def test_a_draw_repeats_with_its_seed():
    assert drawn(9, seed=3) == drawn(9, seed=3) != drawn(9, seed=4)


def test_oblong_maps_refuse_odd_turns():
    with pytest.raises(ValueError, match="2 x 4"):
        Turns((1,)).masks(torch.zeros(1, 2, 4))


def test_turns_of_another_batch_are_refused():
    with pytest.raises(ValueError, match="batch of 1"):
        Turns((1, 2)).masks(SQUARE)
