import math

import pytest
import torch
import torch.nn.functional as F
from worked_incremental import F64, MASK, OLD, student_logits, teacher_logits

from aftermap.learning.losses.incremental import (
    feature_consistency,
    icarl_combined,
    icarl_cross_entropy,
    icarl_distillation,
    knowledge_distillation,
    knowledge_distillation_map,
    merged_mask,
    unbiased_cross_entropy,
    unbiased_cross_entropy_map,
    unbiased_distillation,
    unbiased_distillation_map,
    unbiased_log_probabilities,
)
from aftermap.learning.losses.pixel import cross_entropy

STUDENT = student_logits().detach()
TEACHER = teacher_logits()
UNKNOWN = torch.full_like(MASK, 255)


def near(value: float, within: float = 1e-9):
    return pytest.approx(value, abs=within)


def gradient(loss, pixel):
    logits = student_logits()
    loss(logits).backward()
    return logits.grad[0, :, pixel[0], pixel[1]].tolist()


def random_logits(classes: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(2, classes, 4, 5, dtype=F64, generator=torch.Generator().manual_seed(seed))


def test_the_worked_logits_are_those_of_the_notes():
    first = [1.68294197, 1.49141042, -0.88504089, -1.96490523, -0.16617881]
    assert STUDENT[0, :, 0, 0].tolist() == near(first, 1e-8)
    assert STUDENT[1, :, 1, 2].tolist() == near(
        [-0.51108220, -1.99984652, -0.55883100, 1.70087324, 1.46879420], 1e-8
    )
    assert TEACHER[0, :, 0, 0].tolist() == near([1.31637384, -0.04379928, -1.35610821], 1e-8)


def test_plain_cross_entropy_of_the_worked_example():
    assert cross_entropy(STUDENT, MASK).item() == near(2.3880122834)
    assert unbiased_cross_entropy(STUDENT, MASK, 1).item() == near(2.3880122834)


def test_unbiased_log_probabilities_of_the_worked_example():
    log_p = unbiased_log_probabilities(STUDENT, OLD)
    assert log_p.shape == (2, 3, 2, 3)
    assert log_p[0, :, 0, 0].tolist() == near([-0.09204783, -4.38300268, -2.58427626], 1e-8)


def test_unbiased_cross_entropy_of_the_worked_example():
    assert unbiased_cross_entropy(STUDENT, MASK, OLD).item() == near(1.5668577656)


def test_unbiased_cross_entropy_over_all_pixels_is_that_of_the_released_code():
    loss = unbiased_cross_entropy(STUDENT, MASK, OLD, compat_mean_over_all=True)
    assert loss.item() == near(1.3057148047)


def test_unbiased_cross_entropy_of_every_pixel():
    expected = [0.09204783, 4.13280388, 1.19576082, 0.47740782, 0, 1.46946052]
    expected += [1.34586432, 0.66885356, 2.27159998, 0, 1.87294762, 2.14183133]
    assert unbiased_cross_entropy_map(STUDENT, MASK, OLD).flatten().tolist() == near(expected, 1e-8)


def test_weighted_unbiased_cross_entropy_is_a_weighted_mean():
    weights = torch.tensor([1.0, 1, 1, 2, 4])
    assert unbiased_cross_entropy(STUDENT, MASK, OLD, weights=weights).item() == near(1.6498809395)


def test_old_classes_have_the_weight_of_the_background():
    weights = torch.tensor([1.0, 9, 9, 2, 4])
    assert unbiased_cross_entropy(STUDENT, MASK, OLD, weights=weights).item() == near(1.6498809395)


def test_labels_of_old_classes_are_learned_as_what_they_are_where_they_are_known():
    logits = random_logits(5)
    mask = torch.tensor([0, 1, 2, 3, 4, 255]).reshape(1, 2, 3).expand(len(logits), 2, 3)
    logits = logits[:, :, :2, :3]
    loss = unbiased_cross_entropy_map(logits, mask, 3, known_old=True)
    merged = unbiased_cross_entropy_map(logits, mask, 3)
    plain = F.cross_entropy(logits, mask, ignore_index=255, reduction="none")
    old = (mask == 1) | (mask == 2)
    torch.testing.assert_close(loss[old], plain[old])
    torch.testing.assert_close(loss[~old], merged[~old])
    assert bool((merged[old] < plain[old]).all())


@pytest.mark.parametrize("weights", [None, torch.ones(5)])
@pytest.mark.parametrize("compat", [False, True])
def test_a_batch_without_known_pixels_costs_nothing(weights, compat):
    logits = student_logits()
    loss = unbiased_cross_entropy(logits, UNKNOWN, OLD, weights=weights, compat_mean_over_all=compat)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("pixel", "expected"),
    [
        ((0, 0), [-0.00462254, -0.00381680, -0.00035450, 0.00124878, 0.00754507]),
        ((0, 1), [0.06081282, 0.01991874, 0.00186507, -0.09839622, 0.01579959]),
    ],
)
def test_gradient_of_unbiased_cross_entropy(pixel, expected):
    found = gradient(lambda logits: unbiased_cross_entropy(logits, MASK, OLD), pixel)
    assert found == near(expected, 1e-8)


def test_distillation_of_the_worked_example():
    assert knowledge_distillation(STUDENT, TEACHER).item() == near(0.4566147824)
    assert knowledge_distillation(STUDENT, TEACHER, alpha=2).item() == near(0.3884736320)
    assert 100 * knowledge_distillation(STUDENT, TEACHER).item() == near(45.6614782422, 1e-7)


def test_distillation_of_every_pixel():
    expected = [0.27133242, 0.29924400, 0.73323185, 0.26555368, 0.56569068, 0.77039480]
    expected += [0.23491101, 0.41686163, 0.78611670, 0.30837666, 0.47746048, 0.35020347]
    assert knowledge_distillation_map(STUDENT, TEACHER).flatten().tolist() == near(expected, 1e-8)


def test_unbiased_distillation_of_the_worked_example():
    assert unbiased_distillation(STUDENT, TEACHER).item() == near(0.6369894063)
    assert unbiased_distillation(STUDENT, TEACHER, alpha=2).item() == near(0.5619756226)


def test_unbiased_distillation_of_every_pixel():
    expected = [0.25966981, 0.30244175, 0.80900584, 0.29012806, 0.70912323, 1.18755842]
    expected += [0.24580930, 0.48645040, 1.08089703, 0.41773090, 0.87170386, 0.98335427]
    assert unbiased_distillation_map(STUDENT, TEACHER).flatten().tolist() == near(expected, 1e-8)


def test_distillation_where_the_mask_is_old_is_averaged_over_all_pixels():
    where = MASK < OLD
    assert unbiased_distillation(STUDENT, TEACHER, where=where).item() == near(0.3399054016)
    assert knowledge_distillation(STUDENT, TEACHER, where=where).item() == near(0.2126505398)


def test_gradient_of_unbiased_distillation():
    found = gradient(lambda logits: unbiased_distillation(logits, TEACHER), (0, 0))
    assert found == near([-0.00438819, 0.00561923, -0.00042615, -0.00011430, -0.00069059], 1e-8)


def test_the_total_of_the_worked_example():
    total = unbiased_cross_entropy(STUDENT, MASK, OLD) + 10 * unbiased_distillation(STUDENT, TEACHER)
    assert total.item() == near(7.9367518289)


def test_a_teacher_gets_no_gradient():
    teacher = teacher_logits().requires_grad_()
    logits = student_logits()
    losses = [f(logits, teacher) for f in (knowledge_distillation, unbiased_distillation, icarl_distillation)]
    sum(losses, icarl_combined(logits, MASK, teacher)).backward()
    assert teacher.grad is None


def test_sums_of_binary_cross_entropies_of_the_worked_example():
    assert icarl_cross_entropy(STUDENT, MASK).item() == near(4.6503095627, 1e-6)
    assert icarl_cross_entropy(STUDENT, MASK, compat_mean_over_all=True).item() == near(3.8752574921, 1e-6)
    assert icarl_cross_entropy(STUDENT, UNKNOWN).item() == 0


def test_binary_distillation_of_the_worked_example():
    loss = icarl_distillation(STUDENT, TEACHER)
    assert loss.item() == near(0.7523339470)
    assert 10 * OLD * loss.item() == near(22.5700184087, 1e-8)


@pytest.mark.parametrize(("background", "value"), [("teacher", 4.5533437729), ("labels", 5.0041155815)])
def test_a_teacher_in_place_of_labels_in_the_worked_example(background, value):
    loss = icarl_combined(STUDENT, MASK, TEACHER, background=background, compat_ignored_absent=True)
    assert loss.item() == near(value, 1e-6)


def test_labels_teach_nothing_where_they_are_unknown():
    logits = student_logits()
    icarl_combined(logits, UNKNOWN, TEACHER).backward()
    assert logits.grad[:, OLD:].abs().max() == 0
    assert logits.grad[:, :OLD].abs().min() > 0
    loss = icarl_combined(STUDENT, UNKNOWN, TEACHER, background="labels")
    assert loss.item() == near(
        2 * F.binary_cross_entropy_with_logits(STUDENT[:, 1:OLD], torch.sigmoid(TEACHER[:, 1:])).item()
    )


SINGLE = torch.tensor([1, 2, 0.5, -1], dtype=F64).reshape(1, 4, 1, 1)
SINGLE_TEACHER = torch.tensor([0.8, 1.5, 0.1], dtype=F64).reshape(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("old", "values"),
    [
        (1, [1.4951818981, 0.4951818981, 1.9951818981, 3.4951818981]),
        (3, [0.0308131140, 0.0308131140, 0.0308131140, 3.4951818981]),
        (2, [0.1819202106, 0.1819202106, 1.9951818981, 3.4951818981]),
    ],
)
def test_unbiased_cross_entropy_of_a_single_pixel(old, values):
    found = [unbiased_cross_entropy(SINGLE, torch.tensor([[[t]]]), old).item() for t in range(4)]
    assert found == near(values)


def test_distillations_of_a_single_pixel():
    assert knowledge_distillation(SINGLE, SINGLE_TEACHER).item() == near(0.3204790478)
    assert unbiased_distillation(SINGLE, SINGLE_TEACHER).item() == near(0.3186973043)


def test_distillation_is_unbiased_where_no_class_was_added():
    student, teacher = random_logits(4), random_logits(4, 1)
    expected = knowledge_distillation(student, teacher).item()
    assert unbiased_distillation(student, teacher).item() == near(expected, 1e-12)


def test_unbiased_cross_entropy_with_the_background_alone_is_the_plain_one():
    logits = random_logits(4)
    mask = torch.randint(0, 4, (2, 4, 5), generator=torch.Generator().manual_seed(2))
    weights = torch.tensor([1.0, 2, 3, 4])
    expected = cross_entropy(logits, mask, weights).item()
    assert unbiased_cross_entropy(logits, mask, 1, weights=weights).item() == near(expected, 1e-12)


@pytest.mark.parametrize("old", [1, 2, 5])
def test_unbiased_probabilities_sum_to_one(old):
    total = unbiased_log_probabilities(random_logits(5), old).exp().sum(1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-12)


def test_a_constant_added_to_all_logits_changes_nothing():
    lifted = STUDENT + 37.0
    assert unbiased_cross_entropy(lifted, MASK, OLD).item() == near(1.5668577656)
    assert unbiased_distillation(lifted, TEACHER - 11.0).item() == near(0.6369894063)


def test_a_classifier_split_evenly_keeps_what_the_teacher_says():
    # logits of the new classes and of the background: the old background's, less ln(new + 1)
    teacher = random_logits(3)
    first = teacher[:, :1] - math.log(3)
    student = torch.cat([first, teacher[:, 1:], first, first], dim=1)
    p_old = torch.softmax(teacher, 1)
    p = torch.softmax(student, 1)
    assert torch.allclose(p[:, 0] + p[:, 3:].sum(1), p_old[:, 0], atol=1e-12)
    assert torch.allclose(p[:, 1:3], p_old[:, 1:], atol=1e-12)
    entropy = -(p_old * p_old.log()).sum(1).mean() / 3
    assert unbiased_distillation(student, teacher).item() == near(entropy.item(), 1e-12)


def test_a_student_that_says_what_the_teacher_says_gets_no_gradient_of_it():
    teacher = random_logits(3)
    first = teacher[:, :1] - math.log(2)
    student = torch.cat([first, teacher[:, 1:], first], dim=1).requires_grad_()
    unbiased_distillation(student, teacher).backward()
    assert student.grad.abs().max().item() < 1e-15


def test_merged_masks_keep_unknown_pixels():
    mask = torch.tensor([[[0, 1, 2, 3, 4, 255]]], dtype=torch.uint8)
    assert merged_mask(mask, OLD).tolist() == [[[0, 0, 0, 1, 2, 255]]]


def test_losses_are_computed_in_32_bits():
    student, teacher = STUDENT.half(), TEACHER.half()
    loss = unbiased_cross_entropy(student, MASK, OLD) + 10 * unbiased_distillation(student, teacher)
    assert loss.dtype == torch.float32
    expected = 7.9367518289
    assert loss.item() == near(expected, 1e-2)
    mixed = unbiased_cross_entropy(STUDENT.float(), MASK, OLD).item()
    assert mixed == near(1.5668577656, 1e-6)


@pytest.mark.parametrize("size", [60.0, 1e4])
def test_losses_and_gradients_are_finite_at_large_logits(size):
    logits = (student_logits().detach().float() * size).requires_grad_()
    teacher = TEACHER.float() * size
    loss = unbiased_cross_entropy(logits, MASK, OLD) + unbiased_distillation(logits, teacher)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_fewer_channels_than_old_ones_are_refused():
    with pytest.raises(ValueError, match="logits have 2 channels, expected at least the 3 old ones"):
        unbiased_distillation(STUDENT[:, :2], TEACHER)
    with pytest.raises(ValueError, match="expected at least the 6 old ones"):
        unbiased_cross_entropy(STUDENT, MASK, 6)


def test_features_are_compared_where_both_are_valid():
    features, wanted = torch.zeros(2, 3, 2, 2), torch.ones(2, 3, 2, 2)
    wanted[:, :, 0, 0] = 5
    where = torch.ones(1, 2, 2, dtype=torch.bool)
    where[:, 0, 0] = False
    assert feature_consistency(features, wanted).item() == pytest.approx((3 + 25) / 4)
    assert feature_consistency(features, wanted, where=where).item() == pytest.approx(1)
    assert feature_consistency(features, wanted, where=torch.zeros_like(where)).item() == 0


def test_the_gradient_of_feature_consistency_flows_into_both():
    features, wanted = torch.zeros(1, 1, 1, 2, requires_grad=True), torch.ones(1, 1, 1, 2, requires_grad=True)
    feature_consistency(features, wanted).backward()
    assert features.grad.flatten().tolist() == [-1, -1]
    assert wanted.grad.flatten().tolist() == [1, 1]
