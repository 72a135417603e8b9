"""Incremental learning against references that follow from the notes alone, on random data."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.config import build_config
from aftermap.data.batch import Batch
from aftermap.learning.configs.incremental import PRESETS, IncrementalConfig
from aftermap.learning.configs.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.loop import Training, fit
from aftermap.learning.losses.incremental import (
    knowledge_distillation,
    unbiased_cross_entropy,
    unbiased_distillation,
)
from aftermap.learning.losses.pseudo_labels import ThresholdMeter
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.objectives.turned_views import Turns
from aftermap.models.build import build_model
from aftermap.models.configs import UnetConfig
from aftermap.models.growth import grow
from incremental_stub import Stub, worked_batch

F64 = torch.float64
PAIRS = [(classes, old) for classes in range(2, 8) for old in range(1, classes + 1)]


def config(**tree):
    return build_config(IncrementalConfig, tree)


def drawn(classes, old, seed=0):
    """Logits of student and teacher, and masks, of which the second image's is unknown everywhere."""
    g = torch.Generator().manual_seed(100 * classes + 10 * old + seed)
    z = (2 * torch.randn(3, classes, 4, 5, dtype=F64, generator=g)).requires_grad_()
    y = 2 * torch.randn(3, old, 4, 5, dtype=F64, generator=g)
    mask = torch.randint(0, classes, (3, 4, 5), generator=g)
    mask[torch.rand(mask.shape, generator=g) < 0.2] = IGNORE
    mask[1] = IGNORE
    return z, y, mask


def gradient(value, z):
    return torch.autograd.grad(value, z)[0]


def naive_cross_entropy(z, mask, old):
    """Pixel by pixel, from probabilities; channels 1 to old - 1 are part of the background."""
    total, count = z.new_zeros(()), 0
    p = z.exp() / z.exp().sum(1, keepdim=True)
    for b, h, w in (mask != IGNORE).nonzero().tolist():
        label = int(mask[b, h, w])
        chance = p[b, :old, h, w].sum() if label < old else p[b, label, h, w]
        total, count = total - chance.log(), count + 1
    return total / count


def naive_distillation(z, y, *, unbiased):
    old = y.shape[1]
    s = y.exp() / y.exp().sum(1, keepdim=True)
    if unbiased:
        p = z.exp() / z.exp().sum(1, keepdim=True)
        r = torch.stack([p[:, 0] + p[:, old:].sum(1), *p[:, 1:old].unbind(1)], 1)
    else:
        r = z[:, :old].exp() / z[:, :old].exp().sum(1, keepdim=True)
    return sum(-(s[:, c] * r[:, c].log()) for c in range(old)).mean() / old


@pytest.mark.parametrize(("classes", "old"), PAIRS)
def test_unbiased_cross_entropy_and_its_gradient_are_those_of_the_formula(classes, old):
    z, _, mask = drawn(classes, old)
    ours, theirs = unbiased_cross_entropy(z, mask, old), naive_cross_entropy(z, mask, old)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(gradient(ours, z), gradient(theirs, z), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(("classes", "old"), PAIRS)
def test_distillation_and_its_gradient_are_those_of_the_formula(classes, old):
    z, y, _ = drawn(classes, old)
    for distil, unbiased in ((unbiased_distillation, True), (knowledge_distillation, False)):
        ours, theirs = distil(z, y), naive_distillation(z, y, unbiased=unbiased)
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(gradient(ours, z), gradient(theirs, z), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("size", [1.0, 80.0])
def test_gradients_in_32_bits_are_those_of_64(size):
    z, y, mask = drawn(5, 3)
    large = (size * z.detach()).requires_grad_()
    single = large.detach().float().requires_grad_()
    values = [
        unbiased_cross_entropy(logits, mask, 3) + 10 * unbiased_distillation(logits, teacher)
        for logits, teacher in ((large, size * y), (single, (size * y).float()))
    ]
    torch.testing.assert_close(
        gradient(values[1], single).double(), gradient(values[0], large), atol=1e-5, rtol=1e-3
    )


# one pass over the data decides what PLOP believes


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_are_medians_of_the_formula(seed):
    """u = -(1 / ln old) mean(p ln p) / ln classes, its median over the background of each predicted class."""
    g = torch.Generator().manual_seed(seed)
    old, classes = 4, 6
    y = 3 * torch.randn(5, old, 9, 11, dtype=F64, generator=g)
    mask = torch.randint(0, classes, (5, 9, 11), generator=g)
    mask[torch.rand(mask.shape, generator=g) < 0.1] = IGNORE
    meter = ThresholdMeter(old, classes)
    meter.add(y, mask < old)
    p = y.softmax(1)
    u = -(p * p.log()).mean(1) / math.log(old) / math.log(classes)
    for c in range(old):
        values = sorted(u[(mask < old) & (y.argmax(1) == c)].tolist())
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        assert meter.tau[c].item() == pytest.approx(max(middle, 0.001), abs=2e-5)


# regularisers over three steps


class Path:
    """A reference of the three regularisers on one model, written down per tensor as in the notes."""

    def __init__(self, kind, interval=10):
        self.kind, self.interval = kind, interval
        self.fisher, self.score = {}, {}

    def begin(self, model):
        self.first = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.gain = {n: torch.zeros_like(p) for n, p in self.first.items()}
        self.fisher = {n: grown(self.fisher.get(n), p) for n, p in self.first.items()}
        self.old_score, self.score = self.score, {n: torch.zeros_like(p) for n, p in self.first.items()}
        self.since, self.count = dict(self.first), 0

    def see(self, gradients, before, after):
        self.count += 1
        for n, g in gradients.items():
            self.fisher[n] = 0.9 * g**2 + 0.1 * self.fisher[n]
            self.gain[n] += g * (before[n] - after[n])
        if self.kind == "rw" and self.count % self.interval == 0:
            for n, now in after.items():
                distance = 0.5 * self.fisher[n] * (now - self.since[n]) ** 2
                self.score[n] += (self.gain[n] / (distance + 1e-8)).clamp(min=0)
                self.gain[n] = torch.zeros_like(now)
            self.since = {n: v.clone() for n, v in after.items()}
        self.last = after

    def end(self):
        for n, now in self.last.items():
            earlier = grown(self.old_score.get(n), now)
            if self.kind == "pi":
                way = now - self.first[n]
                self.score[n] = (self.gain[n] / (way**2 + 1e-20)).clamp(min=0) + earlier
            elif self.kind == "rw" and self.old_score:
                self.score[n] = 0.5 * (self.score[n] + earlier)

    def importance(self, name):
        parts = {"ewc": [self.fisher], "pi": [self.score], "rw": [self.score, self.fisher]}[self.kind]
        return sum((m[name] - m[name].min()) / (m[name].max() - m[name].min() + 1e-8) for m in parts)


def grown(value, like):
    wide = torch.zeros_like(like)
    if value is not None:
        wide[: len(value)] = value
    return wide


def batch_of(classes, number):
    """The worked images, moved a little, with labels of the newest class."""
    batch = worked_batch(classes - 1)
    return replace(batch, image=batch.image + 0.1 * math.sin(number))


@pytest.mark.parametrize("kind", ["ewc", "pi", "rw"])
def test_what_mattered_in_the_first_step_is_held_through_the_third(kind):
    """Gradients of labels alone, from autograd; the penalty holds all weights of the step before."""
    reference, carried, old, heads = Path(kind, interval=3), None, None, []
    weight = 0.5
    for step, classes in enumerate((2, 3, 4)):
        heads = [*heads, 2 if step == 0 else 1]
        model = Stub(classes)
        if old is not None:
            with torch.no_grad():
                for name, value in old.named_parameters():
                    dict(model.named_parameters())[name][: len(value)] = value
        method = config(method=kind, regulariser={"kind": kind, "weight": weight, "interval": 3})
        made = Incremental(method, step=step, heads=heads, teacher=copy.deepcopy(old), carried=carried)
        held = (
            {}
            if old is None
            else {n: (reference.importance(n), p.detach()) for n, p in old.named_parameters()}
        )
        reference.begin(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for number in range(7):
            batch = batch_of(classes, number)
            labels = unbiased_cross_entropy(model(batch.image), batch.mask, 1)
            gradients = dict(
                zip(
                    dict(model.named_parameters()),
                    torch.autograd.grad(labels, list(model.parameters())),
                    strict=True,
                )
            )
            penalty = sum(
                (f * (dict(model.named_parameters())[n][: len(o)] - o) ** 2).sum()
                for n, (f, o) in held.items()
            )
            terms = made(model, batch)
            assert terms.get(kind, torch.zeros(())).item() == pytest.approx(
                float(weight * torch.as_tensor(penalty).detach()), rel=1e-6, abs=1e-12
            )
            torch.stack(list(terms.values())).sum().backward()
            made.after_backward(model, number)
            before = {n: p.detach().clone() for n, p in model.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()
            made.after_step(model, number)
            reference.see(gradients, before, {n: p.detach().clone() for n, p in model.named_parameters()})
        reference.end()
        carried, old = made.carried(), model
        for name, value in carried.items():
            measure = reference.score if name.startswith("score") else reference.fisher
            wanted = measure[name.partition(":")[2]]
            torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-9)


class Few:
    """Small batches of a square."""

    def __init__(self, label=1):
        self.label = label

    def batch(self, index):
        g = torch.Generator().manual_seed(index)
        mask = torch.zeros(2, 32, 32, dtype=torch.long)
        mask[:, 8:24, 4:20] = self.label
        image = mask[:, None, None].float() + 0.3 * torch.randn(2, 1, 3, 32, 32, generator=g)
        return Batch(image, mask)


SMALL = UnetConfig(
    encoder_name="resnet10t",
    encoder_depth=2,
    encoder_options={"channels": (8, 16, 16, 16), "stem_width": 8},
    decoder_channels=(8, 8),
    classes=2,
)


def learned(method, *, step, model, teacher=None, carried=None, clip_norm=1.0, precision="no", steps=1):
    made = Incremental(
        method,
        step=step,
        heads=[2, 1][: step + 1],
        teacher=copy.deepcopy(teacher),
        carried=carried,
    )
    if not made.is_prepared:
        made.prepare(model, iter([Few(step + 1).batch(0)]))
    optimizer = OptimizerConfig(lr=0.01, clip_norm=clip_norm, schedule=CosineConfig(warmup_steps=1))
    training = Training(model, made, optimizer, steps=steps, seed=2, precision=precision)
    return made, [s.terms for s in fit(training, Few(step + 1))]


@pytest.mark.parametrize("kind", ["ewc", "rw"])
def test_clipped_gradients_are_measured_as_they_were(kind):
    """The penalty's share is taken out of what is measured: of clipped gradients it would be too much."""
    torch.manual_seed(0)
    method, first = config(method=kind), build_model(SMALL)
    made, _ = learned(method, step=0, model=first, steps=2)
    student, _ = grow(first, SMALL, heads=[2], added=1)
    with torch.no_grad():
        for value in student.parameters():  # away from the old model, so that the penalty has a gradient
            value.add_(0.05 * torch.randn_like(value))
    states = [
        learned(
            method,
            step=1,
            model=copy.deepcopy(student),
            teacher=first,
            carried=made.carried(),
            clip_norm=clip_norm,
        )[0].carried()
        for clip_norm in (0.0, 1e-3)
    ]
    for name, value in states[0].items():
        if name.startswith("fisher"):
            torch.testing.assert_close(states[1][name], value)


@pytest.mark.parametrize("method", ["ewc", "pi", "rw", "plop", "mib-cd"])
def test_a_step_that_was_broken_off_ends_as_if_it_was_not(method, tmp_path):
    """Weights and what the next step needs, to the bit."""
    torch.manual_seed(0)
    made, first = config(method=method), build_model(SMALL)
    before, _ = learned(made, step=0, model=first, steps=2)
    student, _ = grow(first, SMALL, heads=[2], added=1)
    ends = []
    for stop in (None, 4):
        training, objective = beginning(made, student, first, before.carried())
        for _ in range(stop or 12):
            training.advance(Few(2))
        if stop is not None:
            training.save(tmp_path)
            training, objective = beginning(made, student, first, before.carried(), prepared=False)
            training.load(tmp_path)
            for _ in range(12 - stop):
                training.advance(Few(2))
        ends.append(training.model.state_dict() | objective.carried())
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def beginning(method, student, teacher, carried, *, prepared=True):
    made = Incremental(method, step=1, heads=[2, 1], teacher=copy.deepcopy(teacher), carried=carried)
    model = copy.deepcopy(student)
    if prepared:
        made.prepare(model, iter([Few(2).batch(0)]))
    return Training(model, made, OptimizerConfig(lr=0.01), steps=12, seed=5, precision="no"), made


# turned images


@pytest.mark.parametrize("element", range(8))
def test_one_turn_for_all_is_the_same_turn_for_each(element):
    values = []
    for draws in ("per-batch", "per-sample"):
        method = config(method="mib-cd", contrastive={"draws": draws, "stop_gradient": False})
        made = Incremental(method, step=1, heads=[2, 1], teacher=Stub(2, shift=0.25))
        made.turns_of = lambda image: Turns((element,) * len(image))
        student = Stub(3)
        terms = made(student, worked_batch())
        torch.stack(list(terms.values())).sum().backward()
        image = worked_batch().image
        features = student.forward_features
        turned = torch.rot90(image, element % 4, (-2, -1))
        # a mirror image comes before the quarter turns
        mirror = torch.rot90(image.flip(-1), element % 4, (-2, -1))
        views = [v for v in (turned, mirror) if torch.equal(v, Turns((element,) * 2).images(image))]
        assert len(views) == 1
        own = features(image) if views[0] is turned else features(image).flip(-1)
        expected = (features(views[0]) - torch.rot90(own, element % 4, (-2, -1))).square().mean()
        assert terms["invariance"].item() == pytest.approx(0.1 * expected.item(), abs=1e-12)
        values.append((terms["invariance"].item(), student.encoder.weight.grad.clone()))
    assert values[0][0] == values[1][0]
    assert torch.equal(values[0][1], values[1][1])


# precision, and batches that say nothing


@pytest.mark.parametrize("method", PRESETS)
def test_every_method_learns_in_16_bits_and_keeps_its_losses_in_32(method):
    torch.manual_seed(0)
    made = config(method=method)
    first = build_model(SMALL)
    before, _ = learned(made, step=0, model=first, precision="bf16", steps=2)
    student, _ = grow(first, SMALL, heads=[2], added=1, initialisation=made.initialisation)
    later = Incremental(made, step=1, heads=[2, 1], teacher=copy.deepcopy(first), carried=before.carried())
    if not later.is_prepared:
        later.prepare(student, iter([Few(2).batch(0)]))
    with torch.autocast("cpu", torch.bfloat16):
        terms = later(student, Few(2).batch(1))
    assert {value.dtype for value in terms.values()} == {torch.float32}
    _, told = learned(
        made, step=1, model=student, teacher=first, carried=before.carried(), precision="bf16", steps=2
    )
    assert all(math.isfinite(v) for terms in told for v in terms.values())


@pytest.mark.parametrize("method", PRESETS)
def test_batches_without_labels_leave_finite_gradients(method):
    made = config(method=method)
    first = Stub(2)
    empty = Batch(worked_batch().image, torch.full((2, 4, 4), IGNORE))
    before = Incremental(made, step=0, heads=[2])
    before.turns_of = lambda image: Turns((3,) * len(image))
    torch.stack(list(before(first, empty).values())).sum().backward()
    before.after_backward(first, 0)
    before.after_step(first, 0)
    later = Incremental(made, step=1, heads=[2, 1], teacher=copy.deepcopy(first), carried=before.carried())
    later.turns_of = before.turns_of
    if not later.is_prepared:
        later.prepare(first, iter([empty]))  # no background either: the least thresholds
        assert later.thresholds.tolist() == pytest.approx([0.001, 0.001])
    student = Stub(3)
    terms = later(student, empty)
    torch.stack(list(terms.values())).sum().backward()
    later.after_backward(student, 0)
    assert all(math.isfinite(value.item()) for value in terms.values())
    assert all(torch.isfinite(value.grad).all() for value in student.parameters() if value.grad is not None)


def test_a_step_that_says_nothing_is_distilled_all_the_same():
    """Old = 2 and no label: the gradient is that of the distillation alone."""
    made = Incremental(config(method="mib"), step=1, heads=[2, 1], teacher=Stub(2, shift=0.25))
    student = Stub(3)
    empty = Batch(worked_batch().image, torch.full((2, 4, 4), IGNORE))
    torch.stack(list(made(student, empty).values())).sum().backward()
    again = Stub(3)
    with torch.no_grad():
        y = Stub(2, shift=0.25)(empty.image)
    (10 * naive_distillation(again(empty.image), y, unbiased=True)).backward()
    for one, other in zip(student.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-12, rtol=1e-9)
