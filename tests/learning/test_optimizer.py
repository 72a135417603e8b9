"""Schedules and optimizers against the worked numbers of the published systems."""

import pytest
import torch
from torch import nn

from aftermap.errors import RecipeError
from aftermap.learning.optimizer import (
    BiasedEpsilonAdamW,
    CosineConfig,
    MultistepConfig,
    OptimizerConfig,
    build_optimizer,
    lr_factor,
)


def used(base, milestones, epochs, *, late=True, steps_per_epoch=3):
    """Learning rate of each epoch, which must not change inside it."""
    schedule = MultistepConfig(kind="multistep", milestones=milestones, compat_one_epoch_late=late)
    rates = []
    for epoch in range(epochs):
        inside = {
            base * lr_factor(schedule, step, steps=99, steps_per_epoch=steps_per_epoch)
            for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch)
        }
        assert len(inside) == 1
        rates.append(inside.pop())
    return rates


def changes(rates):
    return [e for e in range(1, len(rates)) if rates[e] != rates[e - 1]]


def test_rates_of_the_winners_resnet34_localization():
    rates = used(1.5e-4, (5, 11, 17, 25, 33, 47, 50, 60), 55)
    assert changes(rates) == [6, 12, 18, 26, 34, 48, 51]
    assert [rates[e] for e in (0, 6, 12, 18, 26, 34, 48, 51)] == pytest.approx(
        [1.5e-4, 7.5e-5, 3.75e-5, 1.875e-5, 9.375e-6, 4.6875e-6, 2.34375e-6, 1.171875e-6]
    )


def test_rates_of_the_winners_tuning_of_seresnext50_localization():
    rates = used(4e-5, (1, 2, 3, 4, 5, 7, 9, 11), 12)
    assert rates == pytest.approx(
        [
            4e-5,
            4e-5,
            2e-5,
            1e-5,
            5e-6,
            2.5e-6,
            1.25e-6,
            1.25e-6,
            6.25e-7,
            6.25e-7,
            3.125e-7,
            3.125e-7,
        ]
    )


def test_without_the_delay_a_milestone_starts_the_lower_rate():
    assert used(1.0, (1, 3), 5, late=False) == [1, 0.5, 0.5, 0.25, 0.25]


def test_a_multistep_schedule_without_epochs_is_refused():
    with pytest.raises(RecipeError, match="counts epochs"):
        lr_factor(MultistepConfig(kind="multistep", milestones=(1,)), 0, steps=5)


def test_cosine_warms_up_linearly_and_ends_at_its_final_fraction():
    schedule = CosineConfig(warmup_steps=4, final_fraction=0.1)
    assert [lr_factor(schedule, s, steps=14) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert lr_factor(schedule, 9, steps=14) == pytest.approx(0.1 + 0.9 * 0.5)
    assert lr_factor(schedule, 14, steps=14) == pytest.approx(0.1)


@pytest.mark.parametrize(("kind", "last"), [(BiasedEpsilonAdamW, -1.701985), (torch.optim.AdamW, -1.701984)])
def test_three_steps_of_adamw(kind, last):
    p = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    optimizer = kind([p], lr=0.1, weight_decay=0.01, eps=1e-8)
    seen = []
    for k in (1, 2, 3):
        p.grad = k * torch.tensor([0.5, -0.1, 0.0], dtype=torch.float64)
        optimizer.step()
        seen.append(p.detach().clone())
    assert seen[0].tolist() == pytest.approx([0.899, -1.898, 0.4995], abs=1e-6)
    assert seen[1].tolist() == pytest.approx([0.801583, -1.799584, 0.499001], abs=1e-6)
    assert seen[2].tolist() == pytest.approx([0.704981, last, 0.498502], abs=1.1e-6)


@pytest.mark.parametrize(
    ("kind", "value"), [(BiasedEpsilonAdamW, 0.99996936), (torch.optim.AdamW, 0.99949998)]
)
def test_epsilon_matters_for_a_tiny_gradient(kind, value):
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = kind([p], lr=1e-3, weight_decay=0.0, eps=1e-8)
    p.grad = torch.tensor([1e-8], dtype=torch.float64)
    optimizer.step()
    assert p.detach().item() == pytest.approx(value, abs=6e-8)  # the table holds float32 digits


def test_the_biased_epsilon_is_the_winners_formula_at_every_step():
    g = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.randn(5, generator=g, dtype=torch.float64))
    expected, m, v = p.detach().clone(), torch.zeros(5).double(), torch.zeros(5).double()
    optimizer = BiasedEpsilonAdamW([p], lr=0.01, weight_decay=0.1, eps=1e-3)
    for t in range(1, 6):
        grad = torch.randn(5, generator=g, dtype=torch.float64)
        p.grad = grad.clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        expected = expected - 0.1 * 0.01 * expected
        expected -= 0.01 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v.sqrt() + 1e-3)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=1e-12)


def test_decay_spares_biases_and_norms_unless_asked():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    spared = build_optimizer(OptimizerConfig(weight_decay=0.1), model).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in spared] == [(1, 0.1), (3, 0.0)]
    whole = build_optimizer(OptimizerConfig(weight_decay=0.1, decay_all=True), model).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in whole] == [(4, 0.1)]
