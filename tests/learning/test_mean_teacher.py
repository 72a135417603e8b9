"""The mean teacher: what it minimises, how the average moves, and what is saved of it."""

import math

import pytest
import torch
from torch import nn

from aftermap.classes import IGNORE
from aftermap.data.batch import Batch
from aftermap.learning.configs.mean_teacher import MeanTeacherConfig, StrongConfig
from aftermap.learning.configs.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.configs.schedule import Schedule
from aftermap.learning.loop import Training, fit
from aftermap.learning.objectives.mean_teacher import MeanTeacher
from aftermap.learning.objectives.strong_views import strong_view
from aftermap.models.networks.dense import DenseModel
from saved_models import Bands

PLAIN = StrongConfig(contrast=0, brightness=0, noise=0, blur=0, cutout=0)


class Normed(DenseModel):
    """One convolution with batch normalisation before it."""

    dates, stride, classes = 1, 1, 2

    def __init__(self):
        super().__init__()
        self.encoder = nn.BatchNorm2d(3)
        self.head = nn.Conv2d(3, 2, 1)

    def forward_features(self, image):
        return self.encoder(image[:, 0])

    def forward_head(self, features, size):
        return self.head(features)


def config(**given):
    options = {"terms": (), "strong": PLAIN, "confidence": 0.0, "schedule": Schedule(), "mirrored": False}
    return MeanTeacherConfig(**options | given)


def batch(image, mask=None):
    unknown = torch.full((len(image), *image.shape[-2:]), IGNORE)
    return Batch(image, unknown if mask is None else mask)


def logits_of(*pixels):
    """Two-class logits (1, 2, 1, N) with the given p(class 1)."""
    values = [math.log(p / (1 - p)) for p in pixels]
    return torch.tensor([[0.0] * len(values), values]).reshape(1, 2, 1, -1)


def answer_of(*pixels):
    return torch.softmax(logits_of(*pixels), dim=1)


def everything(logits):
    return torch.ones(1, *logits.shape[2:], dtype=torch.bool)


def test_consistency_is_the_cross_entropy_with_the_teachers_probabilities():
    objective = MeanTeacher(config(), Bands(2))
    student = logits_of(0.5, 0.8)
    found = objective.consistency(student, answer_of(0.9, 0.25), everything(student))
    by_hand = (math.log(2) + -(0.75 * math.log(0.2) + 0.25 * math.log(0.8))) / 2
    assert found.item() == pytest.approx(by_hand, rel=1e-5)


def test_mean_squares_add_up_over_the_classes():
    objective = MeanTeacher(config(loss="mse"), Bands(2))
    student = logits_of(0.5, 0.8)
    found = objective.consistency(student, answer_of(0.9, 0.25), everything(student))
    assert found.item() == pytest.approx((2 * 0.4**2 + 2 * 0.55**2) / 2, rel=1e-5)


def test_pixels_of_which_the_teacher_is_not_sure_do_not_count():
    objective = MeanTeacher(config(confidence=0.8), Bands(2))
    student = logits_of(0.5, 0.3)
    found = objective.consistency(student, answer_of(0.9, 0.75), everything(student))
    assert found.item() == pytest.approx(math.log(2), rel=1e-5)


def test_every_class_may_have_a_confidence_of_its_own():
    objective = MeanTeacher(config(confidence=(0.99, 0.6)), Bands(2))
    student = logits_of(0.5, 0.3)
    found = objective.consistency(student, answer_of(0.7, 0.05), everything(student))
    assert found.item() == pytest.approx(math.log(2), rel=1e-5)


def test_class_weights_count_by_the_teachers_class():
    objective = MeanTeacher(config(class_weights=(1.0, 3.0)), Bands(2))
    student = logits_of(0.5, 0.2)
    found = objective.consistency(student, answer_of(0.9, 0.0001), everything(student))
    second = -(0.9999 * math.log(0.8) + 0.0001 * math.log(0.2))
    assert found.item() == pytest.approx((3 * math.log(2) + second) / 4, rel=1e-5)


def test_sigmoids_ask_every_channel_for_itself():
    objective = MeanTeacher(config(activation="sigmoid", confidence=0.8), Bands(2))
    student = torch.zeros(1, 2, 1, 1)
    answer = torch.tensor([0.1, 0.6]).reshape(1, 2, 1, 1)
    assert objective.consistency(student, answer, everything(student)).item() == pytest.approx(math.log(2))


def test_a_teacher_sure_of_nothing_costs_nothing():
    objective = MeanTeacher(config(confidence=0.99), Bands(2))
    student = logits_of(0.5).requires_grad_()
    value = objective.consistency(student, answer_of(0.6), everything(student))
    value.backward()
    assert value.item() == 0 and student.grad.abs().sum() == 0


def test_no_gradient_reaches_the_teacher():
    model = Bands(2)
    objective = MeanTeacher(config(), model)
    objective(model, batch(torch.rand(2, 1, 3, 4, 4)))["consistency"].backward()
    assert model.gain.grad is not None and objective.teacher.gain.grad is None
    assert list(name for name, p in objective.named_parameters() if p.requires_grad) == []


def test_a_prior_brings_the_mean_of_the_answers_to_it():
    objective = MeanTeacher(config(prior=(0.5, 0.5)), Bands(2))
    image = torch.zeros(1, 1, 3, 2, 2)
    image[:, :, 0] = 2.0
    p = objective.answer(image)
    assert torch.allclose(p[:, 1], torch.full((1, 2, 2), 0.5), atol=1e-5)


def test_mirrored_answers_are_laid_back_over_the_image():
    objective = MeanTeacher(config(mirrored=True), Bands(2))
    image = torch.rand(1, 1, 3, 4, 6)
    assert torch.allclose(objective.answer(image), torch.softmax(image[:, 0, :2], dim=1), atol=1e-6)


def test_labelled_pixels_give_the_supervised_terms_and_no_consistency():
    model = Bands(2)
    terms = MeanTeacherConfig().terms
    objective = MeanTeacher(config(terms=terms), model)
    image = torch.rand(2, 1, 3, 4, 4)
    mask = torch.zeros(2, 4, 4, dtype=torch.long)
    assert set(objective(model, batch(image, mask))) == {"cross-entropy", "dice"}
    mask[1] = IGNORE
    assert set(objective(model, batch(image, mask))) == {"cross-entropy", "dice", "consistency"}


def test_labelled_crops_are_shown_as_they_are():
    seen = []

    class Watched(Bands):
        def forward_features(self, image):
            seen.append(image)
            return super().forward_features(image)

    model = Watched(2)
    objective = MeanTeacher(config(strong=StrongConfig(noise=1.0)), model)
    image, mask = torch.rand(2, 1, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)
    mask[1] = IGNORE
    objective(model, batch(image, mask))
    assert torch.equal(seen[0][0], image[0]) and not torch.equal(seen[0][1], image[1])


def test_the_schedule_is_the_weight_of_the_consistency():
    model = Bands(2)
    objective = MeanTeacher(config(weight=4.0, schedule=Schedule(kind="linear", start=0, end=1)), model)
    image = torch.rand(1, 1, 3, 4, 4)
    values = []
    for step in (5, 10):
        objective.before_step(step, 11)
        values.append(objective(model, batch(image))["consistency"].item())
    assert values[1] == pytest.approx(2 * values[0]) and values[1] > 0


def test_the_teacher_keeps_the_decay_and_takes_the_rest_from_the_student():
    model = Bands(2)
    objective = MeanTeacher(config(decay=0.75), model)
    nn.init.constant_(model.gain, 5.0)
    objective.after_step(model, 0)
    assert objective.teacher.gain.item() == pytest.approx(0.75 * 1 + 0.25 * 5)


def test_with_a_ramp_the_teacher_is_the_mean_of_the_students_at_first():
    model = Bands(2)
    objective = MeanTeacher(config(decay=0.999, decay_ramp=True), model)
    for step, value in enumerate((2.0, 4.0, 9.0)):
        nn.init.constant_(model.gain, value)
        objective.after_step(model, step)
    assert objective.teacher.gain.item() == pytest.approx(5.0)


def test_running_statistics_follow_the_images_or_stay():
    image = torch.randn(4, 1, 3, 8, 8) + 3
    for norm, mean in (("frozen", 0.0), ("adapt", 0.5 * 0.1 * image.mean().item())):
        model = Normed()
        objective = MeanTeacher(config(norm=norm, decay=0.5), model)
        model.train()
        objective.train()
        objective(model, batch(image))
        objective.after_step(model, 0)
        assert objective.teacher.encoder.running_mean.mean().item() == pytest.approx(mean, abs=1e-5)
        assert not objective.teacher.training


def test_the_teacher_is_what_is_evaluated():
    model = Bands(2)
    objective = MeanTeacher(config(), model)
    assert objective.evaluated(model) is objective.teacher is not model


class Noise:
    def batch(self, index):
        return batch(torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(index)))


def training(steps):
    torch.manual_seed(0)
    model = Normed()
    objective = MeanTeacher(config(strong=StrongConfig(cutout_px=4), norm="adapt", prior=(0.6, 0.4)), model)
    optimizer = OptimizerConfig(lr=0.05, schedule=CosineConfig(warmup_steps=0))
    return Training(model, objective, optimizer, steps=steps, seed=1, precision="no")


def test_a_resumed_run_ends_with_the_same_teacher(tmp_path):
    whole = training(6)
    list(fit(whole, Noise()))
    first = training(6)
    for step in fit(first, Noise()):
        if step.number == 3:
            break
    first.save(tmp_path / "resume")
    second = training(6)
    second.load(tmp_path / "resume")
    list(fit(second, Noise()))
    ends = [t.objective.evaluated(t.model).state_dict() for t in (whole, second)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert not torch.equal(ends[0]["head.weight"], whole.model.head.weight)


def test_nothing_is_changed_where_nothing_is_asked_for():
    image = torch.randn(2, 2, 3, 8, 8)
    changed, shown = strong_view(image, PLAIN)
    assert torch.allclose(changed, image) and shown.all()


def test_what_is_cut_out_is_empty_on_both_dates_and_known():
    torch.manual_seed(0)
    image = torch.rand(4, 2, 3, 20, 30) + 1
    changed, shown = strong_view(image, PLAIN.model_copy(update={"cutout": 0.5, "cutout_px": 8}))
    assert changed.shape == image.shape and 0.3 < shown.float().mean() < 0.7
    gone = ~shown[:, None, None].expand_as(image)
    assert (changed[gone] == 0).all() and torch.allclose(changed[~gone], image[~gone])


def test_the_dates_are_lit_differently():
    torch.manual_seed(0)
    image = torch.ones(3, 2, 3, 4, 4)
    changed, _ = strong_view(image, PLAIN.model_copy(update={"contrast": 0.5}))
    factors = changed.mean(dim=(2, 3, 4))
    assert (factors[:, 0] - factors[:, 1]).abs().min() > 1e-3
    assert changed.min() >= 1 / 1.5 - 1e-5 and changed.max() <= 1.5 + 1e-5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"confidence": (0.5, 0.5, 0.5)}, "objective.confidence has 3 values, the model has 2 classes"),
        ({"class_weights": (1.0,)}, "objective.class_weights has 1 values"),
        ({"prior": (0.5, 0.5), "activation": "sigmoid"}, "classes that exclude each other"),
    ],
)
def test_numbers_per_class_must_fit_the_model(given, message):
    with pytest.raises(ValueError, match=message):
        config(**given).check_classes(2)


def test_one_logit_is_no_softmax():
    with pytest.raises(ValueError, match="use sigmoid"):
        config().check_classes(1)
