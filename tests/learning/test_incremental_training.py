"""Steps of a task through the training loop: every method, from the first step to a grown model, in any number of
processes."""

import copy
import json

import pytest
import torch

import incremental_processes
from aftermap.config import build_config
from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental import PRESETS, IncrementalConfig
from aftermap.learning.configs.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.loop import Training, fit
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.objectives.turned_views import Turns
from aftermap.models.build import build_model
from aftermap.models.configs import ResidualUnetConfig, UnetConfig
from aftermap.models.growth import grow
from other_processes import exit_codes_of_two

SMALL = {
    "encoder_name": "resnet10t",
    "encoder_options": {"channels": [16, 16, 32, 32], "stem_width": 8},
    "encoder_depth": 3,
    "decoder_channels": (8, 8, 8),
}


class Squares:
    """A square of the step's class on a background that has another colour in every image; batch n is always the same."""

    def __init__(self, label, batches=100):
        self.label, self.batches = label, batches

    def batch(self, index):
        g = torch.Generator().manual_seed(index % self.batches)
        mask = torch.zeros(2, 32, 32, dtype=torch.long)
        image = 0.3 * torch.randn(2, 1, 3, 32, 32, generator=g)
        for row in range(2):
            top, left = torch.randint(0, 16, (2,), generator=g).tolist()
            mask[row, top : top + 16, left : left + 16] = self.label
            image[row, 0, self.label % 3, top : top + 16, left : left + 16] += 2
        return Batch(image, mask)


def config(**tree):
    return build_config(IncrementalConfig, tree)


def learn(model, objective, source, steps, lr=0.01):
    optimizer = OptimizerConfig(lr=lr, schedule=CosineConfig(warmup_steps=1))
    training = Training(model, objective, optimizer, steps=steps, seed=2, precision="no")
    return [step.terms for step in fit(training, source)]


def first_step(method, steps=2):
    torch.manual_seed(0)
    given = UnetConfig(**SMALL, classes=2)
    model = build_model(given)
    objective = Incremental(method, step=0, heads=[2])
    learn(model, objective, Squares(1), steps)
    return model, given, objective


def later_step(method, steps, batches=100, **options):
    """Terms of each optimizer step of step 1, and the student."""
    old, given, objective = first_step(method)
    torch.manual_seed(1)
    student, _ = grow(old, given, heads=[2], added=1, initialisation=method.initialisation)
    later = Incremental(method, step=1, heads=[2, 1], teacher=old, carried=objective.carried())
    source = Squares(2, batches)
    later.prepare(student, map(source.batch, range(2)))
    return learn(student, later, source, steps, **options), student


@pytest.mark.parametrize("method", PRESETS)
def test_every_method_learns_some_steps(method):
    terms, student = later_step(config(method=method), steps=5)
    assert len(terms) == 5
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


@pytest.mark.parametrize("method", ["mib-cd", "rw"])
def test_two_runs_end_with_the_same_weights(method):
    (_, one), (_, two) = (later_step(config(method=method), steps=3) for _ in range(2))
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("method", ["mib-cd", "lwf", "ilt"])
def test_one_batch_can_be_learned_by_heart(method):
    terms, student = later_step(config(method=method), steps=40, batches=1, lr=0.02)
    batch = Squares(2).batch(0)
    with torch.no_grad():
        new = student.eval()(batch.image).argmax(1) == 2
    assert next(iter(terms[-1].values())) < next(iter(terms[0].values()))
    assert ((new & (batch.mask == 2)).sum() / (new | (batch.mask == 2)).sum()).item() > 0.8


def test_mib_starts_where_the_old_model_was():
    """The grown model's unbiased distillation begins at the teacher's own entropy, its least value."""
    method = config(method="mib")
    old, given, _ = first_step(method)
    student, _ = grow(old, given, heads=[2], added=1, initialisation=method.initialisation)
    objective = Incremental(method, step=1, heads=[2, 1], teacher=copy.deepcopy(old))
    batch = Squares(2).batch(0)
    terms = objective(student.eval(), batch)
    with torch.no_grad():
        log_p = torch.log_softmax(old.eval()(batch.image), 1)
    entropy = -(log_p.exp() * log_p).mean().item()
    assert terms["unbiased-distillation"].item() == pytest.approx(10 * entropy, rel=1e-5)


def test_features_behind_the_dropout_differ_even_where_nothing_was_turned():
    """A network that agrees with itself perfectly pays for its dropout there, and nothing at the trunk."""
    torch.manual_seed(0)
    model = build_model(ResidualUnetConfig(encoder_name="resnet10t", classes=2))
    for module in model.modules():
        module.train(isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d))
    paid = {}
    for features in ("trunk", "embedding"):
        method = config(method="fine-tuning", contrastive={"features": features})
        objective = Incremental(method, step=0, heads=[2])
        objective.turns_of = lambda image: Turns((0,) * len(image))
        paid[features] = objective(model, Squares(1).batch(0))["invariance"].item()
    assert paid["trunk"] < 1e-9 and paid["embedding"] > 1e-4


def test_a_model_without_such_features_refuses_them():
    method = config(method="mib-cd", contrastive={"features": "embedding"})
    with pytest.raises(RecipeError, match="take features: trunk"):
        first_step(method)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes ended with."""
    folder = tmp_path_factory.mktemp("processes")
    assert exit_codes_of_two(incremental_processes.write_all, folder) == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def one_process():
    return incremental_processes.learn_all(joined=2)


@pytest.mark.parametrize("kind", ["fixed", "two passes", "plop"])
def test_two_processes_learn_what_one_learns_of_both_batches(two_processes, one_process, kind):
    whole = one_process[kind]
    for process in two_processes:
        assert process[kind]["thresholds"] == pytest.approx(whole["thresholds"])
        for name, value in whole["weights"].items():
            torch.testing.assert_close(
                torch.tensor(process[kind]["weights"][name]), torch.tensor(value), rtol=1e-5, atol=1e-6
            )


def test_every_process_draws_its_own_turns(two_processes):
    drawn = [process["drawn"]["drawn"] for process in two_processes]
    assert len(drawn[0]) == incremental_processes.STEPS and drawn[0] != drawn[1]
