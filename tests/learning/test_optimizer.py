"""Schedules and optimizers against the worked numbers of the published systems."""

import sys

import pytest
import torch
from torch import nn

from aftermap.errors import RecipeError
from aftermap.learning.configs.optimizer import CosineConfig, MultistepConfig, OneCycleConfig, OptimizerConfig
from aftermap.learning.optimizer import (
    BiasedEpsilonAdamW,
    build_optimizer,
    lr_factor,
    momentum_at,
    set_momentum,
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


ONE_CYCLE = OneCycleConfig(kind="one-cycle")
CYCLE_OF_2000 = {  # learning rate and beta1 by step, peak 2.259011271497254e-4
    0: (9.036045e-06, 0.950000),
    1: (9.037536e-06, 0.949999),
    10: (9.185145e-06, 0.949931),
    300: (1.177529e-04, 0.899869),
    598: (2.258996e-04, 0.850001),
    599: (2.259011e-04, 0.850000),
    600: (2.259008e-04, 0.850000),
    601: (2.259000e-04, 0.850001),
    1000: (1.831759e-04, 0.868913),
    1300: (1.126976e-04, 0.900112),
    1998: (1.187985e-09, 0.950000),
    1999: (9.036045e-10, 0.950000),
}
CYCLE_OF_20 = {  # peak 2e-4; the original's step 20 is past the end
    0: 8.0e-06,
    1: 2.633437e-05,
    2: 7.433437e-05,
    3: 1.336656e-04,
    4: 1.816656e-04,
    5: 2.0e-04,
    6: 1.974928e-04,
    10: 1.433886e-04,
    15: 3.765167e-05,
    19: 8.0e-10,
    20: 2.507999e-06,
}


@pytest.mark.parametrize("step", sorted(CYCLE_OF_2000))
def test_the_one_cycle_of_the_published_run(step):
    lr, beta = CYCLE_OF_2000[step]
    assert 2.259011271497254e-4 * lr_factor(ONE_CYCLE, step, steps=2000) == pytest.approx(lr, rel=1e-6)
    assert momentum_at(ONE_CYCLE, step, steps=2000) == pytest.approx(beta, abs=6e-7)


def test_the_one_cycle_of_a_short_run_and_its_step_past_the_end():
    original = OneCycleConfig(kind="one-cycle", compat_step_first=True)
    rates = {s: 2e-4 * lr_factor(ONE_CYCLE, s, steps=20) for s in range(20)}
    shifted = {s + 1: 2e-4 * lr_factor(original, s, steps=20) for s in range(20)}
    assert {s: rates[s] for s in CYCLE_OF_20 if s < 20} == pytest.approx(
        {s: lr for s, lr in CYCLE_OF_20.items() if s < 20}, rel=1e-6
    )
    assert {s: shifted[s] for s in CYCLE_OF_20 if s > 0} == pytest.approx(
        {s: lr for s, lr in CYCLE_OF_20.items() if s > 0}, rel=1e-6
    )
    assert {s: shifted[s] for s in range(1, 20)} == {s: rates[s] for s in range(1, 20)}


@pytest.mark.parametrize(
    ("steps", "share", "div", "final_div", "momentum"),
    [
        (37, 0.3, 25.0, 1e4, (0.85, 0.95)),
        (200, 0.1, 10.0, 100.0, (0.5, 0.9)),
        (11, 0.7, 2.0, 3.0, (0.0, 0.99)),
    ],
)
def test_the_one_cycle_is_that_of_torch(steps, share, div, final_div, momentum):
    schedule = OneCycleConfig(
        kind="one-cycle", warmup_share=share, div=div, final_div=final_div, momentum=momentum
    )
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(1))])
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        0.3,
        total_steps=steps,
        pct_start=share,
        div_factor=div,
        final_div_factor=final_div,
        base_momentum=momentum[0],
        max_momentum=momentum[1],
    )
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert 0.3 * lr_factor(schedule, step, steps=steps) == pytest.approx(group["lr"], rel=1e-9)
        assert momentum_at(schedule, step, steps=steps) == pytest.approx(group["betas"][0], rel=1e-9)
        optimizer.step()
        if step + 1 < steps:
            reference.step()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_too_short_to_warm_up_starts_at_the_peak(steps):
    assert lr_factor(ONE_CYCLE, 0, steps=steps) == 1
    assert momentum_at(ONE_CYCLE, 0, steps=steps) == pytest.approx(0.85)


def test_other_schedules_and_a_cycle_without_momentum_leave_it_alone():
    assert momentum_at(CosineConfig(), 3, steps=10) is None
    assert momentum_at(OneCycleConfig(kind="one-cycle", momentum=None), 3, steps=10) is None


@pytest.mark.parametrize("momentum", [(0.95, 0.85), (0.5, 1.0), (-0.1, 0.9)])
def test_a_momentum_that_makes_no_sense_is_refused(momentum):
    with pytest.raises(ValueError, match=r"expected \[lowest, highest\]"):
        OneCycleConfig(kind="one-cycle", momentum=momentum)


@pytest.mark.parametrize("algorithm", ["adamw", "radam", "lookahead-radam", "novograd"])
def test_the_momentum_is_the_first_beta_of_every_group(algorithm):
    optimizer = build_optimizer(
        OptimizerConfig(algorithm=algorithm, betas=(0.9, 0.99)), nn.Sequential(nn.Conv2d(3, 4, 3))
    )
    set_momentum(optimizer, 0.7)
    assert [group["betas"] for group in optimizer.param_groups] == [(0.7, 0.99)] * 2


def test_the_momentum_of_sgd_has_its_own_name():
    optimizer = build_optimizer(OptimizerConfig(algorithm="sgd"), nn.Linear(2, 2))
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]
    set_momentum(optimizer, 0.7)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.7, 0.7]


class Three(nn.Module):
    """Three numbers: 1, -2, 3."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))


def after(optimizer, p, steps, *, start=1):
    """The parameter after steps with gradients k (0.1, -0.2, 0.3), k counted from `start`."""
    for k in range(start, start + steps):
        p.grad = k * torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
        optimizer.step()
    return p.detach().tolist()


PUBLISHED_STEPS = [  # options, after 5 steps, after 12
    ({}, (0.510903, -1.505913, 2.500923), (-0.198393, -0.789673, 1.777739)),
    ({"compat_epsilon": True}, (0.510904, -1.505914, 2.500923), (-0.198392, -0.789674, 1.777739)),
    (
        {"compat_epsilon": True, "epsilon": 1e-2},
        (0.750793, -1.673695, 2.631415),
        (0.157182, -1.020773, 1.951797),
    ),
    ({"algorithm": "radam"}, (0.890789, -1.781578, 2.672367), (0.853969, -1.738541, 2.623113)),
    (
        {"algorithm": "novograd", "betas": (0.95, 0.0)},
        (0.611728, -1.223456, 1.835184),
        (-0.788869, 1.577738, -2.366607),
    ),
    ({"algorithm": "lookahead-radam"}, (0.890789, -1.781578, 2.672367), (0.926816, -1.868937, 2.811059)),
]


@pytest.mark.parametrize(("options", "five", "twelve"), PUBLISHED_STEPS)
def test_twelve_steps_of_the_published_optimizers(options, five, twelve):
    model = Three()
    config = OptimizerConfig(lr=0.1, weight_decay=0.01, decay_all=True, **options)
    optimizer = build_optimizer(config, model)
    # the table was computed in 32 bits, whose last digit is 1.2e-7 of a number near 1
    assert after(optimizer, model.p, 5) == pytest.approx(five, abs=2e-6)
    assert after(optimizer, model.p, 7, start=6) == pytest.approx(twelve, abs=2e-6)


def test_sgd_with_momentum_by_hand():
    model = Three()
    config = OptimizerConfig(
        algorithm="sgd", lr=0.1, weight_decay=0.01, decay_all=True, betas=(0.5, 0.0), clip_norm=0
    )
    optimizer = build_optimizer(config, model)
    # d1 = 0.1 + 0.01 * 1 = 0.11, p = 0.989; d2 = 0.5 * 0.11 + 0.2 + 0.00989 = 0.26489, p = 0.962511
    assert after(optimizer, model.p, 2)[0] == pytest.approx(0.962511, abs=1e-12)


def test_novograd_has_the_betas_of_its_paper_unless_told_otherwise():
    optimizer = build_optimizer(OptimizerConfig(algorithm="novograd"), nn.Linear(2, 2))
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.98)


def test_the_biased_epsilon_of_another_algorithm_is_refused():
    with pytest.raises(ValueError, match="compat_epsilon is of the algorithm adamw"):
        OptimizerConfig(algorithm="radam", compat_epsilon=True)


def test_an_algorithm_whose_package_is_missing_is_refused_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(RecipeError, match="needs the package pytorch-optimizer"):
        build_optimizer(OptimizerConfig(algorithm="novograd"), nn.Linear(2, 2))
