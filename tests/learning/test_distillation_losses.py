"""Distillation: the right forms by hand, by references written here and by their properties."""

import math

import pytest
import torch
import torch.nn.functional as F

from aftermap.classes import IGNORE
from aftermap.config import Config, build_config
from aftermap.errors import RecipeError
from aftermap.learning.configs.distillation_terms import (
    DistillationTerm,
    check_distillation,
    distillation_names,
    teacher_of,
)
from aftermap.learning.configs.schedule import Schedule, factor
from aftermap.learning.losses import distillation as losses
from aftermap.learning.losses.pixel import binary_cross_entropy, cross_entropy
from aftermap.learning.objectives.distillation_terms import TeacherOutput, distillation_value, pixel_weights


class Terms(Config):
    terms: tuple[DistillationTerm, ...]


def parsed(term):
    return build_config(Terms, {"terms": [term]}).terms[0]


def value_of(term, student, teacher=None, mask=None, features=(), teacher_features=(), class_weights=None):
    mask = torch.full((len(student), *student.shape[2:]), IGNORE) if mask is None else mask
    output = None if teacher is None else TeacherOutput(teacher, tuple(teacher_features))
    return distillation_value(parsed(term), student, features, output, mask, class_weights)


def logits_of(probabilities):
    """Logits (1, K, 1, pixels) of probabilities by class."""
    return torch.tensor(probabilities, dtype=torch.float64).log()[None, :, None, :]


def random(*shape, seed=0):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(*shape, classes=5, seed=0):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


# two pixels: the teacher says (.5, .5) and (.8, .2), the student (.75, .25) and (.8, .2)
TEACHER = logits_of([[0.5, 0.8], [0.5, 0.2]])
STUDENT = logits_of([[0.75, 0.8], [0.25, 0.2]])
FORWARD = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
REVERSE = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2


@pytest.mark.parametrize(
    ("direction", "value"),
    [("forward", FORWARD), ("reverse", REVERSE), ("both", (FORWARD + REVERSE) / 2)],
)
def test_soft_targets_by_hand(direction, value):
    found = losses.soft_targets(STUDENT, TEACHER, direction=direction)
    assert found.item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_soft_targets_are_torchs_divergence_times_the_squared_temperature(temperature):
    student, teacher = random(2, 5, 4, 4), random(2, 5, 4, 4, seed=1)
    log_s, log_t = (torch.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    pixels = 2 * 4 * 4
    forward = F.kl_div(log_s, log_t, log_target=True, reduction="sum") / pixels * temperature**2
    reverse = F.kl_div(log_t, log_s, log_target=True, reduction="sum") / pixels * temperature**2
    term = {"loss": "soft-targets", "temperature": temperature}
    assert value_of(term, student, teacher).item() == pytest.approx(forward.item(), abs=1e-12)
    found = value_of({**term, "direction": "reverse"}, student, teacher)
    assert found.item() == pytest.approx(reverse.item(), abs=1e-12)


def test_one_logit_is_compared_as_building_against_background():
    student, teacher = random(2, 1, 4, 4), random(2, 1, 4, 4, seed=1)
    p, q = torch.sigmoid(teacher / 3), torch.sigmoid(student / 3)
    expected = 9 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    found = value_of({"loss": "soft-targets", "temperature": 3}, student, teacher)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_one_logit_and_two_logits_of_the_same_probabilities_are_the_same():
    one, teacher = random(2, 1, 4, 4), random(2, 1, 4, 4, seed=1)
    two = torch.cat([torch.full_like(one, 0.7), one + 0.7], dim=1)
    term = {"loss": "soft-targets"}
    assert value_of(term, two, teacher).item() == pytest.approx(
        value_of(term, one, teacher).item(), abs=1e-12
    )


@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
@pytest.mark.parametrize("classes", [1, 5])
def test_a_student_like_its_teacher_costs_nothing_and_has_nothing_to_learn(direction, classes):
    teacher = random(2, classes, 4, 4)
    student = teacher.clone().requires_grad_()
    value = value_of({"loss": "soft-targets", "direction": direction}, student, teacher)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max().item() < 1e-12


@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
def test_a_constant_added_to_all_logits_of_a_pixel_changes_nothing(direction):
    student, teacher = random(2, 5, 3, 3), random(2, 5, 3, 3, seed=1)
    term = {"loss": "soft-targets", "direction": direction}
    shifted = value_of(term, student + 3, teacher - 5)
    assert shifted.item() == pytest.approx(value_of(term, student, teacher).item(), abs=1e-12)


@pytest.mark.parametrize("temperature", [20.0, 40.0])
def test_the_gradient_does_not_shrink_with_the_temperature(temperature):
    # Hinton et al. 2015, equation 4: at high temperature (z - v) / K, both centred over the classes
    student, teacher = random(1, 5, 2, 2).requires_grad_(), random(1, 5, 2, 2, seed=1)
    value_of({"loss": "soft-targets", "temperature": temperature}, student, teacher).backward()
    difference = student.detach() - teacher
    expected = (difference - difference.mean(dim=1, keepdim=True)) / 5 / 4
    assert torch.allclose(student.grad, expected, atol=0.15 * expected.abs().max().item())


def test_log_probabilities_of_an_ensemble_are_its_soft_targets():
    members = torch.softmax(random(3, 2, 5, 4, 4), dim=2)
    mean, student = members.mean(dim=0), random(2, 5, 4, 4, seed=1)
    expected = (mean * (mean.log() - torch.log_softmax(student, dim=1))).sum(dim=1).mean()
    found = value_of({"loss": "soft-targets", "temperature": 1}, student, mean.log())
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("classes", ["all", "building"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
def test_a_teacher_that_is_certain_gives_finite_values(direction, classes):
    certain = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]).log().reshape(1, 5, 1, 1)
    student = torch.zeros(1, 5, 1, 1, requires_grad=True)
    term = {"loss": "soft-targets", "direction": direction, "classes": classes}
    value = value_of(term, student, certain)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


def test_degrees_are_compared_among_themselves_wherever_buildings_are_said_to_be():
    teacher = logits_of([[0.5], [0.3], [0.2]])  # of a building, 0.6 and 0.4
    student = logits_of([[0.1], [0.45], [0.45]])  # of a building, half and half
    term = {"loss": "soft-targets", "temperature": 1, "classes": "damage"}
    expected = 0.6 * math.log(0.6 / 0.5) + 0.4 * math.log(0.4 / 0.5)
    assert value_of(term, student, teacher).item() == pytest.approx(expected)
    moved = student.clone()
    moved[:, 0] += 3  # p(building) is none of this term's business
    torch.testing.assert_close(value_of(term, moved, teacher), value_of(term, student, teacher))


def test_building_terms_look_at_p_building_alone():
    teacher = random(2, 1, 4, 4)
    student = logits_of([[0.4], [0.3], [0.1], [0.1], [0.1]]).expand(2, -1, 4, 4)
    otherwise = logits_of([[0.4], [0.0001], [0.1999], [0.2], [0.2]]).expand(2, -1, 4, 4)
    p = torch.sigmoid(teacher)
    expected = (p * (p / 0.6).log() + (1 - p) * ((1 - p) / 0.4).log()).mean()
    term = {"loss": "soft-targets", "temperature": 1, "classes": "building"}
    for damage in (student, otherwise):
        assert value_of(term, damage, teacher).item() == pytest.approx(expected.item(), abs=1e-12)


def test_a_damage_teacher_teaches_a_localization_student():
    damage = logits_of([[0.4], [0.3], [0.1], [0.1], [0.1]])
    same = torch.tensor(0.6 / 0.4).log().double().reshape(1, 1, 1, 1)
    term = {"loss": "soft-targets", "temperature": 1, "classes": "building"}
    assert value_of(term, same, damage).item() == pytest.approx(0, abs=1e-9)
    assert value_of(term, same + 1, damage).item() > 0.1


def test_different_numbers_of_classes_are_refused_by_what_to_do():
    with pytest.raises(ValueError, match="classes: building"):
        value_of({"loss": "soft-targets"}, random(2, 5, 4, 4), random(2, 1, 4, 4))


def test_the_true_class_by_hand():
    # class 0 and class 1 are true: the teacher gives them .5 and .2, the student .75 and .2
    value = value_of({"loss": "true-class"}, STUDENT, TEACHER, torch.tensor([[[0, 1]]]))
    assert value.item() == pytest.approx(-(0.5 * math.log(0.75) + 0.2 * math.log(0.2)) / 2, abs=1e-12)


def test_the_true_class_does_not_depend_on_the_number_of_classes():
    more = torch.full((1, 3, 1, 2), -200.0, dtype=torch.float64)
    mask = torch.tensor([[[0, 1]]])
    few = value_of({"loss": "true-class"}, STUDENT, TEACHER, mask)
    many = value_of(
        {"loss": "true-class"}, torch.cat([STUDENT, more], 1), torch.cat([TEACHER, more], 1), mask
    )
    assert many.item() == pytest.approx(few.item(), abs=1e-12)


@pytest.mark.parametrize("loss", ["true-class", "hard-labels"])
def test_building_labels_are_all_classes_of_damage(loss):
    student, teacher, mask = random(2, 1, 4, 4), random(2, 1, 4, 4, seed=1), random_mask(2, 4, 4)
    damage = value_of({"loss": loss}, student, teacher, mask)
    building = value_of({"loss": loss}, student, teacher, (mask > 0).long())
    assert damage.item() == pytest.approx(building.item(), abs=1e-12)


def test_hard_labels_are_cross_entropy():
    student, mask = random(2, 5, 4, 4), random_mask(2, 4, 4)
    mask[0, 0] = IGNORE
    weights = torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64)
    term = {"loss": "hard-labels"}
    expected = cross_entropy(student, mask)
    assert value_of(term, student, mask=mask).item() == pytest.approx(expected.item(), abs=1e-12)
    weighted = value_of(term, student, mask=mask, class_weights=weights)
    assert weighted.item() == pytest.approx(cross_entropy(student, mask, weights).item(), abs=1e-12)


def test_hard_labels_of_one_logit_are_binary_cross_entropy():
    student, mask = random(2, 1, 4, 4), random_mask(2, 4, 4, classes=2)
    expected = binary_cross_entropy(student / 2, (mask == 1)[:, None])
    found = value_of({"loss": "hard-labels", "temperature": 2}, student, mask=mask)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("loss", ["true-class", "hard-labels"])
def test_the_broadcast_form_compares_all_maps_with_all_masks(loss):
    student, teacher = random(3, 1, 2, 2), random(3, 1, 2, 2, seed=1)
    mask = random_mask(3, 2, 2, classes=2)
    p, q = torch.sigmoid(student[:, 0] / 2), torch.sigmoid(teacher[:, 0] / 2)
    values = []
    for of_mask in range(3):
        for of_map in range(3):
            y = mask[of_mask].double()
            sure = q[of_map] * y + (1 - q[of_map]) * (1 - y) if loss == "true-class" else 1.0
            values.append(-sure * (p[of_map] * y + (1 - p[of_map]) * (1 - y)).log())
    term = {"loss": loss, "temperature": 2, "compat_broadcast": True}
    found = value_of(term, student, teacher, mask)
    assert found.item() == pytest.approx(torch.stack(values).mean().item(), abs=1e-12)
    right = value_of({"loss": loss, "temperature": 2}, student, teacher, mask)
    assert abs(found - right).item() > 1e-3


def test_the_channel_masks_form_pairs_maps_with_channels():
    student, teacher, mask = random(5, 5, 2, 2), random(5, 1, 2, 2, seed=1), random_mask(5, 2, 2)
    p = 1 - torch.softmax(student, dim=1)[:, 0]
    q = torch.sigmoid(teacher[:, 0])
    values = []
    for sample in range(5):
        for channel in range(5):
            y = (mask[sample] == channel).double()
            sure = q[channel] * y + (1 - q[channel]) * (1 - y)
            values.append(-sure * (p[channel] * y + (1 - p[channel]) * (1 - y)).log())
    term = {"loss": "true-class", "classes": "building", "compat_channel_masks": True}
    found = value_of(term, student, teacher, mask)
    assert found.item() == pytest.approx(torch.stack(values).mean().item(), abs=1e-12)


OF_LABELS = [
    {"loss": "true-class"},
    {"loss": "true-class", "classes": "building", "compat_broadcast": True},
    {"loss": "true-class", "classes": "building", "compat_class_mean": True},
    {"loss": "hard-labels", "where": "buildings"},
    {"loss": "supervised", "terms": [{"loss": "dice"}, {"loss": "cross-entropy"}]},
]
OF_TEACHER = [
    {"loss": "soft-targets"},
    {"loss": "soft-targets", "direction": "reverse", "classes": "building"},
    {"loss": "soft-targets", "direction": "both", "where": "buildings"},
    {"loss": "soft-targets", "direction": "reverse", "compat_class_mean": True, "compat_floor": 1e-9},
]
OF_FEATURES = [
    {"loss": "feature-mse"},
    {"loss": "feature-mse", "compat_norm_over_batch": True},
    {"loss": "normalised-feature-mse"},
    {"loss": "attention-transfer"},
]


def named(term):
    return "-".join(str(v) for k, v in term.items() if k != "terms")


@pytest.mark.parametrize("term", OF_LABELS, ids=named)
def test_pixels_without_a_label_take_no_part(term):
    student, teacher, mask = random(2, 5, 4, 8), random(2, 5, 4, 8, seed=1), random_mask(2, 4, 8)
    masked = mask.clone()
    masked[..., 5:] = IGNORE
    whole = value_of(term, student, teacher, masked)
    part = value_of(term, student[..., :5], teacher[..., :5], mask[..., :5])
    assert whole.item() == pytest.approx(part.item(), abs=1e-9)


@pytest.mark.parametrize("term", OF_LABELS, ids=named)
def test_a_batch_without_labels_costs_a_term_of_labels_nothing(term):
    student = random(2, 5, 4, 4).requires_grad_()
    value = value_of(term, student, random(2, 5, 4, 4, seed=1))
    value.backward()
    assert value.item() == 0 and not student.grad.any()


@pytest.mark.parametrize("term", OF_TEACHER, ids=named)
def test_terms_of_a_teacher_learn_from_every_unlabelled_pixel(term):
    student = random(2, 5, 4, 4).requires_grad_()
    value_of(term, student, random(2, 5, 4, 4, seed=1)).backward()
    assert (student.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("term", [*OF_LABELS, *OF_TEACHER, *OF_FEATURES], ids=named)
def test_gradients_reach_the_student_and_never_the_teacher(term):
    student, teacher = random(2, 5, 4, 4).requires_grad_(), random(2, 5, 4, 4, seed=1).requires_grad_()
    ours = random(2, 6, 2, 2, seed=2).requires_grad_()
    theirs = random(2, 6, 2, 2, seed=3).requires_grad_()
    value_of(term, student, teacher, random_mask(2, 4, 4), (ours,), (theirs,)).backward()
    learned, rest = (ours, student) if term in OF_FEATURES else (student, ours)
    assert learned.grad.abs().max() > 0 and rest.grad is None
    assert teacher.grad is None and theirs.grad is None


@pytest.mark.parametrize("term", [*OF_LABELS, *OF_TEACHER], ids=named)
@pytest.mark.parametrize(("size", "dtype"), [(120.0, torch.float32), (20.0, torch.float16)])
def test_terms_and_gradients_are_finite_at_extreme_logits(term, size, dtype):
    student = torch.full((2, 5, 2, 2), -size, dtype=dtype)
    student[0, 1], student[1, 3] = size, size
    student.requires_grad_()
    teacher = -student.detach()
    value = value_of(term, student, teacher, torch.tensor([[[0, 1], [2, 3]], [[4, 3], [3, IGNORE]]]))
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


def test_terms_run_in_32_bits_inside_autocast():
    student, teacher = random(2, 5, 4, 4).float(), random(2, 5, 4, 4, seed=1).float()
    expected = value_of({"loss": "soft-targets"}, student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_of({"loss": "soft-targets"}, student, teacher)
    assert found.item() == expected.item()


def test_building_weights_come_from_the_label_or_else_from_the_teacher():
    teacher = torch.tensor([0.0, 0.0, 0.0, math.log(3)]).reshape(1, 1, 1, 4)
    mask = torch.tensor([[[0, 3, IGNORE, IGNORE]]])
    weights = pixel_weights("buildings", mask, teacher)
    assert weights.flatten().tolist() == pytest.approx([0, 1, 0.5, 0.75], abs=1e-6)
    assert pixel_weights("known", mask, teacher).flatten().tolist() == [1, 1, 0, 0]
    assert pixel_weights("everywhere", mask, teacher) is None


def test_building_weights_by_hand():
    # pixel 0 is labelled background; pixel 1 is unlabelled and counts alone
    student, teacher = logits_of([[0.9, 0.75], [0.1, 0.25]]), logits_of([[0.1, 0.5], [0.9, 0.5]])
    term = {"loss": "soft-targets", "temperature": 1, "where": "buildings"}
    value = value_of(term, student, teacher, torch.tensor([[[0, IGNORE]]]))
    assert value.item() == pytest.approx(2 * FORWARD, abs=1e-12)


def test_class_weights_of_soft_targets_by_hand():
    # mean weights under the teacher: (1 + 3) / 2 = 2 and .8 + .2 * 3 = 1.4; the second pixel costs nothing
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    term = {"loss": "soft-targets", "temperature": 1}
    value = value_of(term, STUDENT, TEACHER, class_weights=weights)
    assert value.item() == pytest.approx(2 * (2 * FORWARD) / 3.4, abs=1e-12)


def test_class_weights_of_the_true_class_by_hand():
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    value = value_of(
        {"loss": "true-class"}, STUDENT, TEACHER, torch.tensor([[[0, 1]]]), class_weights=weights
    )
    expected = -(0.5 * math.log(0.75) + 3 * 0.2 * math.log(0.2)) / 4
    assert value.item() == pytest.approx(expected, abs=1e-12)


def test_the_true_class_on_buildings_leaves_the_background_out():
    term = {"loss": "true-class", "where": "buildings"}
    value = value_of(term, STUDENT, TEACHER, torch.tensor([[[0, 1]]]))
    assert value.item() == pytest.approx(-0.2 * math.log(0.2), abs=1e-12)


def pixel_features(*columns):
    """Features (1, C, 1, pixels) from one vector per pixel."""
    return torch.tensor(columns, dtype=torch.float64).T[None, :, None, :]


def test_feature_mse_by_hand():
    ours, theirs = pixel_features([1, 2], [0, 0]), pixel_features([1, 4], [3, 1])
    assert losses.feature_mse(ours, theirs).item() == pytest.approx((0 + 4 + 9 + 1) / 4)
    weights = torch.tensor([[[1.0, 3.0]]])
    assert losses.feature_mse(ours, theirs, weights).item() == pytest.approx((2 + 3 * 5) / 4)


def test_feature_weights_are_averaged_over_the_pixels_of_a_feature():
    ours, theirs = pixel_features([1], [0]), pixel_features([0], [2])
    weights = torch.tensor([[[1.0, 0, 1, 1], [0, 0, 1, 1]]])
    assert losses.feature_mse(ours, theirs, weights).item() == pytest.approx((0.25 * 1 + 1 * 4) / 1.25)


def test_normalised_features_compare_directions():
    ours, theirs = pixel_features([3, 4], [1, 0]), pixel_features([6, 8], [0, 5])
    # the same direction costs 0, a right angle 2
    assert losses.normalised_feature_mse(ours, theirs).item() == pytest.approx(1, abs=1e-9)
    assert losses.normalised_feature_mse(7 * ours, theirs).item() == pytest.approx(1, abs=1e-9)


def test_attention_transfer_by_hand_at_any_width():
    ours = pixel_features([3], [0])  # activity 9, 0: direction (1, 0)
    theirs = pixel_features([1, 1], [1, 1])  # activity 1, 1: direction (1, 1) / sqrt 2
    root = math.sqrt(0.5)
    expected = (1 - root) ** 2 + root**2
    assert losses.attention_transfer(ours, theirs).item() == pytest.approx(expected, abs=1e-9)


def test_attention_transfer_is_a_mean_over_images():
    ours, theirs = random(3, 4, 5, 5), random(3, 7, 5, 5, seed=1)
    each = [losses.attention_transfer(ours[i : i + 1], theirs[i : i + 1]).item() for i in range(3)]
    assert losses.attention_transfer(ours, theirs).item() == pytest.approx(sum(each) / 3, abs=1e-12)


def test_a_finer_teacher_is_averaged_onto_the_students_grid():
    ours = torch.zeros(1, 1, 1, 2)
    theirs = torch.tensor([[1.0, 3, 5, 5], [1, 3, 5, 5]])[None, None]
    assert losses.resized(theirs, ours).flatten().tolist() == [2, 5]
    assert losses.feature_mse(ours, theirs).item() == pytest.approx((4 + 25) / 2)


def test_a_coarser_teacher_is_interpolated_onto_the_students_grid():
    theirs = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    assert losses.resized(theirs, torch.zeros(1, 3, 1, 4)).flatten().tolist() == [0, 1, 3, 4]


def test_the_published_feature_loss_grows_with_the_batch_and_ours_does_not():
    ours, theirs = random(1, 6, 3, 3), random(1, 6, 3, 3, seed=1)
    many = (ours.expand(4, -1, -1, -1), theirs.expand(4, -1, -1, -1))
    published = losses.batch_distance
    assert published(*many).item() == pytest.approx(2 * published(ours, theirs).item(), abs=1e-12)
    for loss in (losses.feature_mse, losses.normalised_feature_mse, losses.attention_transfer):
        assert loss(*many).item() == pytest.approx(loss(ours, theirs).item(), abs=1e-12)


def test_feature_terms_average_the_dates():
    student, teacher = random(1, 5, 4, 4), random(1, 5, 4, 4, seed=1)
    ours = (pixel_features([1.0]), pixel_features([2.0]))
    theirs = (pixel_features([0.0]), pixel_features([5.0]))
    both = value_of({"loss": "feature-mse"}, student, teacher, features=ours, teacher_features=theirs)
    assert both.item() == pytest.approx((1 + 9) / 2)
    pre = {"loss": "feature-mse", "dates": "pre"}
    for features in (theirs, theirs[:1]):
        value = value_of(pre, student, teacher, features=ours, teacher_features=features)
        assert value.item() == pytest.approx(1)


def test_features_of_different_dates_or_widths_are_refused_by_what_to_do():
    student, teacher = random(1, 5, 4, 4), random(1, 5, 4, 4, seed=1)
    one, two = (pixel_features([1.0]),), (pixel_features([1.0]), pixel_features([2.0]))
    with pytest.raises(ValueError, match="dates: pre"):
        value_of({"loss": "feature-mse"}, student, teacher, features=two, teacher_features=one)
    with pytest.raises(ValueError, match="1 channels, the teacher's 2: adapt them first"):
        losses.feature_mse(pixel_features([1.0]), pixel_features([1.0, 2.0]))


def test_building_masked_features_see_the_buildings_alone():
    student, teacher = random(1, 5, 1, 4), random(1, 5, 1, 4, seed=1)
    ours, theirs = (pixel_features([1], [7]),), (pixel_features([0], [0]),)
    mask = torch.tensor([[[2, 1, 0, 0]]])
    term = {"loss": "feature-mse", "where": "buildings"}
    assert value_of(term, student, teacher, mask, ours, theirs).item() == pytest.approx(1)


def test_a_supervised_term_is_its_terms_on_softened_logits():
    student, mask = random(2, 5, 4, 4), random_mask(2, 4, 4)
    term = {"loss": "supervised", "temperature": 2, "terms": [{"loss": "cross-entropy", "weight": 3}]}
    assert value_of(term, student, mask=mask).item() == pytest.approx(
        3 * cross_entropy(student / 2, mask).item(), abs=1e-12
    )


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"kind": "linear", "start": 0}, [0, 0.25, 0.5, 0.75, 1]),
        ({"kind": "linear", "end": 0, "finish": 0.5}, [1, 0.5, 0, 0, 0]),
        ({"kind": "linear", "start": 0, "end": 2, "begin": 0.5}, [0, 0, 0, 1, 2]),
        ({"kind": "cosine", "end": 0}, [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0]),
    ],
)
def test_schedules_by_hand(schedule, values):
    schedule = build_config(Schedule, schedule)
    assert [factor(schedule, step, 5) for step in range(5)] == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"loss": "soft-targets", "temperature": 0}, "temperature"),
        ({"loss": "soft-target"}, "did you mean 'soft-targets'"),
        ({"loss": "soft-targets", "schedule": {"start": 0.5}}, "nothing but its kind"),
        ({"loss": "soft-targets", "schedule": {"kind": "linear"}}, "start and end that differ"),
        (
            {"loss": "soft-targets", "schedule": {"kind": "linear", "end": 0, "begin": 0.5, "finish": 0.5}},
            "begin before finish",
        ),
        ({"loss": "true-class", "compat_broadcast": True, "compat_channel_masks": True}, "choose one"),
        ({"loss": "true-class", "compat_broadcast": True, "where": "buildings"}, "weigh all pixels alike"),
        ({"loss": "normalised-feature-mse", "compat_norm_over_batch": True}, "is of feature-mse"),
        ({"loss": "attention-transfer", "where": "buildings"}, "weighs all pixels alike"),
        ({"loss": "hard-labels", "teacher": "main"}, "unknown key"),
    ],
)
def test_terms_that_make_no_sense_are_refused(term, message):
    with pytest.raises(RecipeError, match=message):
        parsed(term)


@pytest.mark.parametrize(
    ("term", "classes", "teacher", "message"),
    [
        ({"loss": "soft-targets"}, 5, 1, "classes: building"),
        ({"loss": "soft-targets", "class_weights": [1, 2]}, 5, 5, "has 2 values, it compares 5"),
        ({"loss": "soft-targets", "classes": "building", "class_weights": [1] * 5}, 5, 1, "it compares 2"),
        ({"loss": "soft-targets", "classes": "damage", "class_weights": [1] * 5}, 5, 5, "it compares 4"),
        ({"loss": "soft-targets", "classes": "damage"}, 5, 2, "classes damage compares degrees"),
        ({"loss": "soft-targets", "classes": "damage"}, 2, 2, "classes damage compares degrees"),
        ({"loss": "hard-labels", "compat_broadcast": True}, 5, None, "give it classes: building"),
    ],
)
def test_terms_that_do_not_fit_the_models_are_refused(term, classes, teacher, message):
    with pytest.raises(ValueError, match=message):
        check_distillation(parsed(term), classes, teacher)


@pytest.mark.parametrize(
    ("term", "classes", "teacher"),
    [
        ({"loss": "soft-targets"}, 1, 2),
        ({"loss": "soft-targets", "classes": "building"}, 5, 1),
        ({"loss": "feature-mse"}, 5, 1),
        ({"loss": "true-class", "compat_broadcast": True}, 1, 1),
    ],
)
def test_terms_that_fit_pass(term, classes, teacher):
    check_distillation(parsed(term), classes, teacher)


def test_a_term_without_its_teacher_is_an_error():
    with pytest.raises(ValueError, match="looks at teacher 'main'"):
        value_of({"loss": "soft-targets"}, random(1, 5, 2, 2))


def test_terms_are_named_by_loss_and_teacher():
    terms = [
        parsed(t)
        for t in (
            {"loss": "soft-targets"},
            {"loss": "soft-targets", "direction": "reverse"},
            {"loss": "soft-targets", "teacher": "localizer", "classes": "building"},
            {"loss": "hard-labels"},
            {"loss": "soft-targets", "teacher": "localizer"},
            {"loss": "feature-mse", "teacher": "localizer"},
            {"loss": "feature-mse"},
        )
    ]
    assert distillation_names(terms) == [
        "soft-targets",
        "soft-targets 2",
        "soft-targets localizer",
        "hard-labels",
        "soft-targets localizer 2",
        "feature-mse localizer",
        "feature-mse",
    ]
    assert [teacher_of(t) for t in terms[:5]] == ["main", "main", "localizer", None, "localizer"]


def test_class_weights_of_merged_classes_are_two():
    student, mask = random(2, 5, 4, 4), random_mask(2, 4, 4)
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    term = {"loss": "hard-labels", "classes": "building"}
    found = value_of(term, student, mask=mask, class_weights=weights)
    log_p = torch.log_softmax(student, dim=1)
    merged = torch.stack([log_p[:, 0], torch.logsumexp(log_p[:, 1:], dim=1)], dim=1)
    expected = cross_entropy(merged, (mask > 0).long(), weights)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
