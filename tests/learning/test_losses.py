import math

import pytest
import torch
import torch.nn.functional as F

from aftermap.classes import IGNORE
from aftermap.learning.losses.segmentation import cross_entropy, focal, soft_dice

LOSSES = [cross_entropy, soft_dice, focal]


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


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_labels_costs_nothing(loss):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 4), IGNORE))
    value.backward()
    assert value.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_pixels_take_no_part(loss):
    torch.manual_seed(1)
    logits, target = torch.randn(1, 3, 4, 8), torch.randint(0, 3, (1, 4, 8))
    masked = target.clone()
    masked[..., 5:] = IGNORE
    expected = loss(logits[..., :5], target[..., :5])
    assert torch.allclose(loss(logits, masked), expected, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_extreme_logits_stay_finite(loss):
    logits = torch.tensor([[120.0, -120.0]]).reshape(1, 2, 1, 1).requires_grad_()
    for target in (0, 1):
        value = loss(logits, torch.full((1, 1, 1), target))
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()
