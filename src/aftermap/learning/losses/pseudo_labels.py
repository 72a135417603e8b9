"""Pseudo-labels of the old model for the background of a step's labels, where it is surer than usual.

Source: Douillard et al. 2021 (PLOP), section 3.3, and its released code.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import IGNORE
from aftermap.learning.losses.pixel import widened

_BINS = 1 << 14
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """A mask that the old model completed.

    Attributes:
        mask: class indices, int64 (B, H, W); IGNORE where the old model is not sure.
        certainty: share of each image's background of which it is sure, (B,).
    """

    mask: Tensor
    certainty: Tensor


def uncertainty(teacher_logits: Tensor, classes: int) -> Tensor:
    """How little the old model is sure of every pixel: its entropy, 0 to 1 / (old ln classes).

    Args:
        teacher_logits: (B, old, H, W), old >= 2.
        classes: channels of the model that learns, the background included.

    Returns:
        (B, H, W).

    Raises:
        ValueError: the old model has one channel, which cannot be unsure.
    """
    old = teacher_logits.shape[1]
    _largest(old, classes)
    log_p = torch.log_softmax(widened(teacher_logits.detach()), dim=1)
    return -(log_p.exp() * log_p).mean(dim=1) / (math.log(old) * math.log(classes))


class ThresholdMeter:
    """Medians of the uncertainty over the background, one per class that the old model sees there.

    Attributes:
        counts: histograms, int64 (old, bins), on the device of what was added. Those of several processes are added up.
        least: no threshold is below.
    """

    def __init__(self, old: int, classes: int, *, least: float = 0.001, bins: int = _BINS) -> None:
        """Start without any pixel.

        Args:
            old: channels of the old model.
            classes: channels of the model that learns.
            least: see above.
            bins: a median is exact to half of the largest uncertainty over these.
        """
        self._top = _largest(old, classes)
        self._classes = classes
        self.least = least
        self.counts = torch.zeros((old, bins), dtype=torch.int64)

    def add(self, teacher_logits: Tensor, background: Tensor) -> None:
        """Count pixels.

        Args:
            teacher_logits: (B, old, H, W).
            background: bool (B, H, W), the pixels that the step's labels call background.

        Raises:
            ValueError: the old model has other channels than the meter.
        """
        old, bins = self.counts.shape
        if teacher_logits.shape[1] != old:
            raise ValueError(f"logits have {teacher_logits.shape[1]} channels, expected {old}")
        values = uncertainty(teacher_logits, self._classes)[background]
        kinds = teacher_logits.argmax(dim=1)[background]
        places = (values / self._top * bins).long().clamp(0, bins - 1)
        found = torch.bincount(kinds * bins + places, minlength=old * bins).reshape(old, bins)
        self.counts = self.counts.to(found.device) + found

    @property
    def tau(self) -> Tensor:
        """Thresholds (old,), float32; the least one for classes that were not seen."""
        bins = self.counts.shape[1]
        below = self.counts.cumsum(dim=1)
        total = below[:, -1:]
        # the two middle pixels, which are one where their number is odd
        middle = torch.cat([(total + 1) // 2, total // 2 + 1], dim=1)
        places = torch.searchsorted(below, middle).clamp(max=bins - 1)
        median = (places.double() + 0.5).mean(dim=1) * (self._top / bins)
        return median.where(total[:, 0] > 0, 0.0).clamp(min=self.least).float()


def pseudo_labels(
    mask: Tensor, teacher_logits: Tensor, tau: Tensor, *, classes: int, compat_no_background: bool = False
) -> PseudoLabels:
    """Labels of a step in which the background is what the old model says, where it is sure.

    Args:
        mask: class indices (B, H, W); all below `old` are background, IGNORE stays.
        teacher_logits: (B, old, H, W).
        tau: uncertainty (old,) below which the old model is sure of a class.
        classes: channels of the model that learns.
        compat_no_background: images without any background get certainty 0, by which nothing is learned from them, as
            in the released code, instead of 1.
    """
    background = mask < teacher_logits.shape[1]
    kinds = teacher_logits.detach().argmax(dim=1)
    certain = uncertainty(teacher_logits, classes) < tau.to(kinds.device)[kinds]
    completed = torch.where(background, kinds.masked_fill(~certain, IGNORE), mask.long())
    size = background.flatten(1).sum(dim=1)
    share = (certain & background).flatten(1).sum(dim=1) / (size + _LEAST)
    return PseudoLabels(completed, share if compat_no_background else share.where(size > 0, 1.0))


def pseudo_label_cross_entropy(
    logits: Tensor,
    labels: PseudoLabels,
    *,
    weigh_by_certainty: bool = True,
    compat_mean_over_all: bool = False,
) -> Tensor:
    """Cross-entropy over all channels with completed labels.

    Args:
        logits: (B, K, H, W).
        labels: of the same images.
        weigh_by_certainty: multiply each image's pixels by its certainty.
        compat_mean_over_all: average over all pixels, those without a label counting 0, as in the released code.

    Returns:
        Scalar, 0 where no pixel has a label.
    """
    loss = F.cross_entropy(widened(logits), labels.mask, ignore_index=IGNORE, reduction="none")
    if weigh_by_certainty:
        loss = loss * labels.certainty.to(loss.dtype)[:, None, None]
    known = labels.mask != IGNORE
    return loss.sum() / (known.numel() if compat_mean_over_all else known.sum().clamp(min=1))


def _largest(old: int, classes: int) -> float:
    """Uncertainty of an old model that holds all its classes for equally likely."""
    if old < 2 or classes < old:
        raise ValueError(f"{old} old channels of {classes}, expected 2 or more old ones, and no fewer now")
    return 1 / (old * math.log(classes))
