"""Terms of distillation as data: each names a loss of `losses.distillation`, its teacher, weight and schedule."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.learning.configs.schedule import Schedule
from aftermap.learning.configs.terms import Clamp, NotNegative, Term
from aftermap.wording import counted

LabelClasses = Literal["all", "building"]
Classes = Literal[LabelClasses, "damage"]


Direction = Literal["forward", "reverse", "both"]


Temperature = Annotated[float, Field(gt=0)]


Where = Literal["everywhere", "buildings", "known"]


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
        classes: `all`; `building`, which merges the damage classes on either side: between networks of damage
            and of localization; or `damage`, the shares of the damage classes in p(building), which leaves where
            buildings are to other terms.
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


class OfLabels(Config):
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
    classes: LabelClasses = "all"
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


class TrueClassTerm(OfLabels, _OfTeacher):
    """Cross-entropy with the labels, weighed by the teacher's probability of the true class (the published LWF).

    See `losses.distillation.true_class`.
    """

    loss: Literal["true-class"]


class HardLabelsTerm(OfLabels, _Term):
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
    return term.class_weights if isinstance(term, SoftTargetsTerm | OfLabels) else None


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
                f"term {term.loss}: the student has {counted(classes, 'class', 'classes')}, teacher {teacher_of(term)} "
                f"{teacher_classes}: compare p(building) with classes: building"
            )
    if term.classes == "damage" and (set(compared.values()) - {None} != {classes} or classes < 3):
        raise ValueError(
            f"term {term.loss}: classes damage compares degrees of damage, the student has "
            f"{counted(classes, 'class', 'classes')}, teacher {teacher_of(term)} {teacher_classes}"
        )
    count = {"building": 2, "damage": classes - 1}.get(term.classes, max(2, classes))
    if term.class_weights is not None and len(term.class_weights) != count:
        raise ValueError(
            f"term {term.loss}: class_weights has {len(term.class_weights)} values, it compares {count} classes"
        )
    if isinstance(term, OfLabels) and (term.compat_broadcast or term.compat_channel_masks) and count != 2:
        raise ValueError(
            f"term {term.loss}: its compat form across the batch compares p(building): give it classes: building"
        )
