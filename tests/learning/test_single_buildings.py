"""Labels of single buildings: what they say of levels, and what they leave alone."""

import math

import torch
from torch import nn

from aftermap.classes import IGNORE
from aftermap.data.batch import Batch
from aftermap.learning.objectives.single_buildings import SingleBuildings


class Biased(nn.Module):
    """Answers the same logits everywhere."""

    def __init__(self, logits):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(logits))

    def forward(self, image):
        return self.bias[None, :, None, None].expand(len(image), -1, *image.shape[-2:])


def batch(*labels):
    mask = torch.full((1, 2, 4), IGNORE)
    mask.view(-1)[: len(labels)] = torch.tensor(labels)
    return Batch(torch.zeros(1, 2, 3, 2, 4), mask)


def test_a_level_is_told_among_levels_alone_and_unknown_ground_says_nothing():
    model = Biased([3.0, 0.0, 0.0, math.log(2), 0.0])
    terms = SingleBuildings(model)(model, batch(3, 3))
    assert math.isclose(terms["level"].item(), -math.log(2 / 5), rel_tol=1e-6)
    assert terms["background"].item() == 0 and terms["held"].item() == 0
    sum(terms.values()).backward()
    assert abs(model.bias.grad[0].item()) < 1e-7 and model.bias.grad[3].item() < 0


def test_ground_that_is_no_building_says_background():
    model = Biased([0.0] * 5)
    terms = SingleBuildings(model)(model, batch(0, 1))
    assert math.isclose(terms["background"].item(), math.log(5) / 2, rel_tol=1e-6)
    assert math.isclose(terms["level"].item(), math.log(4) / 2, rel_tol=1e-6)


def test_what_was_said_of_building_or_not_is_held():
    model = Biased([0.0, 0.0, 0.0, 0.0, 0.0])
    objective = SingleBuildings(model, hold=2.0)
    with torch.no_grad():
        model.bias[0] = math.log(12)  # building at 1/4 in place of 4/5
    divergence = 0.8 * math.log(0.8 / 0.25) + 0.2 * math.log(0.2 / 0.75)
    held = objective(model, batch(1))["held"]
    assert math.isclose(held.item(), 2 * divergence, rel_tol=1e-5)
