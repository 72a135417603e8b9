"""Terms of an objective as data: each names a loss, how logits are activated, and what its classes weigh."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from aftermap.classes import DAMAGE
from aftermap.config import Config
from aftermap.data.loading.damage_targets import DamageTargets

SMOOTH = 1e-6


Activation = Literal["softmax", "sigmoid"]


NotNegative = Annotated[float, Field(ge=0)]


Smooth = Annotated[float, Field(gt=0)]


Clamp = Annotated[float, Field(ge=0, lt=0.5)]


class _Term(Config):
    """What all terms say.

    Attributes:
        weight: factor of the term; 0 leaves it out.
        class_weights: one per channel; None weighs all alike.
        of: `classes`, each for itself; or `building`, all that are not background taken for one, so that two channels
            are compared, and what sets the classes apart is left to other terms.
    """

    weight: float = Field(default=1.0, ge=0)
    class_weights: tuple[NotNegative, ...] | None = None
    of: Literal["classes", "building"] = "classes"


class PerChannel(_Term):
    """A term made of one value per channel.

    Attributes:
        activation: of the logits; `sigmoid` looks at every channel for itself.
        reduction: `mean` divides the weighted sum over the channels by the sum of the weights, `sum` does not.
        absent: `skip` leaves channels out that do not occur (in the batch; in an image, where a term goes by image),
            whose overlap could only say "predict nothing"; `count` keeps them, as the published systems do.
    """

    activation: Activation = "softmax"
    reduction: Literal["mean", "sum"] = "mean"
    absent: Literal["skip", "count"] = "skip"

    @model_validator(mode="after")
    def _building_is_a_sum(self) -> Self:
        if self.of == "building" and self.activation != "softmax":
            raise ValueError("of is building, whose probability is a sum that only a softmax has")
        return self


class RegionTerm(PerChannel):
    """Overlap of prediction and truth, pooled over the batch or per image; see `losses.region`."""

    loss: Literal["dice", "jaccard", "log-cosh-dice"]
    per_image: bool = False
    smooth: Smooth = SMOOTH


class TverskyTerm(PerChannel):
    """Overlap with false alarms weighed by `alpha` and misses by `beta`."""

    loss: Literal["tversky"]
    alpha: NotNegative = 0.5
    beta: NotNegative = 0.5
    per_image: bool = False
    smooth: Smooth = SMOOTH


class LovaszTerm(PerChannel):
    """Lovász surrogate of the Jaccard index; `hinge` takes the logits of single channels as they are."""

    loss: Literal["lovasz"]
    activation: Literal["softmax", "sigmoid", "hinge"] = "softmax"  # type: ignore[assignment]
    per_image: bool = False


class FocalTerm(PerChannel):
    """Focal loss.

    With a softmax, `reduction` mean divides by the weights of the pixels' classes and `sum` by their number.

    Attributes:
        gamma: how much easy pixels are passed over; 0 is cross-entropy.
        alpha: with a sigmoid, weight of the pixels that are 1, those that are 0 get 1 - alpha (None weighs both by
            1); with a softmax, factor of the whole.
        compat_clamp: probabilities are kept this far from 0 and 1, with a sigmoid the truth too (the winner: 1e-6;
            MetaDamageNet's examples: 1e-8).
        compat_leak: with a softmax, this much of every class is wanted at every pixel (MetaDamageNet: 1e-6).
    """

    loss: Literal["focal"]
    absent: Literal["skip", "count"] = "count"
    gamma: NotNegative = 2.0
    alpha: NotNegative | None = None
    compat_clamp: Clamp = 0.0
    compat_leak: Clamp = 0.0

    @model_validator(mode="after")
    def _switches_fit_the_activation(self) -> Self:
        if self.compat_leak and self.compat_clamp:
            raise ValueError(
                "compat_clamp and compat_leak are two systems' ways of one thing: give one of them"
            )
        if self.activation == "sigmoid" and self.compat_leak:
            raise ValueError("compat_leak is of the focal loss of a softmax: give it activation softmax")
        if self.activation == "sigmoid" and self.alpha is not None and self.alpha > 1:
            raise ValueError(f"alpha is {self.alpha:g}, expected 0 to 1: pixels that are 0 weigh 1 - alpha")
        return self


class BinaryCrossEntropyTerm(PerChannel):
    """Cross-entropy of every channel for itself."""

    loss: Literal["binary-cross-entropy"]
    activation: Literal["sigmoid"] = "sigmoid"
    absent: Literal["skip", "count"] = "count"


class CrossEntropyTerm(_Term):
    """Cross-entropy of the softmax."""

    loss: Literal["cross-entropy"]


class CustomTerm(_Term):
    """A loss of the user's own: `target` is `package.module:function`, called with `arguments` as keywords.

    The function is given logits (B, K, H, W), the channels they should become, bool of that shape, the class index
    (B, H, W), IGNORE where unknown, and where it is known, bool (B, H, W); `class_weights` (K,) as a keyword where the
    recipe has them. It returns a scalar.
    """

    loss: Literal["custom"]
    target: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in logs: that of the function."""
        return self.target.rpartition(":")[2]


Term = Annotated[
    RegionTerm
    | TverskyTerm
    | LovaszTerm
    | FocalTerm
    | BinaryCrossEntropyTerm
    | CrossEntropyTerm
    | CustomTerm,
    Field(discriminator="loss"),
]


DEFAULT: tuple[Term, ...] = (CrossEntropyTerm(loss="cross-entropy"), RegionTerm(loss="dice"))
"""What recipes minimise that say nothing."""


class SoftLabelConfig(Config):
    """What is learned from soft labels, where scenes have them.

    Attributes:
        weight: factor of the term.
        kind: `soft` takes the probabilities (Kullback-Leibler divergence), `hard` the classes that they are sure of,
            with the objective's own terms.
        ignored: with `hard`: between these probabilities of a building nothing is learned; of several classes the
            likeliest must be above the second.
        compat_class_mean: divide by the number of classes as well, which halves the term of two classes (Open Cities).
    """

    weight: NotNegative = 1.0
    kind: Literal["soft", "hard"] = "soft"
    ignored: tuple[float, float] = (0.4, 0.6)
    compat_class_mean: bool = False

    @model_validator(mode="after")
    def _band_is_a_band(self) -> Self:
        low, high = self.ignored
        if not 0 <= low <= high <= 1:
            raise ValueError(f"soft.ignored is {low:g} to {high:g}, expected two rising probabilities")
        return self


class SupervisedConfig(Config):
    """What is learned from labels.

    Attributes:
        targets: channels derived from the damage mask; None takes one channel per class of the mask.
        terms: their weighted sum is minimised.
        soft: how scenes with soft labels are learned from; None leaves them out.
    """

    kind: Literal["supervised"] = "supervised"
    targets: DamageTargets | None = None
    terms: tuple[Term, ...] = Field(default=DEFAULT, min_length=1)
    soft: SoftLabelConfig | None = None

    @model_validator(mode="after")
    def _something_is_minimised(self) -> Self:
        if all(term.weight == 0 for term in self.terms):
            raise ValueError("every term has weight 0")
        if self.targets is not None and self.targets.channel_0 == "building":
            one_class = [term.loss for term in self.terms if _is_a_softmax(term)]
            if one_class:
                raise ValueError(
                    f"targets.channel_0 building overlaps the damage classes, which a softmax ({one_class[0]}) cannot "
                    "learn: give every term activation sigmoid"
                )
        return self

    def check_classes(self, classes: int) -> None:
        """Raise ValueError where the terms do not fit a model with so many logits."""
        for number, term in enumerate(self.terms):
            weights, compared = term.class_weights, 2 if term.of == "building" else classes
            if weights is not None and len(weights) != compared:
                what = "of building has 2" if term.of == "building" else f"the model has {classes}"
                raise ValueError(
                    f"objective.terms[{number}].class_weights has {len(weights)} values, {what} classes"
                )
            if term.of == "building" and classes < 3:
                raise ValueError(
                    f"objective.terms[{number}].of is building, which needs several: the model has {classes} classes"
                )
            if classes == 1 and _is_a_softmax(term):
                raise ValueError(
                    f"objective.terms[{number}] ({term.loss}) is a softmax, which one logit cannot have: use sigmoid"
                )
        if self.soft is not None and (classes == 1 or self.targets is not None):
            raise ValueError(
                "objective.soft needs one logit per class: model.classes 2 (or 5), and no targets"
            )
        if self.targets is not None and classes != len(DAMAGE):
            raise ValueError(
                f"objective.targets makes {len(DAMAGE)} channels of damage, the model has {classes} classes"
            )


def _is_a_softmax(term: Term) -> bool:
    """Whether a term shares every pixel among the classes; what a custom one does is not known."""
    if isinstance(term, PerChannel):
        return term.activation == "softmax"
    return isinstance(term, CrossEntropyTerm)
