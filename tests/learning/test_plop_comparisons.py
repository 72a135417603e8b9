"""What PLOP is compared with: other poolings, excluded classes, neighbourhood components, aligned weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from worked_incremental import F64, MASK, student_logits, teacher_logits, wave

from aftermap.config import build_config
from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.losses.neighbourhood import excluded_distillation, nca
from aftermap.learning.losses.pod import Pooling, local_pod, pod_embedding
from aftermap.learning.objectives.incremental import Incremental
from aftermap.models.growth import aligned
from incremental_stub import Stub, worked_batch
from small_networks import Small

STEPS = (0.7, 1.3, 0.9, 0.4)
OLD = wave(torch.sin, 1, 1.0, STEPS, (2, 3, 4, 6))
NEW = wave(torch.sin, 1, 1.1, STEPS, (2, 3, 4, 6))


def near(value, within: float = 1e-12):
    return pytest.approx(value, abs=within)


def test_spatial_pooling_sums_rows_and_columns_of_the_whole():
    a, b = OLD**2, NEW**2
    gap = torch.cat([(a - b).sum(3).flatten(1), (a - b).sum(2).flatten(1)], dim=1)
    found = local_pod([NEW], [OLD], pooling=Pooling("spatial"))
    assert found.item() == near(0.01 * gap.norm(dim=1).mean().item())


def test_global_pooling_sums_means_over_squares():
    parts = []
    for scale in (1, 2, 3):  # squares of 6, 3 and 2 pixels: the first does not fit into 4 rows
        side = 6 // scale
        if side <= 4:
            means = F.avg_pool2d(NEW**2, side)
            parts += [means.sum(2).flatten(1), means.sum(3).flatten(1)]
    found = pod_embedding(NEW, pooling=Pooling("global", (2, 3)))
    assert torch.equal(found, torch.cat(parts, dim=1))


def test_distances_of_pooled_values():
    a, b = pod_embedding(OLD), pod_embedding(NEW)
    assert local_pod([NEW], [OLD], factor=1, pooling=Pooling(distance="l1")).item() == near(
        (a - b).abs().sum(1).mean().item()
    )
    p, q = a / a.sum(1, keepdim=True), b / b.sum(1, keepdim=True)
    assert local_pod([NEW], [OLD], factor=1, pooling=Pooling(distance="kl")).item() == near(
        (p * (p / q).log()).sum(1).mean().item(), 1e-9
    )
    positive = pod_embedding(NEW, pooling=Pooling(before="relu"))
    assert torch.equal(positive, pod_embedding(NEW.clamp(min=0), pooling=Pooling(before="none")))


def test_logits_of_new_classes_are_left_out_or_added():
    ours, theirs = student_logits(4, 4), teacher_logits(4, 4)
    both = {"logits": ours, "old_logits": theirs, "logits_factor": 1.0}
    gap = pod_embedding(ours[:, :3]) - pod_embedding(theirs)
    assert local_pod([], [], added="trim", **both).item() == near(gap.norm(dim=1).mean().item())
    assert local_pod([], [], **both) != local_pod([], [], added="trim", **both)


def test_masked_logits_are_compared_by_their_largest_where_wanted():
    ours, theirs = student_logits(4, 4), teacher_logits(4, 4)
    where = torch.zeros(2, 8, 8, dtype=torch.bool)
    where[:, 2:5, 3:] = True

    def embedded(x):
        top = F.interpolate((x**2).amax(1, keepdim=True), size=(8, 8), mode="bilinear", align_corners=False)
        return pod_embedding(top * where[:, None], pooling=Pooling(before="none"))

    expected = (embedded(ours[:, :3]) - embedded(theirs)).norm(dim=1).mean().item()
    found = local_pod([], [], logits=ours, old_logits=theirs, logits_factor=1.0, added="trim", where=where)
    assert found.item() == near(expected)


def released(ours, theirs, mask, new):
    """PLOP's loss with excluded classes, place by place."""
    b, _, h, w = ours.shape
    old = theirs.shape[1]
    safe = mask.clone()
    safe[safe == 255] = 0
    own = torch.gather(ours, 1, safe[:, None])[:, 0]
    place = own if new == "labelled" else ours[:, old:].sum(1)
    new_i, new_t, old_i, old_t = (torch.zeros(b, old + 1, h, w, dtype=F64) for _ in range(4))
    new_i[:, 0], new_i[:, 1:old], new_t[:, 1:old] = ours[:, 0], ours[:, 1:old], theirs[:, 1:]
    if new == "labelled":
        new_t[:, old] = theirs[:, 0]
    new_i[:, old] = place
    old_t[:, 0], old_t[:, 1:old] = theirs[:, 0], theirs[:, 1:old]
    old_i[:, 0], old_i[:, 1:old], old_i[:, old] = ours[:, 0], ours[:, 1:old], place
    of_new = -(torch.log_softmax(new_i, 1) * torch.softmax(new_t, 1)).sum(1)
    of_old = -(torch.log_softmax(old_i, 1) * torch.softmax(old_t, 1)).sum(1)
    is_new = ((mask >= old) & (mask < 255)).double()
    return (is_new * of_new + (mask < old).double() * of_old).mean()


@pytest.mark.parametrize("new", ["labelled", "sum"])
def test_excluded_distillation_of_the_released_code(new):
    ours, theirs = student_logits(), teacher_logits()
    found = excluded_distillation(ours, theirs, MASK, new=new, compat_published=True)
    assert found == released(ours, theirs, MASK, new)


def test_excluded_distillation_by_hand():
    ours = torch.tensor([1.0, 0.5, 2.0, -1.0], dtype=F64).reshape(1, 4, 1, 1)
    theirs = torch.tensor([0.3, 1.2], dtype=F64).reshape(1, 2, 1, 1)
    p0, p1 = (math.exp(v) / (math.exp(0.3) + math.exp(1.2)) for v in (0.3, 1.2))
    # class 3 is labelled: the teacher's background is class 3
    total = math.log(math.exp(1) + math.exp(0.5) + math.exp(-1))
    expected = -(p1 * (0.5 - total) + p0 * (-1 - total))
    mask = torch.full((1, 1, 1), 3)
    assert excluded_distillation(ours, theirs, mask).item() == near(expected)
    # background: new classes have nothing, but their share of the whole
    total = math.log(sum(map(math.exp, (1, 0.5, 2, -1))))
    expected = -(p0 * (1 - total) + p1 * (0.5 - total))
    assert excluded_distillation(ours, theirs, torch.zeros(1, 1, 1).long(), new="sum").item() == near(
        expected
    )
    assert excluded_distillation(ours, theirs, torch.full((1, 1, 1), 255)).item() == 0


def test_neighbourhood_components_by_hand():
    logits = torch.tensor([1.0, 0.5, 2.0], dtype=F64).reshape(1, 3, 1, 1)
    mask = torch.ones(1, 1, 1).long()
    others = math.log(math.exp(2 * 1.0) + math.exp(2 * 2.0))
    assert nca(logits, mask, scale=2.0, margin=0.1).item() == near(others - 2 * (0.5 - 0.1))
    # old classes and background are one
    together = math.log(math.exp(1.0) + math.exp(0.5))
    assert nca(logits, mask, 2).item() == near(2.0 - together)
    assert nca(logits, torch.full_like(mask, 2), hinge=True).item() == 0
    assert nca(logits, torch.full_like(mask, 255)).item() == 0


@pytest.mark.parametrize(("to", "length"), [("all", (5 + 1 + 3) / 3), ("old", 2.0), ("background", 5.0)])
def test_new_rows_become_as_long_as_old_ones(to, length):
    model = Small()
    model.head = torch.nn.Conv2d(2, 5, 1)
    rows = [[3.0, 4.0], [1.0, 0.0], [0.0, 3.0], [6.0, 0.0], [0.0, 2.0]]
    model.head.weight.data = torch.tensor(rows)[:, :, None, None]
    changed = aligned(model, ("head.weight", "head.bias"), old=3, to=to)
    assert changed.head.weight[:3].equal(model.head.weight[:3]) and changed.head.bias.equal(model.head.bias)
    found = changed.head.weight[3:, :, 0, 0].norm(dim=1)
    assert found.mean().item() == pytest.approx(length) and (found[0] / found[1]).item() == pytest.approx(3)
    assert model.head.weight[3, 0, 0, 0] == 6


def test_rows_are_aligned_after_every_epoch_in_the_model_that_learns():
    tree = {"kind": "incremental", "method": "fine-tuning", "alignment": {"to": "old", "every": "epoch"}}
    config = build_config(IncrementalConfig, tree, source="test")
    model = Small()
    model.head = torch.nn.Conv2d(2, 3, 1)
    model.head.weight.data = torch.tensor([[3.0, 4.0], [2.0, 0.0], [0.0, 8.0]])[:, :, None, None]
    objective = Incremental(config, step=1, heads=[2, 1], class_rows=["head.weight"], epoch_steps=2)
    objective.after_step(model, 0)
    assert model.head.weight[2, 1, 0, 0] == 8
    objective.after_step(model, 1)
    assert model.head.weight[2, 1, 0, 0] == 2


VARIANTS = {
    "pod": {
        "features": {
            "loss": "local-pod",
            "pooling": "global",
            "scales": [1, 2],
            "distance": "l1",
            "stages": 1,
        }
    },
    "masked": {
        "features": {"loss": "local-pod", "masked": "old", "added": "trim", "distance": "kl", "stages": 1}
    },
    "excluded": {"distillation": {"loss": "excluded-distillation"}},
    "nca": {"segmentation": {"loss": "nca", "margin": 0.1}, "pseudo_labels": None},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_learns_with_each_of_them(name):
    method = "plop" if name in ("pod", "masked") else "mib"
    parts = VARIANTS[name] | ({"pseudo_labels": {"kind": "naive"}} if method == "plop" else {})
    config = build_config(IncrementalConfig, {"method": method, **parts})
    objective = Incremental(config, step=1, heads=[2, 1], teacher=Stub(2, shift=0.25))
    student = Stub(3)
    terms = objective(student, worked_batch())
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(value) for value in terms.values()) and len(terms) >= 2 - (name == "nca")
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


@pytest.mark.parametrize(
    "features",
    [{"masked": "old", "pooling": "global"}, {"compat_mask": True}, {"distance": "kl", "before": "none"}],
)
def test_choices_that_do_not_go_together_are_refused(features):
    with pytest.raises(RecipeError):
        build_config(IncrementalConfig, {"method": "plop", "features": {"loss": "local-pod", **features}})
