import pytest
import torch
from torch import nn

from aftermap.learning.configs.incremental import RegulariserConfig
from aftermap.learning.objectives.held_knowledge import regulariser_of
from aftermap.learning.published_regularisers import PublishedEWC, PublishedPI, PublishedRW
from aftermap.learning.regularisers import EWC, PI, RW

F64 = torch.float64
OLD = {"w": torch.tensor([0.9, 2.2, 2.5], dtype=F64)}
FISHER = torch.tensor([0.1, 0.3, 0.7], dtype=F64)
SCORE = torch.tensor([0.2, 0.0, 0.4], dtype=F64)


def near(value, within: float = 1e-9):
    return pytest.approx(value, abs=within)


class Weights(nn.Module):
    def __init__(self, *values, grad=None):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=F64))
        if grad is not None:
            self.w.grad = torch.tensor(grad, dtype=F64)

    def move(self, *values):
        with torch.no_grad():
            self.w.copy_(torch.tensor(values, dtype=F64))


def made(kind):
    states = {
        EWC: {"fisher:w": FISHER},
        PI: {"score:w": FISHER},
        RW: {"fisher:w": FISHER, "score:w": SCORE},
    }
    return kind(states[kind], OLD)


@pytest.mark.parametrize(("kind", "value"), [(EWC, 0.2633333289), (PI, 0.2633333289), (RW, 0.5183333226)])
def test_penalties_of_the_worked_example(kind, value):
    assert made(kind).penalty(Weights(1, 2, 3)).item() == near(value)


@pytest.mark.parametrize(
    ("kind", "importance"),
    [(EWC, [0, 0.33333333, 0.99999998]), (RW, [0.49999999, 0.33333333, 1.99999996])],
)
def test_importance_of_the_worked_example(kind, importance):
    # the gradient of the penalty is 2 importance (new - old)
    model = Weights(1, 2, 3)
    made(kind).penalty(model).backward()
    assert (model.w.grad / (2 * (model.w.detach() - OLD["w"]))).tolist() == near(importance, 1e-8)


@pytest.mark.parametrize("kind", [EWC, RW])
def test_squared_gradients_join_the_running_mean(kind):
    regulariser = made(kind)
    regulariser.after_backward(Weights(1, 2, 3, grad=[0.5, -1, 2]))
    assert regulariser.state()["fisher:w"].tolist() == near([0.235, 0.93, 3.67])


def test_the_penalty_stays_that_of_the_step_before_while_a_step_is_measured():
    regulariser = made(EWC)
    model = Weights(1, 2, 3, grad=[0.5, -1, 2])
    regulariser.after_backward(model)
    assert regulariser.penalty(model).item() == near(0.2633333289)


@pytest.mark.parametrize("kind", [EWC, PI, RW])
def test_the_first_step_costs_nothing(kind):
    assert kind().penalty(Weights(1, 2, 3)).item() == 0


def test_the_penalty_has_no_part_in_what_is_measured():
    alone, together = made(EWC), made(EWC)
    model = Weights(1, 2, 3, grad=[0.5, -1, 2])
    alone.after_backward(model)
    (500 * together.penalty(model)).backward()
    together.after_backward(model, penalty_weight=500)
    assert together.state()["fisher:w"].tolist() == near(alone.state()["fisher:w"].tolist(), 1e-9)


def test_the_path_integral_is_the_gain_over_the_way_squared():
    regulariser, model = PI(), Weights(1, 1, 1)
    for gradient, values in [([1.0, -2, 4], [0.5, 2, 1]), ([2.0, 1, 4], [0.0, 4, 1])]:
        model.w.grad = torch.tensor(gradient, dtype=F64)
        regulariser.after_backward(model)
        model.move(*values)
        regulariser.after_step(model)
    # gains: 1 * 0.5 + 2 * 0.5; -2 * -1 + 1 * -2; nothing moved. Ways: 1, 3, 0
    assert regulariser.state()["score:w"].tolist() == near([1.5 / 1, 0, 0])


def test_path_integrals_add_up_over_steps_and_never_fall():
    regulariser = PI({"score:w": FISHER}, OLD)
    model = Weights(0.9, 2.2, 2.5, grad=[1.0, -1, 0])
    regulariser.after_backward(model)
    model.move(0.8, 2.1, 2.5)
    regulariser.after_step(model)
    assert regulariser.state()["score:w"].tolist() == near([0.1 + 0.1 / 0.01, 0.3, 0.7])


def test_the_riemannian_walk_looks_back_at_every_interval():
    regulariser, model = RW(interval=2), Weights(1, 1)
    for values in ([0.5, 1.5], [0, 1.5], [7, 7]):  # the third is not looked at
        model.w.grad = torch.tensor([2.0, 1], dtype=F64)
        regulariser.after_backward(model)
        model.move(*values)
        regulariser.after_step(model)
    state = regulariser.state()
    fisher = [0.9 * 4 * 1.1, 0.9 * 1.1]  # after two steps, when the score is taken
    assert state["score:w"].tolist() == near([2 / (0.5 * fisher[0] + 1e-8), 0])
    assert state["fisher:w"].tolist() == near([0.9 * 4 * 1.11, 0.9 * 1.11])


def test_scores_of_the_riemannian_walk_are_averaged_with_those_before():
    regulariser = RW({"fisher:w": FISHER, "score:w": SCORE}, OLD, interval=1)
    model = Weights(0.9, 2.2, 2.5, grad=[1.0, 0, 0])
    regulariser.after_backward(model)
    model.move(0.8, 2.2, 2.5)
    regulariser.after_step(model)
    score = 0.1 / (0.5 * (0.9 + 0.01) * 0.01 + 1e-8)
    assert regulariser.state()["score:w"].tolist() == near([(score + 0.2) / 2, 0, 0.2])


@pytest.mark.parametrize("kind", [EWC, PI, RW])
def test_a_grown_tensor_is_held_in_its_first_rows(kind):
    grown = Weights(1, 2, 3, 50)
    assert made(kind).penalty(grown).item() == near(made(kind).penalty(Weights(1, 2, 3)).item())


@pytest.mark.parametrize("kind", [EWC, PI, RW])
def test_new_rows_are_measured_from_nothing(kind):
    regulariser = made(kind)
    model = Weights(1, 2, 3, 4, grad=[0.0, 0, 0, 2])
    regulariser.after_backward(model)
    regulariser.after_step(model)
    state = regulariser.state()
    assert all(value.shape == (4,) for value in state.values())
    if "fisher:w" in state:
        assert state["fisher:w"][3].item() == near(0.9 * 4)


@pytest.mark.parametrize("shape", [(2,), (3, 1)])
def test_tensors_of_another_shape_are_free(shape):
    model = Weights()
    model.w = nn.Parameter(torch.ones(shape, dtype=F64))
    assert made(EWC).penalty(model).item() == 0


def test_frozen_weights_cost_nothing():
    model = Weights(1, 2, 3)
    model.w.requires_grad_(False)
    assert made(EWC).penalty(model).item() == 0


def test_a_wrapped_model_has_the_same_names():
    wrapped = nn.Sequential()
    wrapped.add_module("module", Weights(1, 2, 3))
    assert made(EWC).penalty(wrapped).item() == near(0.2633333289)


@pytest.mark.parametrize("kind", [EWC, PI, RW])
def test_an_interrupted_step_is_measured_to_the_same_end(kind):
    def steps(regulariser, model, numbers):
        for n in numbers:
            model.w.grad = torch.sin(torch.arange(3.0, dtype=F64) + n)
            regulariser.after_backward(model)
            model.move(*(model.w.detach() - 0.1 * model.w.grad).tolist())
            regulariser.after_step(model)

    whole, model = made(kind), Weights(1, 2, 3)
    steps(whole, model, range(25))
    first, again = made(kind), Weights(1, 2, 3)
    steps(first, again, range(13))
    second = made(kind)
    second.restore(first.kept())
    steps(second, again, range(13, 25))
    assert second.state().keys() == whole.state().keys()
    for name, value in whole.state().items():
        assert torch.equal(second.state()[name], value)


def released(kind, old, score, fisher, gradients, places, *, alpha=0.9, interval=10):
    """MiB's released bookkeeping of one tensor: what it looks at when, in its own order of operations."""
    fisher = torch.ones_like(places[0]) if fisher is None else fisher.clone()
    delta, sums, seen = torch.zeros_like(places[0]), torch.zeros_like(places[0]), None
    for count, (gradient, now) in enumerate(zip(gradients, places[:-1], strict=True)):
        if kind is PI:
            if seen is not None:
                delta += gradient * (seen - now)
            seen = now
        elif count % interval == 0:
            if seen is not None:
                sums += gradient * (seen - now) / (0.5 * fisher * (now - seen).pow(2) + 1e-8)
            seen = now
        fisher = alpha * gradient**2 + (1 - alpha) * fisher
    if kind is EWC:
        return {"fisher:w": fisher}
    if kind is PI:
        found = delta / ((places[-1] - (places[0] if old is None else old)).pow(2) + 1e-20)
        found = torch.where(found > 0, found, torch.tensor(0.0, dtype=F64))
        return {"score:w": found if score is None else score + found}
    found = torch.where(sums >= 0, sums, torch.tensor(0.0, dtype=F64))
    return {"fisher:w": fisher, "score:w": found if score is None else 0.5 * (found + score)}


@pytest.mark.parametrize("later", [False, True], ids=["first step", "later step"])
@pytest.mark.parametrize(("kind", "ours"), [(EWC, PublishedEWC), (PI, PublishedPI), (RW, PublishedRW)])
def test_importance_is_measured_as_in_the_released_code(kind, ours, later):
    generator = torch.Generator().manual_seed(5)
    draws = [torch.randn(4, generator=generator, dtype=F64) for _ in range(70)]
    gradients, places = draws[:33], [0.01 * p for p in draws[33:67]]
    old, score, fisher = draws[67], draws[68].abs(), draws[69].abs()
    state = {"score:w": score, "fisher:w": fisher} if later else {}
    regulariser = ours(state or None, {"w": old} if later else None)
    model = Weights(*places[0].tolist())
    for step, gradient in enumerate(gradients):
        model.w.grad = gradient.clone()
        regulariser.after_backward(model)
        model.move(*places[step + 1].tolist())
        regulariser.after_step(model)
        if step == 17:  # an interrupted step goes on as if nothing had happened
            kept = {name: value.clone() for name, value in regulariser.kept().items()}
            regulariser = ours(state or None, {"w": old} if later else None)
            regulariser.restore(kept)
    before = (old, score, fisher) if later else (None, None, None)
    expected = released(kind, *before, gradients, places)
    found = regulariser.state()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert any((value > 0).any() for value in found.values())


def test_the_released_form_is_a_switch_of_the_recipe():
    for kind, ours in {"ewc": PublishedEWC, "pi": PublishedPI, "rw": PublishedRW}.items():
        config = RegulariserConfig(kind=kind, compat_published=True)
        assert type(regulariser_of(config, None, {}, 0)) is ours
        assert type(regulariser_of(RegulariserConfig(kind=kind), None, {}, 0)) is ours.__mro__[1]
