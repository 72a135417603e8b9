"""What a step that adds classes learns from its labels, as data: cross-entropies, focal loss, losses of overlap."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from aftermap.config import Config
from aftermap.learning.configs.mean_teacher import Share
from aftermap.learning.configs.terms import NotNegative

Positive = Annotated[float, Field(gt=0)]


def _weights_of(value: Any) -> Any:
    """Weights that are written down, or those of a file: numbers in `.npy`, `.json` or lines of `.txt`."""
    if not isinstance(value, str | Path):
        return value
    file = Path(value)
    try:
        if file.suffix == ".npy":
            numbers = np.load(file, allow_pickle=False)
        elif file.suffix == ".json":
            numbers = np.asarray(json.loads(file.read_text()), np.float64)
        else:
            numbers = np.loadtxt(file, ndmin=1)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} holds no class weights: {str(error).splitlines()[0]}") from None
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu" or not np.isfinite(numbers).all():
        raise ValueError(f"{file} holds an array of shape {numbers.shape}, expected a number for each class")
    return tuple(float(number) for number in numbers)


ClassWeights = Annotated[tuple[NotNegative, ...], BeforeValidator(_weights_of)]
"""One per channel of the last step, the background first; or a file of them, which a run writes down as numbers."""


class SegmentationConfig(Config):
    """Cross-entropies.

    Attributes:
        loss: at the first step there are no old classes, and unbiased cross-entropy is cross-entropy;
            `binary-cross-entropy` looks at every class for itself, at every step.
        weight: factor of the term.
        class_weights: one per channel of the last step, the background first, or a file of them; a step takes as many
            as it has. None weighs all alike.
        compat_mean_over_all: pixels without a label count as pixels of loss 0 in the mean (MiB's reference code).
    """

    loss: Literal["cross-entropy", "unbiased-cross-entropy", "binary-cross-entropy"] = "cross-entropy"
    weight: Positive = 1.0
    class_weights: ClassWeights | None = None
    compat_mean_over_all: bool = False

    @model_validator(mode="after")
    def _weights_have_a_loss(self) -> Self:
        if self.class_weights is not None and self.loss == "binary-cross-entropy":
            raise ValueError(
                "class_weights do not go with binary-cross-entropy, which weighs all classes alike"
            )
        return self


class _MayBeUnbiased(Config):
    """What the other losses have in common.

    Attributes:
        weight: factor of the term.
        unbiased: the labels' background stands for the background and all old classes together; where it is not given,
            the method says it.
    """

    weight: Positive = 1.0
    unbiased: bool = False


class FocalSegmentation(_MayBeUnbiased):
    """Cross-entropy that passes over easy pixels; see `losses.pixel.focal`.

    Attributes:
        gamma: how much easy pixels are passed over; 0 is cross-entropy.
        alpha: factor of the whole.
        class_weights: as those of the cross-entropies.
        compat_mean_over_all: pixels without a label count as pixels of loss 0 in the mean (MiB-CD).
    """

    loss: Literal["focal"]
    gamma: NotNegative = 2.0
    alpha: Positive = 1.0
    class_weights: ClassWeights | None = None
    compat_mean_over_all: bool = False


class TverskySegmentation(_MayBeUnbiased):
    """Overlap with false alarms weighed by `alpha` and misses by `beta`; see `losses.class_overlap.focal_tversky`."""

    loss: Literal["focal-tversky"]
    alpha: NotNegative = 0.6
    beta: NotNegative = 0.4
    gamma: Positive = 2.0
    compat_published: bool = False


class ComboSegmentation(_MayBeUnbiased):
    """`share` times cross-entropy, the rest focal Tversky with its own keys.

    Attributes:
        share: of the cross-entropy.
        class_weights: of the cross-entropy.
        compat_published: of the overlap.

    Source: MiB-CD, where it is no loss of later steps, as it knows nothing of old classes.
    """

    loss: Literal["combo"]
    share: Share = 0.5
    alpha: NotNegative = 0.6
    beta: NotNegative = 0.4
    gamma: Positive = 2.0
    class_weights: ClassWeights | None = None
    compat_published: bool = False


class NcaSegmentation(_MayBeUnbiased):
    """The true class against all others, itself left out; see `losses.neighbourhood.nca`.

    Attributes:
        scale: factor of the logits.
        margin: is taken off the true class's logit first.
        hinge: what is right by enough costs nothing.
    """

    loss: Literal["nca"]
    scale: Positive = 1.0
    margin: NotNegative = 0.0
    hinge: bool = False


class TanimotoSegmentation(_MayBeUnbiased):
    """Overlap in which rare classes weigh more; see `losses.class_overlap.tanimoto`."""

    loss: Literal["tanimoto"]
    gamma: Positive = 2.0
    compat_published: bool = False


class DualTanimotoSegmentation(_MayBeUnbiased):
    """The same of the classes, by `share`, and of their complements; see `losses.class_overlap.dual_tanimoto`."""

    loss: Literal["dual-tanimoto"]
    share: Share = 0.5
    gamma: Positive = 1.0
    compat_published: bool = False


SegmentationTerm = Annotated[
    SegmentationConfig
    | FocalSegmentation
    | TverskySegmentation
    | ComboSegmentation
    | NcaSegmentation
    | TanimotoSegmentation
    | DualTanimotoSegmentation,
    Field(discriminator="loss"),
]


FLAGGED = ("focal", "focal-tversky", "combo", "nca", "tanimoto", "dual-tanimoto")
"""Losses that say by `unbiased`, and not by their name, what the background stands for."""


def class_weights_of(term: SegmentationTerm) -> tuple[float, ...] | None:
    """What the classes weigh; None where all weigh alike."""
    if isinstance(term, SegmentationConfig | FocalSegmentation | ComboSegmentation):
        return term.class_weights
    return None
