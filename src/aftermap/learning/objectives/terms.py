"""Terms of an objective as data: each names a loss, how logits are activated, and what its classes weigh."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self, assert_never

import torch
from pydantic import Field, model_validator
from torch import Tensor

from aftermap.config import Config
from aftermap.data.targets import DamageTargets, class_channels, class_index, damage_channels, known
from aftermap.learning.losses import lovasz, pixel, region

Activation = Literal["softmax", "sigmoid"]


class _Term(Config):
    """What all terms say.

    Attributes:
        weight: factor of the term; 0 leaves it out.
        class_weights: one per channel; None weighs all alike.
    """

    weight: float = 1.0
    class_weights: tuple[float, ...] | None = None


class _PerChannel(_Term):
    """A term made of one value per channel.

    Attributes:
        activation: of the logits; `sigmoid` looks at every channel for itself.
        reduction: `mean` divides the weighted sum over the channels by the sum of the weights, `sum` does not.
        absent: `skip` leaves channels out that do not occur in the batch, whose overlap could only say "predict
            nothing"; `count` keeps them, as the published systems do.
    """

    activation: Activation = "softmax"
    reduction: Literal["mean", "sum"] = "mean"
    absent: Literal["skip", "count"] = "skip"


class RegionTerm(_PerChannel):
    """Overlap of prediction and truth, pooled over the batch or per image; see `losses.region`."""

    loss: Literal["dice", "jaccard", "log-cosh-dice"]
    per_image: bool = False
    smooth: float = region.SMOOTH


class TverskyTerm(_PerChannel):
    """Overlap with false alarms weighed by `alpha` and misses by `beta`."""

    loss: Literal["tversky"]
    alpha: float = 0.5
    beta: float = 0.5
    per_image: bool = False
    smooth: float = region.SMOOTH


class LovaszTerm(_PerChannel):
    """Lovász surrogate of the Jaccard index; `hinge` takes the logits of single channels as they are."""

    loss: Literal["lovasz"]
    activation: Literal["softmax", "sigmoid", "hinge"] = "softmax"  # type: ignore[assignment]
    per_image: bool = False


class FocalTerm(_PerChannel):
    """Focal loss; see `losses.pixel` for `compat_clamp` (winner) and `compat_leak` (MetaDamageNet).

    With a softmax, `reduction` mean divides by the weights of the pixels' classes and `sum` by their number.
    """

    loss: Literal["focal"]
    absent: Literal["skip", "count"] = "count"
    gamma: float = 2.0
    alpha: float | None = None
    compat_clamp: float = 0.0
    compat_leak: float = 0.0


class BinaryCrossEntropyTerm(_PerChannel):
    """Cross-entropy of every channel for itself."""

    loss: Literal["binary-cross-entropy"]
    activation: Literal["sigmoid"] = "sigmoid"
    absent: Literal["skip", "count"] = "count"


class CrossEntropyTerm(_Term):
    """Cross-entropy of the softmax."""

    loss: Literal["cross-entropy"]


Term = Annotated[
    RegionTerm | TverskyTerm | LovaszTerm | FocalTerm | BinaryCrossEntropyTerm | CrossEntropyTerm,
    Field(discriminator="loss"),
]

DEFAULT: tuple[Term, ...] = (CrossEntropyTerm(loss="cross-entropy"), RegionTerm(loss="dice"))
"""What recipes minimise that say nothing."""


class SupervisedConfig(Config):
    """What is learned from labels.

    Attributes:
        targets: channels derived from the damage mask; None takes one channel per class of the mask.
        terms: their weighted sum is minimised.
    """

    targets: DamageTargets | None = None
    terms: tuple[Term, ...] = Field(DEFAULT, min_length=1)

    @model_validator(mode="after")
    def _something_is_minimised(self) -> Self:
        if all(term.weight == 0 for term in self.terms):
            raise ValueError("every term has weight 0")
        if self.targets is not None and self.targets.channel_0 == "building":
            one_class = [
                t.loss for t in self.terms if isinstance(t, CrossEntropyTerm) or t.activation == "softmax"
            ]
            if one_class:
                raise ValueError(
                    f"targets.channel_0 building overlaps the damage classes, which a softmax ({one_class[0]}) cannot "
                    "learn: give every term activation sigmoid"
                )
        return self

    def check_classes(self, classes: int) -> None:
        """Raise ValueError where the terms do not fit a model with so many logits."""
        for number, term in enumerate(self.terms):
            weights = term.class_weights
            if weights is not None and len(weights) != classes:
                raise ValueError(
                    f"objective.terms[{number}].class_weights has {len(weights)} values, the model has {classes} classes"
                )
            if classes == 1 and (isinstance(term, CrossEntropyTerm) or term.activation == "softmax"):
                raise ValueError(
                    f"objective.terms[{number}] ({term.loss}) is a softmax, which one logit cannot have: use sigmoid"
                )
        if self.targets is not None and classes != 5:
            raise ValueError(f"objective.targets makes 5 channels of damage, the model has {classes} classes")


@dataclass(frozen=True, slots=True)
class Truth:
    """Targets of a batch.

    Attributes:
        channels: bool (B, K, H, W).
        index: class index (B, H, W), IGNORE where unknown; the first channel that is set.
        known: bool (B, H, W).
    """

    channels: Tensor
    index: Tensor
    known: Tensor


def truth_of(mask: Tensor, classes: int, targets: DamageTargets | None) -> Truth:
    """What a network with so many logits is taught about a mask (B, H, W)."""
    if targets is None:
        channels = class_channels(mask, classes)
        return Truth(channels, mask, known(mask))
    channels = damage_channels(mask, targets)
    return Truth(channels, class_index(channels, mask), known(mask))


def term_value(term: Term, logits: Tensor, truth: Truth, class_weights: Tensor | None) -> Tensor:
    """Value of a term, without its weight.

    Args:
        term: which.
        logits: (B, K, H, W).
        truth: of the same batch.
        class_weights: the term's, (K,), on the device of the logits.
    """
    match term:
        case CrossEntropyTerm():
            return pixel.cross_entropy(logits, truth.index, class_weights)
        case FocalTerm() if term.activation == "softmax":
            return pixel.focal(
                logits,
                truth.index,
                gamma=term.gamma,
                alpha=1.0 if term.alpha is None else term.alpha,
                class_weights=class_weights,
                normalise=term.reduction == "mean",
                compat_leak=term.compat_leak,
            )
        case FocalTerm():
            values = pixel.binary_focal(
                logits,
                truth.channels,
                truth.known,
                gamma=term.gamma,
                alpha=term.alpha,
                compat_clamp=term.compat_clamp,
            )
        case BinaryCrossEntropyTerm():
            values = pixel.binary_cross_entropy(logits, truth.channels, truth.known)
        case LovaszTerm() if term.activation == "hinge":
            values = lovasz.lovasz_hinge(logits, truth.channels, truth.known, per_image=term.per_image)
        case LovaszTerm():
            values = lovasz.lovasz_sigmoid(
                _activated(logits, term.activation), truth.channels, truth.known, per_image=term.per_image
            )
        case TverskyTerm():
            values = region.tversky(
                _activated(logits, term.activation),
                truth.channels,
                truth.known,
                alpha=term.alpha,
                beta=term.beta,
                per_image=term.per_image,
                smooth=term.smooth,
            )
        case RegionTerm():
            kinds = {"dice": region.dice, "jaccard": region.jaccard, "log-cosh-dice": region.log_cosh_dice}
            values = kinds[term.loss](
                _activated(logits, term.activation),
                truth.channels,
                truth.known,
                per_image=term.per_image,
                smooth=term.smooth,
            )
        case _:
            assert_never(term)
    return _over_channels(values, term, truth, class_weights)


def term_names(terms: Sequence[Term]) -> list[str]:
    """Names for logs: the loss, with a number where it occurs again."""
    names: list[str] = []
    for term in terms:
        again = sum(name == term.loss or name.startswith(f"{term.loss} ") for name in names)
        names.append(f"{term.loss} {again + 1}" if again else term.loss)
    return names


def _activated(logits: Tensor, activation: str) -> Tensor:
    return torch.softmax(logits, dim=1) if activation == "softmax" else torch.sigmoid(logits)


def _over_channels(values: Tensor, term: _PerChannel, truth: Truth, class_weights: Tensor | None) -> Tensor:
    weights = torch.ones_like(values) if class_weights is None else class_weights.to(values)
    if term.absent == "skip":
        weights = weights * region.present(truth.channels, truth.known)
    elif not bool(truth.known.any()):
        weights = torch.zeros_like(weights)  # nothing is known: no channel has anything to say
    total = (values * weights).sum()
    return total if term.reduction == "sum" else total / weights.sum().clamp(min=region.SMOOTH)
