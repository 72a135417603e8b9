"""Pseudo-labels of the old model for the background of a step's labels, where it is surer than usual.

Source: Douillard et al. 2021 (PLOP), section 3.3, and its released code, which has the other kinds as well.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import IGNORE
from aftermap.learning.losses.pixel import widened

Kind = Literal["entropy", "median", "threshold", "confidence", "naive"]
"""What the old model has to be for its class to be taken: less unsure than at the median of its class, as sure as that,
as sure as a threshold, or anything; with `confidence` a pixel counts as much as the old model is sure."""
Soft = Literal["certain", "uncertain"]
"""What is learned from the old model's probabilities instead: all of the background, or where it is not sure."""

_BINS = 1 << 14
_LEAST = 1e-6
_FLOOR = 1e-8


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """A mask that the old model completed.

    Attributes:
        mask: class indices, int64 (B, H, W); IGNORE where the old model is not sure.
        certainty: share of each image's background of which it is sure, (B,).
        confidence: factor of every pixel's loss, (B, H, W); None is 1.
        softly: bool (B, H, W), where its probabilities are learned; None is nowhere.
    """

    mask: Tensor
    certainty: Tensor
    confidence: Tensor | None = None
    softly: Tensor | None = None


def uncertainty(teacher_logits: Tensor, classes: int, *, compat_histogram: bool = False) -> Tensor:
    """How little the old model is sure of every pixel: its entropy, 0 to 1 / (old ln classes).

    Args:
        teacher_logits: (B, old, H, W), old >= 2.
        classes: channels of the model that learns, the background included.
        compat_histogram: with the small number that the released code adds under its logarithms.

    Returns:
        (B, H, W).

    Raises:
        ValueError: the old model has one channel, which cannot be unsure.
    """
    old = teacher_logits.shape[1]
    _largest(old, classes)
    if compat_histogram:
        p = torch.softmax(widened(teacher_logits.detach()), dim=1)
        entropy = -(1 / math.log(old + _FLOOR)) * (p * torch.log(p + _FLOOR)).mean(dim=1)
        return entropy / torch.log(torch.tensor(float(classes), dtype=torch.float32, device=p.device))
    log_p = torch.log_softmax(widened(teacher_logits.detach()), dim=1)
    return -(log_p.exp() * log_p).mean(dim=1) / (math.log(old) * math.log(classes))


class ThresholdMeter:
    """Medians over the background, one per class that the old model sees there: of its uncertainty, or probability.

    Attributes:
        counts: histograms, int64 (old, bins), on the device of what was added. Those of several processes are added up.
    """

    def __init__(
        self,
        old: int,
        classes: int,
        *,
        kind: Literal["entropy", "median"] = "entropy",
        least: float = 0.001,
        most: float = 0.9,
        bins: int | None = None,
        compat_histogram: bool = False,
    ) -> None:
        """Start without any pixel.

        Args:
            old: channels of the old model.
            classes: channels of the model that learns.
            kind: which pseudo-labels the thresholds are for.
            least: of `entropy`: no threshold is below.
            most: of `median`: no threshold is above.
            bins: a median is exact to half of the largest value over these; None is many, or as many as published.
            compat_histogram: the median as the released code finds it: from 100 bins (20 of probabilities) from 0 to 1,
                adding up the bins' numbers where their counts were meant, so that it stops at another bin.
        """
        top = _largest(old, classes)
        self._top = 1.0 if compat_histogram or kind == "median" else top
        self._classes, self._kind = classes, kind
        self._least, self._most = least, most
        self._compat = compat_histogram
        published = 100 if kind == "entropy" else 20
        count = bins or (published if compat_histogram else _BINS)
        self.counts = torch.zeros((old, count), dtype=torch.int64)

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
        if self._kind == "entropy":
            values = uncertainty(teacher_logits, self._classes, compat_histogram=self._compat)[background]
        else:
            values = torch.softmax(widened(teacher_logits), dim=1).amax(dim=1)[background]
        kinds = teacher_logits.argmax(dim=1)[background]
        places = (values / self._top * bins).long().clamp(0, bins - 1)
        found = torch.bincount(kinds * bins + places, minlength=old * bins).reshape(old, bins)
        self.counts = self.counts.to(found.device) + found

    @property
    def tau(self) -> Tensor:
        """Thresholds (old,), float32; the least one for classes that were not seen, of probabilities 0."""
        median = self._published_medians() if self._compat else self._medians()
        if self._kind == "median":
            return median.where(~(median > self._most), self._most)
        return median.where(~(median < self._least), self._least)

    def _medians(self) -> Tensor:
        bins = self.counts.shape[1]
        below = self.counts.cumsum(dim=1)
        total = below[:, -1:]
        # the two middle pixels, which are one where their number is odd
        middle = torch.cat([(total + 1) // 2, total // 2 + 1], dim=1)
        places = torch.searchsorted(below, middle).clamp(max=bins - 1)
        median = (places.double() + 0.5).mean(dim=1) * (self._top / bins)
        return median.where(total[:, 0] > 0, 0.0).float()

    def _published_medians(self) -> Tensor:
        """Step by step, in 32 bits, as its roundings decide in which bin it stops."""
        bins = self.counts.shape[1]
        medians = torch.zeros(len(self.counts))
        for kind, counts in enumerate(self.counts.cpu()):
            half, passed, border, place = counts.sum() / 2, 0.0, 0.0, 0
            if half <= 0:
                continue
            for number in range(bins):
                border = number / bins
                place = int(border * bins)
                if passed <= half <= passed + counts[place]:
                    break
                passed += border * bins  # the number of the bin
            medians[kind] = border + (half - passed) / counts[place] * (1 / bins)
        return medians.to(self.counts.device)


def pseudo_labels(
    mask: Tensor,
    teacher_logits: Tensor,
    tau: Tensor,
    *,
    classes: int,
    unclear: int | None = None,
    kind: Kind = "entropy",
    threshold: float = 0.9,
    soft: Soft | None = None,
    compat_no_background: bool = False,
    compat_histogram: bool = False,
) -> PseudoLabels:
    """Labels of a step in which the background is what the old model says, where it is sure.

    Args:
        mask: class indices (B, H, W); all below `unclear` are background, IGNORE stays.
        teacher_logits: (B, old, H, W).
        tau: of `entropy` the uncertainty (old,) below which the old model is sure of a class, of `median` the probability
            from which on; not looked at otherwise.
        classes: channels of the model that learns.
        unclear: labels below it are background; None takes `old`.
        kind: what the old model has to be.
        threshold: of `threshold`, a probability.
        soft: what is learned from its probabilities instead of its classes.
        compat_no_background: images without any background get certainty 0, by which nothing is learned from them, as
            in the released code, instead of 1.
        compat_histogram: see `uncertainty`.
    """
    background = mask < (teacher_logits.shape[1] if unclear is None else unclear)
    p, kinds = torch.softmax(widened(teacher_logits.detach()), dim=1).max(dim=1)
    match kind:
        case "entropy":
            unsure = uncertainty(teacher_logits, classes, compat_histogram=compat_histogram)
            certain = unsure < tau.to(kinds.device)[kinds]
        case "median":
            certain = ~(p < tau.to(kinds.device)[kinds])
        case "threshold":
            certain = ~(p < threshold)
        case _:
            certain = torch.ones_like(background)
    taken = torch.zeros_like(certain) if soft == "certain" else certain
    completed = torch.where(background, kinds.masked_fill(~taken, IGNORE), mask.long())
    size = background.flatten(1).sum(dim=1)
    share = (certain & background).flatten(1).sum(dim=1) / (size + _LEAST)
    return PseudoLabels(
        completed,
        share if compat_no_background else share.where(size > 0, 1.0),
        confidence=p.where(background, 1.0) if kind == "confidence" else None,
        softly=None if soft is None else background & ~taken,
    )


def pseudo_label_cross_entropy(
    logits: Tensor,
    labels: PseudoLabels,
    *,
    weigh_by_certainty: bool = True,
    teacher_logits: Tensor | None = None,
    soft_factor: float = 1.0,
    compat_mean_over_all: bool = False,
    compat_reversed: bool = False,
) -> Tensor:
    """Cross-entropy over all channels with completed labels, and with the old model's probabilities.

    Args:
        logits: (B, K, H, W).
        labels: of the same images.
        weigh_by_certainty: multiply each image's pixels by its certainty.
        teacher_logits: (B, old, H, W), where something is learned softly: the old classes' shares among themselves.
        soft_factor: of that.
        compat_mean_over_all: average over all pixels, those without a label counting 0, as in the released code.
        compat_reversed: the soft part as in the released code, which takes the logarithm of the other one and forgets the
            sign, so that its minimum pushes the two apart.

    Returns:
        Scalar, 0 where no pixel has a label.
    """
    logits = widened(logits)
    loss = F.cross_entropy(logits, labels.mask, ignore_index=IGNORE, reduction="none")
    known = labels.mask != IGNORE
    if labels.softly is not None and teacher_logits is not None:
        theirs = widened(teacher_logits.detach())
        ours = logits[:, : theirs.shape[1]]
        if compat_reversed:
            gap = (torch.log_softmax(theirs, dim=1) * torch.softmax(ours, dim=1)).sum(dim=1)
        else:
            gap = -(torch.softmax(theirs, dim=1) * torch.log_softmax(ours, dim=1)).sum(dim=1)
        loss = loss + soft_factor * (labels.softly * gap)
        known = known | labels.softly
    if labels.confidence is not None:
        loss = loss * labels.confidence.to(loss.dtype)
    if weigh_by_certainty:
        loss = labels.certainty.to(loss.dtype)[:, None, None] * loss
    return loss.sum() / (known.numel() if compat_mean_over_all else known.sum().clamp(min=1))


def _largest(old: int, classes: int) -> float:
    """Uncertainty of an old model that holds all its classes for equally likely."""
    if old < 2 or classes < old:
        raise ValueError(f"{old} old channels of {classes}, expected 2 or more old ones, and no fewer now")
    return 1 / (old * math.log(classes))
