"""Optimizers, schedules and frozen parts of MiB, PLOP and MiB-CD, against torch and by hand."""

import math
import random

import pytest
import torch
from torch import nn

from aftermap.data.batch import Batch
from aftermap.errors import TrainingError
from aftermap.learning.configs.optimizer import OptimizerConfig, PlateauConfig, PolyConfig, StepConfig
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.loop import Training, fit
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.optimizer import Plateau, build_optimizer, lr_factor
from aftermap.learning.trainable import FrozenNorm, fix_norm, tune_only
from small_networks import Small


class Noise:
    def batch(self, index):
        g = torch.Generator().manual_seed(index)
        return Batch(torch.randn(2, 1, 3, 8, 8, generator=g), torch.randint(0, 2, (2, 8, 8), generator=g))


def training(steps=8, *, objective=None, model=None, **options):
    torch.manual_seed(0)
    model = model or Small()
    config = OptimizerConfig(lr=0.01, **options)
    objective = objective or Supervised(SupervisedConfig())
    return Training(model, objective, config, steps=steps, seed=3, precision="no")


def test_the_poly_schedule_is_mibs():
    base, least = 0.01, 1e-6
    schedule = PolyConfig(kind="poly", floor=least / base)
    for step in range(51):
        expected = max(base * (1 - step / 50) ** 0.9, least)
        assert base * lr_factor(schedule, step, steps=50) == pytest.approx(expected, rel=1e-15)
    assert lr_factor(PolyConfig(kind="poly", power=1), 25, steps=100) == 0.75


def test_the_step_schedule_counts_optimizer_steps():
    schedule = StepConfig(kind="step", every=3, gamma=0.5)
    assert [lr_factor(schedule, n, steps=9) for n in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    "options", [{}, {"patience": 1, "cooldown": 2, "gamma": 0.5}, {"patience": 0, "floor": 0.2}]
)
def test_a_plateau_is_that_of_torch(options):
    config = PlateauConfig(kind="plateau", **({"patience": 3} | options))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=config.gamma, patience=config.patience, threshold=config.threshold,
        cooldown=config.cooldown, min_lr=config.floor, eps=0,
    )  # fmt: skip
    ours, draws = Plateau(config), random.Random(4)
    scores = [0.5 + 0.3 * draws.random() * (n < 20) + 1e-6 * n for n in range(60)]
    for number, score in enumerate(scores):
        torchs.step(score)
        ours.judge(score)
        assert ours.factor == optimizer.param_groups[0]["lr"]
        if number == 30:
            state, ours = ours.state(), Plateau(config)
            ours.restore(state)
    assert ours.factor < 1
    assert not Plateau(config).judge(math.nan) or config.patience == 0


def test_a_run_lowers_its_rate_where_it_is_judged_and_goes_on_from_there(tmp_path):
    options = {"schedule": PlateauConfig(kind="plateau", patience=0, gamma=0.5)}
    whole = training(**options)
    rates = []
    for step in fit(whole, Noise()):
        rates.append(step.lr)
        whole.judged(0.5)  # a gain at first, never after
        if step.number == 4:
            whole.save(tmp_path / "resume")
    assert rates == [0.01, 0.01, *(0.01 * 0.5**n for n in range(1, 7))]
    other = training(**options)
    other.load(tmp_path / "resume")
    assert next(fit(other, Noise())).lr == rates[4]


def test_the_decay_of_adam_goes_into_its_moments():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data[:] = 2.0
    config = OptimizerConfig(algorithm="adam", lr=0.1, weight_decay=0.5, decay_all=True)
    optimizer = build_optimizer(config, model)
    m = v = 0.0
    p = 2.0
    for t, g in enumerate((1.0, -3.0), 1):
        model.weight.grad = torch.full((1, 1), g)
        optimizer.step()
        g += 0.5 * p
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert model.weight.item() == pytest.approx(p, abs=1e-6)


def test_nesterov_looks_ahead():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data[:] = 1.0
    optimizer = build_optimizer(
        OptimizerConfig(algorithm="sgd", lr=0.1, weight_decay=0, betas=(0.5, 0.0), nesterov=True), model
    )
    for gradient in (1.0, 2.0):
        model.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    # v1 = 1, p = 1 - 0.1 (1 + 0.5) = 0.85; v2 = 0.5 + 2 = 2.5, p = 0.85 - 0.1 (2 + 1.25) = 0.525
    assert model.weight.item() == pytest.approx(0.525)
    with pytest.raises(ValueError, match="nesterov is of the algorithm sgd"):
        OptimizerConfig(nesterov=True)


@pytest.mark.parametrize("norm", ["learned", "fixed", "compat-fixed"])
def test_batch_normalisation_stays_as_it_is(norm):
    model = Small()
    objective = fix_norm(model, Supervised(SupervisedConfig()), norm)
    assert isinstance(objective, FrozenNorm) == (norm == "fixed")
    layer = model.encoder[1]
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    for _ in fit(training(3, objective=objective, model=model), Noise()):
        pass
    moved = {name for name, value in layer.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    assert (
        moved
        == {"learned": statistics | {"weight", "bias"}, "fixed": set(), "compat-fixed": statistics}[norm]
    )


def test_a_frozen_encoder_keeps_its_weights():
    model = Small()
    tune_only(model, "decoder")
    before = {name: value.clone() for name, value in model.named_parameters()}
    for _ in fit(training(2, model=model), Noise()):
        pass
    moved = {
        name.partition(".")[0] for name, v in model.named_parameters() if not torch.equal(v, before[name])
    }
    assert moved == {"decoder", "head"}


def test_a_run_begins_with_the_moments_of_another(tmp_path):
    first = training()
    for _ in fit(first, Noise()):
        pass
    first.save_optimizer(tmp_path / "optimizer.pt")
    second = training(weight_decay=0.3)
    rate = second._optimizer.param_groups[0]["lr"]
    second.load_optimizer(tmp_path / "optimizer.pt")
    theirs = first._optimizer.state_dict()["state"]
    ours = second._optimizer.state_dict()["state"]
    assert all(torch.equal(ours[k]["exp_avg_sq"], theirs[k]["exp_avg_sq"]) for k in theirs)
    assert [g["weight_decay"] for g in second._optimizer.param_groups] == [0.3, 0.0]
    assert second._optimizer.param_groups[0]["lr"] == rate
    (tmp_path / "none.pt").write_text("nothing")
    for name, options in (("absent.pt", {}), ("none.pt", {}), ("optimizer.pt", {"algorithm": "sgd"})):
        with pytest.raises(TrainingError, match="cannot begin with the optimizer of"):
            training(**options).load_optimizer(tmp_path / name)
