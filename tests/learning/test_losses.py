import math

import pytest
import torch
import torch.nn.functional as F

from aftermap.classes import IGNORE
from aftermap.learning.configs.terms import RegionTerm
from aftermap.learning.losses import region
from aftermap.learning.losses.pixel import cross_entropy, focal
from aftermap.learning.objectives.terms import term_value, truth_of


def logits_of(probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()[None, :, None, :]


def test_cross_entropy_by_hand():
    # two pixels: p(true) = 0.5 and 0.25
    logits = logits_of([[0.5, 0.75], [0.5, 0.25]])
    loss = cross_entropy(logits, torch.tensor([[[0, 1]]]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-12)


def test_weighted_cross_entropy_divides_by_the_weights():
    logits, target = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randint(0, 3, (2, 4, 5))
    target[0, 0] = IGNORE
    weights = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    expected = F.cross_entropy(logits, target, weight=weights, ignore_index=IGNORE)
    assert cross_entropy(logits, target, weights).item() == pytest.approx(expected.item(), abs=1e-12)


def soft_dice(logits, target):
    """The default Dice term: over the softmax, mean of the classes that occur."""
    return term_value(RegionTerm(loss="dice"), logits, truth_of(target, logits.shape[1], None), None)


def test_soft_dice_by_hand():
    # class 0: overlap .5, size .5+.75 +1; class 1: overlap .25, size .5+.25 + 1
    logits = logits_of([[0.5, 0.75], [0.5, 0.25]])
    expected = ((1 - 2 * 0.5 / 2.25) + (1 - 2 * 0.25 / 1.75)) / 2
    assert soft_dice(logits, torch.tensor([[[0, 1]]])).item() == pytest.approx(expected, abs=1e-6)


def test_soft_dice_leaves_out_absent_classes():
    logits = logits_of([[0.5, 0.75], [0.5, 0.25]])
    expected = 1 - 2 * 1.25 / (1.25 + 2)
    assert soft_dice(logits, torch.tensor([[[0, 0]]])).item() == pytest.approx(expected, abs=1e-6)


def test_focal_by_hand():
    logits = logits_of([[0.5, 0.75], [0.5, 0.25]])
    expected = (0.25 * math.log(2) + 0.5625 * math.log(4)) / 2
    assert focal(logits, torch.tensor([[[0, 1]]])).item() == pytest.approx(expected, abs=1e-12)


def test_focal_without_focus_is_cross_entropy():
    logits, target = torch.randn(2, 5, 6, 6), torch.randint(0, 5, (2, 6, 6))
    assert torch.allclose(focal(logits, target, gamma=0.0), cross_entropy(logits, target), atol=1e-6)


def test_dice_pools_the_batch_or_averages_the_images():
    p = torch.tensor([0.5, 0.5, 1.0, 0.0]).reshape(2, 1, 1, 2)
    truth = torch.tensor([True, False, True, False]).reshape(2, 1, 1, 2)
    pooled = 1 - 2 * 1.5 / (2 + 2)
    each = ((1 - 2 * 0.5 / 2) + (1 - 2 * 1 / 2)) / 2
    assert region.dice(p, truth).item() == pytest.approx(pooled, abs=1e-6)
    assert region.dice(p, truth, per_image=True).item() == pytest.approx(each, abs=1e-6)
