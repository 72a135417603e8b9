"""One batch of MiB and MiB-CD against the numbers of the published trainer."""

import pytest
import torch

from aftermap.config import build_config
from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.objectives.turned_views import Turns
from incremental_stub import Stub, worked_batch

PUBLISHED = {
    "draws": "per-batch",
    "stop_gradient": False,
    "supervise_transformed": True,
    "compat_two_passes": True,
}


def objective(step, quarter_turns, **contrastive):
    tree = {"method": "mib-cd", "contrastive": PUBLISHED | contrastive}
    heads = [2] if step == 0 else [2, 1]
    teacher = Stub(2, shift=0.25) if step else None
    made = Incremental(build_config(IncrementalConfig, tree), step=step, heads=heads, teacher=teacher)
    made.turns_of = lambda image: Turns((quarter_turns,) * len(image))
    return made


def terms_of(made, step):
    student = Stub(3 if step else 2)
    terms = made(student, worked_batch(2 if step else 1))
    return {name: value.item() for name, value in terms.items()}


def summed(terms):
    """Segmentation, distillation, invariance and the whole, as the published trainer logs them."""
    seg = terms.get("unbiased-cross-entropy", 0.0)
    kd = terms.get("unbiased-distillation", 0.0)
    inv = terms.get("invariance", 0.0) + terms.get("old-invariance", 0.0)
    return seg, kd, inv, sum(terms.values())


@pytest.mark.parametrize("two_passes", [True, False])
@pytest.mark.parametrize(
    ("step", "quarter_turns", "expected"),
    [
        (0, 0, (0.86193323, 0, 0, 0.86193323)),
        (0, 1, (0.85982837, 0, 0.00772002, 0.86754839)),
        (0, 2, (0.85595385, 0, 0.01616795, 0.87212180)),
        (0, 3, (0.85969752, 0, 0.00751947, 0.86721698)),
        (1, 0, (0.92819403, 5.55864791, 0.00026449, 6.48710644)),
        (1, 1, (0.93431769, 5.55864791, 0.01538544, 6.50835105)),
        (1, 2, (0.93607521, 5.55864791, 0.03205710, 6.52678022)),
        (1, 3, (0.93394062, 5.55864791, 0.01499780, 6.50758634)),
    ],
)
def test_a_batch_costs_what_it_cost_in_the_published_trainer(step, quarter_turns, expected, two_passes):
    made = objective(step, quarter_turns, compat_two_passes=two_passes)
    assert summed(terms_of(made, step)) == pytest.approx(expected, abs=1e-6)


def test_the_two_kinds_of_invariance_cost_what_they_cost_in_the_published_trainer():
    terms = terms_of(objective(1, 1), 1)
    assert terms["invariance"] == pytest.approx(0.1 * 0.0772001536, abs=1e-9)
    assert terms["old-invariance"] == pytest.approx(0.1 * 0.0766542747, abs=1e-9)


def test_mib_costs_what_it_cost_in_the_published_trainer():
    made = Incremental(IncrementalConfig(method="mib"), step=1, heads=[2, 1], teacher=Stub(2, shift=0.25))
    terms = terms_of(made, 1)
    assert terms == pytest.approx(
        {"unbiased-cross-entropy": 0.92819403, "unbiased-distillation": 5.5586479}, abs=1e-6
    )


def test_without_supervised_turns_the_labels_count_once():
    assert terms_of(objective(1, 1, supervise_transformed=False), 1)[
        "unbiased-cross-entropy"
    ] == pytest.approx(0.92819403, abs=1e-6)


def test_the_stub_is_the_worked_one():
    student = Stub(3)
    image = worked_batch().image
    features, logits = student.forward_features(image), student(image)
    assert features[0, :, 0, 0].tolist() == pytest.approx(
        [-0.4794915, -0.8528147, -0.9167167, -0.8672725], abs=1e-6
    )
    assert logits[0, :, 0, 0].tolist() == pytest.approx([-2.4813724, -2.5067632, -1.3061524], abs=1e-6)


def test_stop_gradient_keeps_the_goal_where_it_is():
    held, free = (objective(0, 1, stop_gradient=s, supervise_transformed=False) for s in (True, False))
    student = Stub(2)
    values = [made(student, worked_batch(1))["invariance"] for made in (held, free)]
    grads = [torch.autograd.grad(v, student.encoder.weight)[0] for v in values]
    phi = student.forward_features(worked_batch(1).image)
    turned = torch.rot90(worked_batch(1).image, 1, (-2, -1))
    again = student.forward_features(turned)
    goal = torch.rot90(phi, 1, (-2, -1)).detach()
    by_hand = torch.autograd.grad(0.1 * (again - goal).square().mean(), student.encoder.weight)[0]
    assert values[0].item() == values[1].item()
    torch.testing.assert_close(grads[0], by_hand)
    assert not torch.allclose(grads[0], grads[1])
