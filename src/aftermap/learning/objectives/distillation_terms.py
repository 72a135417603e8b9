"""Terms of distillation as data: each names a loss of `losses.distillation`, its teacher, weight and schedule."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self, assert_never

import torch
from pydantic import Field, model_validator
from torch import Tensor

from aftermap.config import Config
from aftermap.data.loading.targets import known
from aftermap.errors import RecipeError
from aftermap.learning.losses import distillation as losses
from aftermap.learning.losses.distillation import Classes, Direction
from aftermap.learning.losses.pixel import widened
from aftermap.learning.objectives.schedule import Schedule as Schedule
from aftermap.learning.objectives.schedule import factor as factor
from aftermap.learning.objectives.terms import Clamp, NotNegative, Term, term_value, truth_of

Temperature = Annotated[float, Field(gt=0)]
Where = Literal["everywhere", "buildings", "known"]


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """What a teacher says about a batch.

    Attributes:
        logits: (B, K, H, W), K = 1 one logit of building; of an ensemble the logarithm of its probabilities.
        features: deepest encoder features (B, C, h, w), one per date.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()


class _Term(Config):
    """What all terms say.

    Attributes:
        weight: factor of the term; 0 leaves it out.
        schedule: of that weight.
    """

    weight: NotNegative = 1.0
    schedule: Schedule = Schedule()


class _OfTeacher(_Term):
    """A term that looks at a teacher.

    Attributes:
        teacher: its name in the recipe.
    """

    teacher: str = "main"


class SoftTargetsTerm(_OfTeacher):
    """Divergence from the teacher's softened probabilities; needs no labels. See `losses.distillation.soft_targets`.

    Attributes:
        temperature: of both.
        direction: `forward` KL(teacher || student), `reverse` KL(student || teacher), `both` their mean.
        classes: `all`, or `building`, which merges the damage classes on either side: between networks of damage
            and of localization.
        class_weights: one per class; a pixel weighs the mean of them under the teacher's probabilities, so that
            every pixel still has its minimum where both agree.
        where: `everywhere`; `buildings` by p(building), the label's where it is known, else the teacher's; or
            where the class is `known`.
        compat_class_mean: divide by the number of classes.
        compat_floor: added to probabilities before the logarithm.
    """

    loss: Literal["soft-targets"]
    temperature: Temperature = 2.0
    direction: Direction = "forward"
    classes: Classes = "all"
    class_weights: tuple[NotNegative, ...] | None = None
    where: Where = "everywhere"
    compat_class_mean: bool = False
    compat_floor: Clamp = 0.0


class _OfLabels(Config):
    """Keys of the cross-entropy with the labels; unlabelled pixels take no part.

    Attributes:
        temperature: of the student, and of the teacher where there is one.
        classes: `all`, or `building`, which merges the damage classes.
        class_weights: one per class, by the label.
        where: `buildings` leaves out the background; the others are the same here.
        compat_class_mean: divide by the number of classes.
        compat_broadcast: compare every map of the batch with every target of it; two classes only.
        compat_channel_masks: compare map c of the batch with one-hot channel c of each target; batches of 5 or 1.
        compat_floor: added to probabilities before the logarithm.
    """

    temperature: Temperature = 1.0
    classes: Classes = "all"
    class_weights: tuple[NotNegative, ...] | None = None
    where: Where = "everywhere"
    compat_class_mean: bool = False
    compat_broadcast: bool = False
    compat_channel_masks: bool = False
    compat_floor: Clamp = 0.0

    @model_validator(mode="after")
    def _switches_go_together(self) -> Self:
        if self.compat_broadcast and self.compat_channel_masks:
            raise ValueError("compat_broadcast and compat_channel_masks are of different losses: choose one")
        crossed = self.compat_broadcast or self.compat_channel_masks
        if crossed and (self.class_weights is not None or self.where == "buildings"):
            raise ValueError(
                "the compat forms across the batch weigh all pixels alike: drop class_weights, where"
            )
        return self


class TrueClassTerm(_OfLabels, _OfTeacher):
    """Cross-entropy with the labels, weighed by the teacher's probability of the true class (the published LWF).

    See `losses.distillation.true_class`.
    """

    loss: Literal["true-class"]


class HardLabelsTerm(_OfLabels, _Term):
    """The same without a teacher: cross-entropy of the softened logits with the labels.

    At temperature 1 without switches it is the term `cross-entropy` of `SupervisedConfig`, for one logit too.
    """

    loss: Literal["hard-labels"]


class SupervisedTerm(_Term):
    """Terms of learning from labels on logits that are altered first; unaltered they belong with the hard terms.

    Attributes:
        terms: what is minimised, see `SupervisedConfig`; their weighted sum.
        temperature: logits are divided by it.
        compat_double_sigmoid: the terms take the sigmoid of the logits for logits.
    """

    loss: Literal["supervised"]
    terms: tuple[Term, ...] = Field(min_length=1)
    temperature: Temperature = 1.0
    compat_double_sigmoid: bool = False


class FeatureTerm(_OfTeacher):
    """Distance of the deepest encoder features, mean over the dates.

    `feature-mse` and `normalised-feature-mse` compare channel by channel: where widths differ, the student's go through
    an adapter first. `attention-transfer` compares where there is activity, at any width.

    Attributes:
        dates: `both` compares date with date; `pre` the first of each, for a teacher of one date beside a student
            of two, or the reverse.
        where: of the pixels that a feature covers, see `SoftTargetsTerm`; not for attention.
        compat_norm_over_batch: of `feature-mse`: the norm is taken over the batch.
    """

    loss: Literal["feature-mse", "normalised-feature-mse", "attention-transfer"]
    dates: Literal["both", "pre"] = "both"
    where: Where = "everywhere"
    compat_norm_over_batch: bool = False

    @model_validator(mode="after")
    def _switches_fit_the_loss(self) -> Self:
        if self.compat_norm_over_batch and self.loss != "feature-mse":
            raise ValueError(f"compat_norm_over_batch is of feature-mse, found {self.loss}")
        if self.where != "everywhere" and (self.compat_norm_over_batch or self.loss == "attention-transfer"):
            raise ValueError(f"where is {self.where}, but this loss weighs all pixels alike: leave it out")
        return self

    @property
    def compares_channels(self) -> bool:
        """Whether student and teacher need features of the same width."""
        return self.loss != "attention-transfer"


DistillationTerm = Annotated[
    SoftTargetsTerm | TrueClassTerm | HardLabelsTerm | SupervisedTerm | FeatureTerm,
    Field(discriminator="loss"),
]


def teacher_of(term: DistillationTerm) -> str | None:
    """Name of the teacher that a term looks at."""
    return term.teacher if isinstance(term, _OfTeacher) else None


def class_weights_of(term: DistillationTerm) -> tuple[float, ...] | None:
    """Weights per class of a term, if it has any."""
    return term.class_weights if isinstance(term, SoftTargetsTerm | _OfLabels) else None


def distillation_names(terms: Sequence[DistillationTerm]) -> list[str]:
    """Names for logs: the loss, with its teacher unless that is `main`, with a number where it occurs again."""
    names: list[str] = []
    for term in terms:
        teacher = teacher_of(term)
        name = term.loss if teacher in (None, "main") else f"{term.loss} {teacher}"
        tries = (name if n == 1 else f"{name} {n}" for n in itertools.count(1))
        names.append(next(free for free in tries if free not in names))
    return names


def check_distillation(term: DistillationTerm, classes: int, teacher_classes: int | None = None) -> None:
    """Raise ValueError where a term does not fit the logits of student and teacher.

    Args:
        term: which.
        classes: logits of the student.
        teacher_classes: logits of its teacher; None if unknown, or if it has none.
    """
    compared = {"student": classes, "teacher": teacher_classes if teacher_of(term) else None}
    if isinstance(term, SupervisedTerm | FeatureTerm):
        return
    if term.classes == "all":
        widths = {who: max(2, count) for who, count in compared.items() if count is not None}
        if len(set(widths.values())) > 1:
            raise ValueError(
                f"term {term.loss}: the student has {classes} classes, teacher {teacher_of(term)} "
                f"{teacher_classes}: compare p(building) with classes: building"
            )
    count = 2 if term.classes == "building" else max(2, classes)
    if term.class_weights is not None and len(term.class_weights) != count:
        raise ValueError(
            f"term {term.loss}: class_weights has {len(term.class_weights)} values, it compares {count} classes"
        )
    if isinstance(term, _OfLabels) and (term.compat_broadcast or term.compat_channel_masks) and count != 2:
        raise ValueError(
            f"term {term.loss}: its compat form across the batch compares p(building): give it classes: building"
        )


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
    if isinstance(term, _OfLabels) and term.compat_channel_masks and len(mask) not in (1, 5):
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
