import copy

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from aftermap.config import build_config
from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.adapting import MetaConfig
from aftermap.learning.configs.optimizer import MultistepConfig, OptimizerConfig
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.loop import Training, fit
from aftermap.learning.meta import (
    Maml,
    adapt_to_support,
    bound_loss,
    learned_parameters,
    meta_gradient,
    norm_policy,
    refresh_statistics,
)
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.supervised import Supervised
from aftermap.models.build import build_model
from aftermap.models.configs import SiameseUnetConfig, UnetConfig
from aftermap.models.networks.dense import DenseModel


class Line(DenseModel):
    """f(x) = w x, on images of one pixel."""

    dates, classes, stride = 1, 1, 1

    def __init__(self, w=0.5):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward_features(self, image):
        return image[:, 0]

    def forward_head(self, features, size):
        return self.w * features


class SquaredError(Objective):
    def forward(self, model, batch):
        return {"mse": (model(batch.image)[:, 0] - batch.mask).square().mean()}


class CrossEntropy(Objective):
    """In the precision of the logits."""

    def forward(self, model, batch):
        return {"cross_entropy": F.cross_entropy(model(batch.image), batch.mask)}


def example():
    """Support (x = 1, y = 2), query (x = 2, y = 3)."""
    image = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1, 1)
    return Batch(image, torch.tensor([2, 3]).reshape(2, 1, 1))


EXAMPLE = {"inner_lr": 0.1, "inner_steps": 2, "support_shots": 1, "query_shots": 1, "task_set_size": 2}
CONSTANT = MultistepConfig(kind="multistep", milestones=())


def descend(steps=1, *, meta=None, **optimizer):
    """The weight after some meta steps on two copies of the example."""

    class Same:
        def batch(self, index):
            return example()

    config = MetaConfig(**EXAMPLE | {"reduction": "sum", "optimizer": "sgd"} | (meta or {}))
    sgd = {"lr": 0.1, "weight_decay": 0.0, "clip_norm": 0.0, "accumulate": 2, "schedule": CONSTANT}
    training = Training(
        Line(),
        Maml(SquaredError(), config),
        config.meta_step(OptimizerConfig(**sgd | optimizer)),
        steps=steps,
        seed=0,
        precision="no",
        steps_per_epoch=1,
    )
    for _ in fit(training, Same()):
        pass
    return float(training.model.w.detach())


class TestWorkedExample:
    def test_two_inner_steps_take_the_weight_to_one_point_naught_four(self):
        adapted = adapt_to_support(
            Line(), SquaredError(), Batch(example().image[:1], example().mask[:1]), MetaConfig(**EXAMPLE)
        )
        assert float(adapted["w"]) == pytest.approx(1.04, abs=1e-6)

    def test_the_second_order_gradient_is_minus_two_point_three_five_five_two(self):
        gradients, value = meta_gradient(Line(), SquaredError(), example(), MetaConfig(**EXAMPLE))
        assert float(value) == pytest.approx(0.8464, abs=1e-6)
        assert float(gradients["w"]) == pytest.approx(-2.3552, abs=1e-6)

    def test_the_first_order_gradient_is_minus_three_point_six_eight(self):
        config = MetaConfig(**EXAMPLE, first_order=True)
        gradients, value = meta_gradient(Line(), SquaredError(), example(), config)
        assert float(value) == pytest.approx(0.8464, abs=1e-6)
        assert float(gradients["w"]) == pytest.approx(-3.68, abs=1e-5)

    def test_two_tasks_sum_to_minus_four_point_seven_one_naught_four(self):
        model, maml = Line(), Maml(SquaredError(), MetaConfig(**EXAMPLE))
        for _ in range(2):
            maml(model, example())["query"].backward()
        assert float(model.w.grad) == pytest.approx(-4.710400, abs=1e-6)

    def test_one_step_on_the_sum_moves_the_weight_to_point_nine_seven_one_naught_four(self):
        assert descend() == pytest.approx(0.97104, abs=1e-6)

    def test_the_mean_over_the_tasks_moves_it_half_as_far(self):
        assert descend(meta={"reduction": "mean"}) == pytest.approx(0.5 + 0.1 * 2.3552, abs=1e-6)

    def test_three_epochs_do_not_leave_the_weight_where_it_was(self):
        assert descend(3) != pytest.approx(0.5, abs=0.1)

    def test_adamw_moves_the_weight_by_its_learning_rate(self):
        moved = descend(meta={"optimizer": "adamw"}, lr=0.01)
        assert moved == pytest.approx(0.51, abs=1e-5)


class Smooth(DenseModel):
    """Without kinks: where a rectifier switches, the adapted weights jump and finite differences say nothing."""

    dates, classes, stride = 1, 2, 1

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU())
        self.head = nn.Conv2d(6, 2, 1)

    def forward_features(self, image):
        return self.body(image[:, 0])

    def forward_head(self, features, size):
        return self.head(features)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_the_gradient_equals_that_of_finite_differences(norm):
    torch.manual_seed(0)
    model = Smooth().double()
    config = MetaConfig(inner_lr=0.3, inner_steps=3, support_shots=2, query_shots=2, norm=norm)
    maml, task = Maml(CrossEntropy(), config), random_task(dtype=torch.float64)
    maml(model, task)["query"].backward()
    direction = [torch.randn_like(p) for p in model.parameters()]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(model.parameters(), direction, strict=True))

    def value(step):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for p, d in zip(moved.parameters(), direction, strict=True):
                p += step * d
        return float(maml(moved, task)["query"].detach())

    assert slope == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-6)


def small(**changes):
    options = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (8, 8, 8)} | changes
    return UnetConfig(classes=2, **options)


def random_task(shots=4, dates=1, classes=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(shots, dates, 3, 32, 32, generator=generator, dtype=dtype)
    mask = torch.randint(0, classes, (shots, 32, 32), generator=generator)
    return Batch(image, mask)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize("first_order", [False, True])
def test_no_buffer_changes_while_a_task_is_learned(norm, first_order):
    torch.manual_seed(0)
    model = build_model(small()).train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    config = MetaConfig(
        inner_lr=0.1, inner_steps=2, support_shots=2, query_shots=2, norm=norm, first_order=first_order
    )
    Maml(Supervised(SupervisedConfig()), config)(model, random_task())["query"].backward()
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    assert all(m.training and m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_batch_statistics_of_one_image_per_pass_do_not_see_the_other_images():
    torch.manual_seed(0)
    model = build_model(small()).train()
    task = random_task()
    other = Batch(torch.cat([task.image[:1], 9 * task.image[1:]]), task.mask)
    objective = Supervised(SupervisedConfig())
    with norm_policy(model, "batch"):
        logits = []
        for batch in (task, other):
            seen = []
            handle = model.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out))
            bound_loss(model, objective, images_per_pass=1)(learned_parameters(model), batch)
            handle.remove()
            assert len(seen) == 4
            logits.append(seen[0])
    assert torch.equal(*logits)


def test_a_damage_model_learns_tasks_too():
    torch.manual_seed(0)
    config = SiameseUnetConfig(encoder_name="test_resnet", encoder_depth=3, decoder_channels=(8, 8, 8))
    model = build_model(config)
    meta = MetaConfig(inner_lr=0.05, inner_steps=1, support_shots=2, query_shots=2)
    objective = Supervised(SupervisedConfig())
    task = random_task(dates=2, classes=5)
    with norm_policy(model, "frozen"):
        gradients, before = meta_gradient(model, objective, task, meta)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p -= 0.05 * gradients[name]
        _, after = meta_gradient(model, objective, task, meta)
    assert float(after) < float(before)


class Attentive(DenseModel):
    """Fused attention over the pixels."""

    dates, classes, stride = 1, 2, 1

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(3, 24)
        self.head = nn.Linear(8, 2)

    def forward_features(self, image):
        q, k, v = self.project(image[:, 0].flatten(2).transpose(1, 2)).chunk(3, -1)
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]

    def forward_head(self, features, size):
        return self.head(features).transpose(1, 2).unflatten(2, size)


def test_a_model_with_fused_attention_has_a_second_derivative():
    torch.manual_seed(0)
    config = MetaConfig(inner_lr=0.1, inner_steps=1, support_shots=2, query_shots=2)
    gradients, _ = meta_gradient(Attentive(), Supervised(SupervisedConfig()), random_task(), config)
    assert float(gradients["project.weight"].abs().sum()) > 0


def test_frozen_weights_take_no_part():
    model = build_model(small())
    for p in model.encoder.parameters():
        p.requires_grad = False
    config = MetaConfig(inner_steps=1, support_shots=2, query_shots=2)
    with norm_policy(model, "frozen"):
        gradients, _ = meta_gradient(model, Supervised(SupervisedConfig()), random_task(), config)
    assert gradients and not [name for name in gradients if name.startswith("encoder.")]


def test_refreshed_statistics_are_those_of_the_batches():
    torch.manual_seed(0)
    model = build_model(small()).eval()
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    first.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    tasks = [random_task(), Batch(2 * random_task().image, random_task().mask)]
    refresh_statistics(model, tasks)
    expected = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    assert torch.allclose(first.running_mean, expected, atol=1e-6)
    assert not first.training and first.momentum == 0.1


def test_throwing_the_gradient_away_is_refused():
    with pytest.raises(RecipeError, match="compat_discard_meta_gradient is refused"):
        build_config(MetaConfig, {"compat_discard_meta_gradient": True})


def test_a_task_needs_support_and_query():
    with pytest.raises(ValidationError):
        MetaConfig(support_shots=0)
