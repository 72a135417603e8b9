"""Terms of an objective: what each is worth on a batch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from aftermap.data.loading.damage_targets import DamageTargets
from aftermap.data.loading.targets import channels_of, damage_index, known
from aftermap.learning.configs.terms import (
    SMOOTH,
    BinaryCrossEntropyTerm,
    CrossEntropyTerm,
    CustomTerm,
    FocalTerm,
    LovaszTerm,
    PerChannel,
    RegionTerm,
    Term,
    TverskyTerm,
)
from aftermap.learning.losses import lovasz, pixel, region
from aftermap.learning.losses.custom import custom_value


@dataclass(frozen=True, slots=True)
class Truth:
    """Targets of a batch.

    Attributes:
        channels: bool (B, K, H, W).
        index: class index (B, H, W), IGNORE where unknown.
        known: bool (B, H, W).
    """

    channels: Tensor
    index: Tensor
    known: Tensor


def truth_of(mask: Tensor, classes: int, targets: DamageTargets | None) -> Truth:
    """What a network with so many logits is taught about a mask (B, H, W)."""
    if targets is None:
        return Truth(channels_of(mask, classes), mask, known(mask))
    index = damage_index(mask, targets)
    return Truth(channels_of(index, classes, targets.channel_0), index, known(index))


def of_building(logits: Tensor, truth: Truth) -> tuple[Tensor, Truth]:
    """Background against everything else: logits (B, 2, H, W) whose softmax has the sum of the classes, and their truth.

    Args:
        logits: (B, K, H, W) of a softmax, background first.
        truth: of the same batch.
    """
    pair = torch.stack([logits[:, 0], torch.logsumexp(logits[:, 1:], dim=1)], dim=1)
    index = torch.where(truth.known, truth.index.clamp(max=1), truth.index)
    return pair, Truth(channels_of(index, 2), index, truth.known)


def term_value(term: Term, logits: Tensor, truth: Truth, class_weights: Tensor | None) -> Tensor:
    """Value of a term, without its weight.

    Args:
        term: which.
        logits: (B, K, H, W).
        truth: of the same batch.
        class_weights: the term's, (K,), on the device of the logits.
    """
    skip = isinstance(term, PerChannel) and term.absent == "skip"
    if term.of == "building":
        logits, truth = of_building(logits, truth)
    match term:
        case CustomTerm():
            return custom_value(term, logits, truth.channels, truth.index, truth.known, class_weights)
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
                compat_clamp=term.compat_clamp,
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
            values = lovasz.lovasz_hinge(
                logits, truth.channels, truth.known, per_image=term.per_image, skip_absent=skip
            )
        case LovaszTerm():
            values = lovasz.lovasz_sigmoid(
                _activated(logits, term.activation),
                truth.channels,
                truth.known,
                per_image=term.per_image,
                skip_absent=skip,
            )
        case TverskyTerm():
            values = region.tversky(
                _activated(logits, term.activation),
                truth.channels,
                truth.known,
                alpha=term.alpha,
                beta=term.beta,
                per_image=term.per_image,
                skip_absent=skip,
                smooth=term.smooth,
            )
        case RegionTerm():
            kinds = {"dice": region.dice, "jaccard": region.jaccard, "log-cosh-dice": region.log_cosh_dice}
            values = kinds[term.loss](
                _activated(logits, term.activation),
                truth.channels,
                truth.known,
                per_image=term.per_image,
                skip_absent=skip,
                smooth=term.smooth,
            )
        case _:
            assert_never(term)
    return _over_channels(values, term, truth, class_weights)


def term_names(terms: Sequence[Term]) -> list[str]:
    """Names for logs: the loss, or the function of a custom one, with a number where it occurs again."""
    names: list[str] = []
    seen: Counter[str] = Counter()
    for term in terms:
        own = term.name if isinstance(term, CustomTerm) else term.loss
        own = f"{own} of building" if term.of == "building" else own
        seen[own] += 1
        names.append(f"{own} {seen[own]}" if seen[own] > 1 else own)
    return names


def _activated(logits: Tensor, activation: str) -> Tensor:
    return torch.softmax(logits, dim=1) if activation == "softmax" else torch.sigmoid(logits)


def _over_channels(values: Tensor, term: PerChannel, truth: Truth, class_weights: Tensor | None) -> Tensor:
    weights = torch.ones_like(values) if class_weights is None else class_weights.to(values)
    if term.absent == "skip":
        weights = weights * region.present(truth.channels, truth.known)
    total = (values * weights).sum()
    return total if term.reduction == "sum" else total / weights.sum().clamp(min=SMOOTH)
