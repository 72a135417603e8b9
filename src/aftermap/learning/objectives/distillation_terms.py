"""Terms of distillation: what each is worth on a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from aftermap.data.loading.targets import known
from aftermap.errors import RecipeError
from aftermap.learning.configs.distillation_terms import (
    DistillationTerm,
    FeatureTerm,
    HardLabelsTerm,
    OfLabels,
    SoftTargetsTerm,
    SupervisedTerm,
    TrueClassTerm,
    Where,
    teacher_of,
)
from aftermap.learning.losses import distillation as losses
from aftermap.learning.losses.pixel import widened
from aftermap.learning.objectives.terms import term_value, truth_of


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """What a teacher says about a batch.

    Attributes:
        logits: (B, K, H, W), K = 1 one logit of building; of an ensemble the logarithm of its probabilities.
        features: deepest encoder features (B, C, h, w), one per date.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()


def distillation_value(
    term: DistillationTerm,
    student_logits: Tensor,
    student_features: Sequence[Tensor],
    teacher: TeacherOutput | None,
    mask: Tensor,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Value of a term, without its weight and schedule.

    Args:
        term: which.
        student_logits: (B, K, H, W).
        student_features: deepest encoder features, one per date, as wide as the teacher's where `compares_channels`.
        teacher: what the term's teacher said; None for a term without one.
        mask: class indices (B, H, W) that the student is taught, IGNORE where unknown.
        class_weights: the term's, (K,), on the device of the logits.

    Returns:
        Scalar in 32 bits at least.

    Raises:
        ValueError: logits or features do not fit the term.
        RecipeError: the batch is neither 5 nor 1 with `compat_channel_masks`.
    """
    if teacher is None and teacher_of(term) is not None:
        raise ValueError(f"term {term.loss} looks at teacher {teacher_of(term)!r}, found no output of it")
    if isinstance(term, OfLabels) and term.compat_channel_masks and len(mask) not in (1, 5):
        raise RecipeError(
            f"compat_channel_masks pairs the maps of a batch with the five channels of a mask: the batch has "
            f"{len(mask)}, expected 5 or 1: set sampling.batch_size, or leave the switch off"
        )
    # no lower precision inside: probabilities near 0 and 1 would be rounded to them
    with torch.autocast(student_logits.device.type, enabled=False):
        match term:
            case SoftTargetsTerm():
                assert teacher is not None
                weights = pixel_weights(term.where, mask, teacher.logits)
                if class_weights is not None:
                    opinion = losses.class_log_probabilities(
                        teacher.logits.detach(), classes=term.classes
                    ).exp()
                    each = torch.einsum("bkhw,k->bhw", opinion, class_weights.to(opinion.dtype))
                    weights = each if weights is None else weights * each
                return losses.soft_targets(
                    student_logits,
                    teacher.logits,
                    weights,
                    temperature=term.temperature,
                    direction=term.direction,
                    classes=term.classes,
                    compat_class_mean=term.compat_class_mean,
                    compat_floor=term.compat_floor,
                )
            case TrueClassTerm() | HardLabelsTerm():
                return losses.true_class(
                    student_logits,
                    mask,
                    _label_weights(term, mask, class_weights),
                    teacher=None if teacher is None or isinstance(term, HardLabelsTerm) else teacher.logits,
                    temperature=term.temperature,
                    classes=term.classes,
                    compat_class_mean=term.compat_class_mean,
                    compat_broadcast=term.compat_broadcast,
                    compat_channel_masks=term.compat_channel_masks,
                    compat_floor=term.compat_floor,
                )
            case SupervisedTerm():
                return _supervised(term, student_logits, mask)
            case FeatureTerm():
                assert teacher is not None
                return _features(term, student_features, teacher, mask)
            case _:
                assert_never(term)


def pixel_weights(where: Where, mask: Tensor, teacher_logits: Tensor) -> Tensor | None:
    """Weight of every pixel (B, H, W); None weighs all alike.

    Args:
        where: `buildings` is 1 on labelled buildings, 0 on labelled background and the teacher's p(building) where
            nothing is labelled; `known` is 1 where something is.
        mask: class indices (B, H, W).
        teacher_logits: (B, K, H, W).
    """
    if where == "everywhere":
        return None
    labelled = known(mask)
    if where == "known":
        return labelled.to(widened(teacher_logits).dtype)
    building = losses.class_log_probabilities(teacher_logits.detach(), classes="building")[:, 1].exp()
    return torch.where(labelled, (mask > 0).to(building.dtype), building)


def _label_weights(
    term: TrueClassTerm | HardLabelsTerm, mask: Tensor, class_weights: Tensor | None
) -> Tensor:
    counted = known(mask)
    if term.where == "buildings":
        counted = counted & (mask > 0)
    if class_weights is None:
        return counted.to(torch.float32)
    # the last weight is also that of the classes that two classes merge into one
    index = torch.where(counted, mask, torch.zeros_like(mask)).clamp(max=len(class_weights) - 1)
    return torch.where(counted, class_weights[index], 0.0)


def _supervised(term: SupervisedTerm, logits: Tensor, mask: Tensor) -> Tensor:
    logits = widened(logits) / term.temperature
    if term.compat_double_sigmoid:
        logits = torch.sigmoid(logits)
    truth = truth_of(mask, logits.shape[1], None)
    total = logits.new_zeros(())
    for inner in term.terms:
        weights = None if inner.class_weights is None else logits.new_tensor(inner.class_weights)
        total = total + inner.weight * term_value(inner, logits, truth, weights)
    return total


def _features(term: FeatureTerm, student: Sequence[Tensor], teacher: TeacherOutput, mask: Tensor) -> Tensor:
    taught = teacher.features
    if term.dates == "pre":
        student, taught = student[:1], taught[:1]
    if not student or len(student) != len(taught):
        raise ValueError(
            f"term {term.loss}: features of {len(student)} dates of the student and {len(taught)} of teacher "
            f"{term.teacher}: compare the first of each with dates: pre"
        )
    weights = pixel_weights(term.where, mask, teacher.logits)
    values = []
    for ours, theirs in zip(student, taught, strict=True):
        if term.loss == "attention-transfer":
            values.append(losses.attention_transfer(ours, theirs))
        elif term.loss == "normalised-feature-mse":
            values.append(losses.normalised_feature_mse(ours, theirs, weights))
        elif term.compat_norm_over_batch:
            values.append(losses.batch_distance(ours, theirs))
        else:
            values.append(losses.feature_mse(ours, theirs, weights))
    return torch.stack(values).mean()
