import pytest
import torch
from worked_incremental import F64, MASK, OLD, one_hot, student_logits

from aftermap.learning.losses.class_overlap import (
    dual_tanimoto,
    focal_tversky,
    smoothed_class_weights,
    tanimoto,
)
from aftermap.learning.losses.incremental import unbiased_focal
from aftermap.learning.losses.pixel import focal

STUDENT = student_logits().detach()
WITHOUT_UNKNOWN = torch.tensor([[[0, 3, 4], [1, 1, 2]], [[4, 0, 3], [2, 2, 0]]])
UNKNOWN = torch.full_like(MASK, 255)
OVERLAPS = [focal_tversky, tanimoto, dual_tanimoto]


def near(value, within: float = 1e-9):
    return pytest.approx(value, abs=within)


def test_focal_loss_over_all_pixels_of_the_worked_example():
    loss = focal(STUDENT, MASK, compat_mean_over_all=True).item()
    assert loss == near(1.6673754648)
    assert 12 * loss == near(20.0085055770, 1e-8)
    assert focal(STUDENT, MASK, gamma=0, compat_mean_over_all=True).item() == near(1.9900102362)


def test_unbiased_focal_loss_of_the_worked_example():
    assert unbiased_focal(STUDENT, MASK, OLD, compat_mean_over_all=True).item() == near(0.9380155891)
    # 10 of 12 pixels are known
    assert unbiased_focal(STUDENT, MASK, OLD).item() == near(0.9380155891 * 12 / 10)


@pytest.mark.parametrize(
    ("alpha", "beta", "gamma", "value"), [(0.6, 0.4, 2, 0.7773282557), (0.5, 0.5, 1, 0.8789844725)]
)
def test_focal_tversky_of_the_worked_example(alpha, beta, gamma, value):
    loss = focal_tversky(STUDENT, MASK, alpha=alpha, beta=beta, gamma=gamma, compat_published=True)
    assert loss.item() == near(value)


def test_unbiased_focal_tversky_of_the_worked_example():
    assert focal_tversky(STUDENT, MASK, old=OLD, compat_published=True).item() == near(0.7534589793)


@pytest.mark.parametrize(
    ("mask", "single", "dual"), [(MASK, 0.8010802, 0.5652654), (WITHOUT_UNKNOWN, 0.8063813, 0.5836766)]
)
def test_tanimoto_of_the_worked_example(mask, single, dual):
    assert tanimoto(STUDENT, mask, compat_published=True).item() == near(single, 1e-6)
    assert dual_tanimoto(STUDENT, mask, compat_published=True).item() == near(dual, 1e-6)


def test_class_weights_of_the_worked_example():
    volumes = torch.tensor([100, 50, 10, 1])
    published = smoothed_class_weights(volumes, compat_unsmoothed=True)
    assert published.tolist() == near([1.15, 2.3, 10, 10], 1e-6)
    assert (published / published.max()).tolist() == near([0.115, 0.23, 1, 1], 1e-6)
    # 115 / 115, 115 / 65, 115 / 25, 115 / 16
    assert smoothed_class_weights(volumes).tolist() == near([1, 1.7692308, 4.6, 7.1875], 1e-6)
    assert [round(w, 2) for w in smoothed_class_weights(volumes).tolist()] == near([1.0, 1.77, 4.6, 7.19])


def test_class_weights_of_absent_classes_are_finite():
    assert smoothed_class_weights(torch.zeros(3)).tolist() == [1, 1, 1]
    assert smoothed_class_weights(torch.zeros(3), compat_unsmoothed=True).tolist() == [1, 1, 1]
    assert smoothed_class_weights(torch.tensor([8.0, 0]), compat_unsmoothed=True).tolist() == near(
        [1.15, 10], 1e-6
    )


def test_focal_tversky_passes_over_unknown_pixels():
    known = (MASK != 255)[:, None]
    p, truth = STUDENT.softmax(1) * known, one_hot(MASK)
    both = (p * truth).sum((0, 2, 3))
    alarms, misses = p.sum((0, 2, 3)) - both, truth.sum((0, 2, 3)) - both
    expected = (1 - (both / (both + 0.6 * alarms + 0.4 * misses)).mean()) ** 2
    assert focal_tversky(STUDENT, MASK).item() == near(expected.item(), 1e-5)


def test_tanimoto_weighs_classes_by_their_volume():
    # p of class 1 at four pixels, of which the last is one of it
    p = torch.tensor([0.1, 0.2, 0.4, 0.5], dtype=F64)
    logits = torch.stack([(1 - p).log(), p.log()])[None, :, None]
    mask = torch.tensor([[[0, 0, 0, 1]]])
    weights = [1.0, 3.45 / 1.45]
    both = [0.9 + 0.8 + 0.6, 0.5]
    squares = [3 + 0.81 + 0.64 + 0.36 + 0.25, 1 + 0.01 + 0.04 + 0.16 + 0.25]
    top = sum(w * b for w, b in zip(weights, both, strict=True))
    bottom = sum(w * (s - b) for w, s, b in zip(weights, squares, both, strict=True))
    assert tanimoto(logits, mask, gamma=1).item() == near(1 - top / bottom, 1e-6)


@pytest.mark.parametrize("loss", OVERLAPS)
def test_a_right_and_sure_student_costs_nothing(loss):
    logits = 200 * one_hot(WITHOUT_UNKNOWN)
    assert loss(logits, WITHOUT_UNKNOWN).item() == near(0, 1e-6)
    assert loss(logits, WITHOUT_UNKNOWN, old=OLD).item() == near(0, 1e-6)


@pytest.mark.parametrize("loss", OVERLAPS)
def test_old_classes_and_background_are_one_where_the_loss_is_unbiased(loss):
    # probability moved between background and old classes changes nothing
    p = STUDENT.softmax(1)
    moved = p.clone()
    moved[:, 0] += p[:, 1] + 0.5 * p[:, 2]
    moved[:, 1], moved[:, 2] = 1e-9, 0.5 * p[:, 2]
    there = loss(moved.log(), MASK, old=OLD).item()
    assert loss(STUDENT, MASK, old=OLD).item() == near(there, 1e-7)


@pytest.mark.parametrize("loss", OVERLAPS)
def test_unknown_pixels_take_no_part(loss):
    changed = STUDENT.clone()
    changed[0, :, 1, 1] = torch.tensor([9.0, -3, 1, 0, 2])  # where the mask is unknown
    assert loss(changed, MASK).item() == near(loss(STUDENT, MASK).item(), 1e-12)


@pytest.mark.parametrize("old", [1, OLD])
@pytest.mark.parametrize("loss", OVERLAPS)
def test_a_batch_without_known_pixels_costs_nothing(loss, old):
    logits = student_logits()
    value = loss(logits, UNKNOWN, old=old)
    value.backward()
    assert value.item() == near(0, 1e-12)
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("old", [1, OLD])
@pytest.mark.parametrize("loss", OVERLAPS)
def test_gradients_are_finite(loss, old, compat):
    logits = (10 * student_logits().detach().float()).requires_grad_()
    loss(logits, MASK, old=old, compat_published=compat).backward()
    assert logits.grad.isfinite().all()


def test_the_published_unbiased_tanimoto_takes_logarithms_for_probabilities():
    log_p = STUDENT.log_softmax(1)
    background = log_p[:, :OLD].logsumexp(1, keepdim=True)
    p = torch.cat([background, torch.zeros_like(log_p[:, 1:OLD]), log_p[:, OLD:]], dim=1)
    truth = one_hot(torch.where(MASK < OLD, 0, MASK))
    volumes = truth.sum((2, 3)).mean(0)
    weights = (1.15 * volumes.max() / volumes).clamp(1, 10) / 10
    both, squares = (p * truth).sum((0, 2, 3)), (p**2 + truth**2).sum((0, 2, 3))
    index = (weights * both + 1e-6) / (weights * (squares - both) + 1e-6)
    expected = (1 - index).mean() ** 2
    assert tanimoto(STUDENT, MASK, old=OLD, compat_published=True).item() == near(expected.item())
