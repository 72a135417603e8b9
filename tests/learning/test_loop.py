import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from aftermap.data.batch import Batch
from aftermap.errors import TrainingError
from aftermap.learning.configs.optimizer import CosineConfig, OneCycleConfig, OptimizerConfig
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.loop import Training, fit
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.supervised import Supervised
from aftermap.models.build import build_model
from aftermap.models.configs import SiameseUnetConfig
from aftermap.models.networks.dense import DenseModel


class Tiny(DenseModel):
    dates, classes, stride = 1, 2, 1

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)
        )
        self.head = nn.Conv2d(8, 2, 1)

    def forward_features(self, image):
        return self.body(image[:, 0])

    def forward_head(self, features, size):
        return self.head(features)


class Squares:
    """Batch n is a function of n alone."""

    def batch(self, index):
        g = torch.Generator().manual_seed(index)
        mask = torch.zeros(2, 16, 16, dtype=torch.long)
        mask[:, 4:12, 4:12] = 1
        image = mask[:, None, None].float() + 0.3 * torch.randn(2, 1, 3, 16, 16, generator=g)
        return Batch(image, mask)


def new_training(steps=12, **options):
    torch.manual_seed(0)
    config = OptimizerConfig(lr=0.01, **{"schedule": CosineConfig(warmup_steps=4)} | options)
    return Training(Tiny(), Supervised(SupervisedConfig()), config, steps=steps, seed=3, precision="no")


def weights(training):
    return {k: v.clone() for k, v in training.model.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"schedule": OneCycleConfig(kind="one-cycle")},
        {"schedule": OneCycleConfig(kind="one-cycle", compat_step_first=True), "algorithm": "sgd"},
        {"schedule": OneCycleConfig(kind="one-cycle"), "algorithm": "radam"},
        {"schedule": OneCycleConfig(kind="one-cycle"), "algorithm": "novograd"},
        {"schedule": OneCycleConfig(kind="one-cycle"), "algorithm": "lookahead-radam"},
    ],
)
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, options):
    whole = new_training(**options)
    for _ in fit(whole, Squares()):
        pass
    first = new_training(**options)
    for step in fit(first, Squares()):
        if step.number == 5:
            first.save(tmp_path / "resume")
            break
    second = new_training(**options)
    torch.manual_seed(99)  # a new process starts with another random state
    second.load(tmp_path / "resume")
    assert second.step == 5
    for _ in fit(second, Squares()):
        pass
    ended, expected = weights(second), weights(whole)
    assert all(torch.equal(ended[k], expected[k]) for k in expected)


def test_the_loss_falls_on_one_repeated_batch():
    torch.manual_seed(0)
    batch = Batch(
        torch.randn(2, 2, 3, 32, 32),
        torch.randint(0, 5, (2, 4, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2),
    )

    class Same:
        def batch(self, index):
            return batch

    config = SiameseUnetConfig(encoder_name="resnet10t", encoder_depth=3, decoder_channels=(32, 32, 32))
    training = Training(
        build_model(config),
        Supervised(SupervisedConfig()),
        OptimizerConfig(lr=0.005, schedule=CosineConfig(warmup_steps=5)),
        60,
        0,
        "no",
    )
    losses = [step.loss for step in fit(training, Same())]
    assert losses[-1] < 0.15 * losses[0]


def test_learning_rate_warms_up_then_falls_as_a_cosine():
    rates = [step.lr for step in fit(new_training(), Squares())]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[8] == pytest.approx(0.01 * (0.01 + 0.99 * 0.5))  # half way from step 4 to 12
    assert all(a > b for a, b in pairwise(rates[4:]))


def test_one_cycle_sets_rate_and_momentum_of_every_step():
    training = new_training(schedule=OneCycleConfig(kind="one-cycle"))
    rates, betas = [], []
    for step in fit(training, Squares()):
        rates.append(step.lr)
        betas.append({group["betas"] for group in training._optimizer.param_groups})
    # 12 steps: the peak lies at 0.3 * 12 - 1 = 2.6, the end at 11
    share = (5 - 2.6) / (11 - 2.6)
    half = (1 + math.cos(math.pi * share)) / 2
    assert rates[0] == pytest.approx(0.01 / 25)
    assert rates[5] == pytest.approx(4e-8 + (0.01 - 4e-8) * half)
    assert rates[11] == pytest.approx(4e-8)
    assert betas[0] == {(0.95, 0.999)} and betas[11] == {(0.95, 0.999)}
    assert len(betas[5]) == 1 and betas[5].pop()[0] == pytest.approx(0.95 - 0.1 * half)


def test_accumulating_two_batches_equals_one_batch_of_both():
    class Mean(Objective):
        def forward(self, model, batch):
            return {"mean": (model(batch.image) - batch.mask[:, None]).square().mean()}

    class Doubled:
        def batch(self, index):
            a, b = Squares().batch(2 * index), Squares().batch(2 * index + 1)
            return Batch(torch.cat([a.image, b.image]), torch.cat([a.mask, b.mask]))

    def run(source, accumulate):
        torch.manual_seed(0)
        model = Tiny()
        model.body = nn.Conv2d(3, 8, 3, padding=1)  # no batch statistics, no dropout
        config = OptimizerConfig(lr=0.01, accumulate=accumulate)
        training = Training(model, Mean(), config, steps=3, seed=0, precision="no")
        for _ in fit(training, source):
            pass
        return training.model.head.weight

    assert torch.allclose(run(Squares(), 2), run(Doubled(), 1), atol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_with_its_name_and_step():
    class Bad(Objective):
        def forward(self, model, batch):
            value = model(batch.image).mean()
            return {"good": value, "broken": value * float("nan")}

    training = Training(Tiny(), Bad(), OptimizerConfig(), steps=3, seed=0, precision="no")
    with pytest.raises(TrainingError, match="step 0: term broken is nan"):
        next(fit(training, Squares()))


def test_gradients_are_clipped_to_the_norm():
    training = new_training(clip_norm=1e-9)
    before = weights(training)["head.weight"]
    next(fit(training, Squares()))
    moved = (weights(training)["head.weight"] - before).abs().max()
    assert moved < 0.01  # Adam's step is bounded by the warmed-up rate whatever the gradient


def test_resuming_from_nothing_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="cannot resume"):
        new_training().load(tmp_path)


def test_runs_of_different_precision_follow_one_another():
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16), ("no", torch.float32)):
        torch.manual_seed(0)
        training = Training(Tiny(), Seen(), OptimizerConfig(), steps=1, seed=0, precision=precision)
        next(fit(training, Squares()))
        assert training.objective.dtype == dtype


class Seen(Objective):
    """Notes the type that a convolution answers in."""

    def forward(self, model, batch):
        self.dtype = model.body[0](batch.image[:, 0]).dtype
        return {"mean": model(batch.image).float().mean()}


class Watched(Objective):
    """Notes the largest gradient that it is shown; `steepness` of the term."""

    def __init__(self, steepness=1.0):
        super().__init__()
        self.steepness, self.shown = steepness, []

    def forward(self, model, batch):
        return {"mean": self.steepness * model(batch.image).mean().abs().sqrt()}

    def after_backward(self, model, step):
        self.shown.append(max(p.grad.abs().max().item() for p in model.parameters()))


def shown_gradients(model, objective, clip_norm):
    config = OptimizerConfig(lr=0.01, clip_norm=clip_norm)
    next(fit(Training(model, objective, config, steps=1, seed=0, precision="no"), Squares()))
    return objective.shown


def test_an_objective_is_shown_gradients_before_they_are_clipped():
    values = []
    for clip_norm in (0.0, 1e-6):
        torch.manual_seed(0)
        values.append(shown_gradients(Tiny(), Watched(steepness=100.0), clip_norm))
    assert values[0] == values[1]
    assert values[0][0] > 1


def test_an_objective_is_not_shown_gradients_that_are_not_finite():
    model = Tiny()
    for parameter in model.parameters():
        parameter.data.zero_()  # the root's slope at 0 is infinite
    assert shown_gradients(model, Watched(), 1.0) == []
