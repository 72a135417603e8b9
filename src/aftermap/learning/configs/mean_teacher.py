"""Learning from a moving average of the student, as data."""

from typing import Annotated, Literal

from pydantic import Field

from aftermap.config import Config
from aftermap.data.loading.damage_targets import DamageTargets
from aftermap.learning.configs.schedule import Schedule
from aftermap.learning.configs.terms import DEFAULT, Activation, NotNegative, SupervisedConfig, Term

Share = Annotated[float, Field(ge=0, le=1)]


class StrongConfig(Config):
    """How strongly. Every image of every date is drawn for itself, but what is cut out, which is one place.

    Attributes:
        contrast: every band is multiplied by a factor from 1 / (1 + contrast) to 1 + contrast, mostly alike.
        brightness: at most this is added to every band, in standard deviations of the normalisation.
        noise: largest standard deviation of the noise of single pixels, in the same unit.
        blur: chance that an image is smoothed over 3 x 3 px.
        cutout: share of the area that is emptied, in squares.
        cutout_px: side of those squares.
        cutout_counts: whether the student is asked about what it was not shown.
    """

    contrast: float = Field(default=0.4, ge=0)
    brightness: float = Field(default=0.3, ge=0)
    noise: float = Field(default=0.1, ge=0)
    blur: Share = 0.3
    cutout: Share = 0.1
    cutout_px: int = Field(default=32, ge=1)
    cutout_counts: bool = False


class MeanTeacherConfig(Config):
    """What is learned from the teacher, and from labels.

    Attributes:
        targets: see `SupervisedConfig`.
        terms: of labelled pixels; none learns from the teacher alone.
        decay: what the teacher keeps of itself at every step.
        decay_ramp: at step n no more than 1 - 1 / (n + 1) is kept, so that the teacher is the mean of all students until
            `decay` is reached: for students that start from nothing. A student that starts as a trained model had better
            not.
        weight: of the consistency.
        schedule: factor of the weight over the run.
        loss: `cross-entropy` with the teacher's probabilities (its gradient is that of their KL divergence), or `mse`
            between probabilities.
        activation: of the logits, as the model's card has it.
        everywhere: consistency on labelled pixels too.
        mirrored: the teacher's answer is the mean over the crop and its three mirrorings.
        confidence: the teacher's likeliest class (with sigmoids: the likelier of yes and no) must have this
            probability, else the pixel does not count; one number, or one per class. A threshold counts background, which
            is easier, more than buildings: on events that a model knew little of, they shrank.
        class_weights: what a pixel counts by its likeliest class; None weighs all alike.
        prior: expected shares of the classes: the teacher's probabilities are multiplied by prior / (their running mean)
            and made to add up to 1 again. None expects nothing.
        strong: what the student is shown.
        norm: `adapt` lets batch normalisation follow the images: the student learns with the statistics of its batch,
            and the teacher's running statistics are the moving average of the student's. `frozen` keeps the statistics
            that the model came with.
    """

    kind: Literal["mean-teacher"] = "mean-teacher"
    targets: DamageTargets | None = None
    terms: tuple[Term, ...] = DEFAULT
    decay: Share = 0.99
    decay_ramp: bool = False
    weight: NotNegative = 1.0
    schedule: Schedule = Schedule(kind="linear", start=0.0, end=1.0, finish=0.1)
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    activation: Activation = "softmax"
    everywhere: bool = False
    mirrored: bool = False
    confidence: Share | tuple[Share, ...] = 0.0
    class_weights: tuple[NotNegative, ...] | None = None
    prior: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None
    strong: StrongConfig = StrongConfig()
    norm: Literal["adapt", "frozen"] = "adapt"

    @property
    def hard(self) -> SupervisedConfig | None:
        """What is learned from labels; None if nothing is."""
        if not any(term.weight for term in self.terms):
            return None
        return SupervisedConfig(targets=self.targets, terms=self.terms)

    def check_classes(self, classes: int) -> None:
        """Raise ValueError where the terms or the numbers per class do not fit a model with so many logits."""
        if self.hard is not None:
            self.hard.check_classes(classes)
        if classes == 1 and self.activation == "softmax":
            raise ValueError("objective.activation is softmax, which one logit cannot have: use sigmoid")
        for name in ("confidence", "class_weights", "prior"):
            given = getattr(self, name)
            if isinstance(given, tuple) and len(given) != classes:
                raise ValueError(f"objective.{name} has {len(given)} values, the model has {classes} classes")
        if self.prior is not None and self.activation == "sigmoid":
            raise ValueError("objective.prior needs classes that exclude each other: activation softmax")
