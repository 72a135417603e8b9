"""Losses of a model that learns new classes from labels in which the earlier ones are background again.

Channel 0 is the background, channels 1 to old - 1 are the classes of the earlier steps, the rest those of this step.
Masks hold IGNORE where nothing is known. Nothing flows into a teacher, whose logits are those of the old channels.

Source: Cermelli et al. 2020 (MiB), sections 3.2 and 3.3, and its released code; Li and Hoiem 2016 (LwF); Rebuffi et al.
2017 (iCaRL), as MiB's code carries both over to segmentation.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import IGNORE
from aftermap.learning.losses.pixel import focal, widened

_LEAST = 1e-6


def unbiased_log_probabilities(logits: Tensor, old: int) -> Tensor:
    """Logarithms of p(background or any old class) and of p(each new class).

    Args:
        logits: (B, K, H, W).
        old: channels of the earlier steps, the background included: 1 to K.

    Returns:
        (B, 1 + K - old, H, W); channel 0 is the background with all old classes, see `merged_mask`. With old = 1 it is
        the log-softmax.

    Raises:
        ValueError: the logits have fewer channels than `old`.
    """
    _check_channels(logits, old)
    log_p = torch.log_softmax(widened(logits), dim=1)
    return torch.cat([torch.logsumexp(log_p[:, :old], dim=1, keepdim=True), log_p[:, old:]], dim=1)


def merged_mask(mask: Tensor, old: int) -> Tensor:
    """Mask of the channels of `unbiased_log_probabilities`: 0 for anything old, then the new classes; IGNORE stays."""
    mask = mask.long()
    return torch.where(mask == IGNORE, mask, (mask - (old - 1)).clamp(min=0))


def unbiased_cross_entropy_map(logits: Tensor, mask: Tensor, old: int, *, known_old: bool = False) -> Tensor:
    """Unbiased cross-entropy of every pixel, (B, H, W), 0 where the mask is IGNORE; arguments as the mean's."""
    log_p = unbiased_log_probabilities(logits, old)
    loss = F.nll_loss(log_p, merged_mask(mask, old), ignore_index=IGNORE, reduction="none")
    if not known_old:
        return loss
    labelled = (mask >= 1) & (mask < old)
    own = F.cross_entropy(widened(logits), torch.where(labelled, mask.long(), 0), reduction="none")
    return torch.where(labelled, own, loss)


def unbiased_cross_entropy(
    logits: Tensor,
    mask: Tensor,
    old: int,
    *,
    weights: Tensor | None = None,
    known_old: bool = False,
    compat_mean_over_all: bool = False,
) -> Tensor:
    """Cross-entropy for which "background" means: the background or any old class.

    Args:
        logits: (B, K, H, W).
        mask: class indices (B, H, W), of which all below `old` count as background.
        old: channels of the earlier steps, the background included; 1 makes it the plain cross-entropy.
        weights: one per class, (K,), of which that of the background holds for the old classes as well; the mean is
            then a weighted one.
        known_old: only 0 counts as background: labels of old classes, which tiles that are shown again bring, are
            learned as what they are.
        compat_mean_over_all: average over all pixels, unknown ones counting 0, as MiB's released code does.

    Returns:
        Scalar, 0 where no pixel is known.

    Source: Cermelli et al. 2020, equations 5 and 6.
    """
    loss = unbiased_cross_entropy_map(logits, mask, old, known_old=known_old)
    known = mask != IGNORE
    share = known.to(loss.dtype)
    if weights is not None:
        own = known if known_old else known & (mask >= old)
        share = weights.to(loss)[torch.where(own, mask, 0).long()] * share
    return _mean(loss * share, share, compat_mean_over_all)


def unbiased_focal(
    logits: Tensor,
    mask: Tensor,
    old: int,
    *,
    gamma: float = 2.0,
    alpha: float = 1.0,
    weights: Tensor | None = None,
    compat_mean_over_all: bool = False,
) -> Tensor:
    """Focal loss for which "background" means: the background or any old class; arguments as `pixel.focal`.

    `weights` are one per class as in `unbiased_cross_entropy`. MiB-CD's own is a map, whose mean over all pixels
    `compat_mean_over_all` gives.
    """
    return focal(
        unbiased_log_probabilities(logits, old),
        merged_mask(mask, old),
        gamma=gamma,
        alpha=alpha,
        class_weights=None if weights is None else torch.cat([weights[:1], weights[old:]]),
        compat_mean_over_all=compat_mean_over_all,
    )


def knowledge_distillation(
    logits: Tensor, teacher_logits: Tensor, *, alpha: float = 1.0, where: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the teacher's and the student's softmax over the old channels, divided by their number.

    Args:
        logits: (B, K, H, W) of the student; channels beyond the teacher's take no part.
        teacher_logits: (B, old, H, W).
        alpha: factor of the teacher's logits; above 1 it makes the teacher surer.
        where: bool or weights (B, H, W) by which pixels are multiplied; the mean is over all pixels nevertheless.

    Returns:
        Scalar.

    Raises:
        ValueError: the student has fewer channels than the teacher.

    Source: Li and Hoiem 2016, equation 2, as in MiB's released code.
    """
    return _averaged(knowledge_distillation_map(logits, teacher_logits, alpha=alpha), where)


def knowledge_distillation_map(logits: Tensor, teacher_logits: Tensor, *, alpha: float = 1.0) -> Tensor:
    """`knowledge_distillation` of every pixel, (B, H, W)."""
    old = teacher_logits.shape[1]
    _check_channels(logits, old)
    log_p = torch.log_softmax(widened(logits)[:, :old], dim=1)
    return -(_teacher_softmax(teacher_logits, alpha) * log_p).sum(dim=1) / old


def unbiased_distillation(
    logits: Tensor, teacher_logits: Tensor, *, alpha: float = 1.0, where: Tensor | None = None
) -> Tensor:
    """Distillation for which the teacher's "background" means: the background or any class that it does not know.

    Without new classes it is `knowledge_distillation`; arguments as there.

    Source: Cermelli et al. 2020, equations 8 and 9.
    """
    return _averaged(unbiased_distillation_map(logits, teacher_logits, alpha=alpha), where)


def unbiased_distillation_map(logits: Tensor, teacher_logits: Tensor, *, alpha: float = 1.0) -> Tensor:
    """`unbiased_distillation` of every pixel, (B, H, W)."""
    old = teacher_logits.shape[1]
    _check_channels(logits, old)
    log_p = torch.log_softmax(widened(logits), dim=1)
    unknown = torch.cat([log_p[:, :1], log_p[:, old:]], dim=1)
    log_p = torch.cat([torch.logsumexp(unknown, dim=1, keepdim=True), log_p[:, 1:old]], dim=1)
    return -(_teacher_softmax(teacher_logits, alpha) * log_p).sum(dim=1) / old


def icarl_cross_entropy(logits: Tensor, mask: Tensor, *, compat_mean_over_all: bool = False) -> Tensor:
    """Binary cross-entropies of all channels, added up per pixel.

    Args:
        logits: (B, K, H, W), each channel activated by a sigmoid.
        mask: class indices (B, H, W).
        compat_mean_over_all: average over all pixels, unknown ones counting 0, as MiB's released code does.

    Returns:
        Scalar, 0 where no pixel is known.

    Source: Rebuffi et al. 2017, equation 1 without exemplars (LwF-MC).
    """
    loss = _binary(widened(logits), _one_hot(mask, logits)).sum(dim=1)
    share = (mask != IGNORE).to(loss.dtype)
    return _mean(loss * share, share, compat_mean_over_all)


def icarl_distillation(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean binary cross-entropy of the old channels against the teacher's sigmoid.

    MiB's released code multiplies it by 10 and by the number of old channels.

    Args:
        logits: (B, K, H, W) of the student.
        teacher_logits: (B, old, H, W).

    Raises:
        ValueError: the student has fewer channels than the teacher.
    """
    old = teacher_logits.shape[1]
    _check_channels(logits, old)
    return _binary(widened(logits)[:, :old], torch.sigmoid(widened(teacher_logits.detach()))).mean()


def icarl_combined(
    logits: Tensor,
    mask: Tensor,
    teacher_logits: Tensor,
    *,
    background: Literal["teacher", "labels"] = "teacher",
    compat_ignored_absent: bool = False,
) -> Tensor:
    """Binary cross-entropies in which the teacher takes the place of the labels for the old channels.

    Args:
        logits: (B, K, H, W) of the student.
        mask: class indices (B, H, W), looked at for the channels that the teacher does not teach. Where it is
            IGNORE these take no part.
        teacher_logits: (B, old, H, W).
        background: who teaches channel 0.
        compat_ignored_absent: pixels of unknown class are taught to be of none of the labels' classes, as MiB's
            released code does.

    Returns:
        Scalar, mean over all pixels of the sum over the channels.

    Raises:
        ValueError: the student has fewer channels than the teacher.
    """
    old = teacher_logits.shape[1]
    _check_channels(logits, old)
    first = 0 if background == "teacher" else 1
    wanted = _one_hot(mask, logits)
    wanted[:, first:old] = torch.sigmoid(widened(teacher_logits.detach()))[:, first:]
    loss = _binary(widened(logits), wanted)
    if not compat_ignored_absent:
        taught = (mask != IGNORE)[:, None].expand_as(loss).clone()
        taught[:, first:old] = True
        loss = loss * taught
    return loss.sum(dim=1).mean()


def feature_consistency(features: Tensor, wanted: Tensor, *, where: Tensor | None = None) -> Tensor:
    """Mean squared difference of two feature maps, into both of which the gradient flows.

    Args:
        features: (B, C, H, W).
        wanted: the same shape.
        where: bool (B, H, W) or (1, H, W), where both are to be compared, such as away from the corners that a
            rotation leaves empty; None compares everywhere.

    Returns:
        Scalar, 0 where nothing is compared.

    Raises:
        ValueError: the shapes differ.

    Source: MiB-CD, the rotation term; its own has no `where`.
    """
    if features.shape != wanted.shape:
        raise ValueError(
            f"features are {tuple(features.shape)} and {tuple(wanted.shape)}, expected one shape"
        )
    squares = (widened(features) - widened(wanted)).square().mean(dim=1)
    if where is None:
        return squares.mean()
    share = where.expand_as(squares).to(squares.dtype)
    return (squares * share).sum() / share.sum().clamp(min=1)


def _teacher_softmax(teacher_logits: Tensor, alpha: float) -> Tensor:
    return torch.softmax(alpha * widened(teacher_logits.detach()), dim=1)


def _averaged(loss: Tensor, where: Tensor | None) -> Tensor:
    return loss.mean() if where is None else (loss * where.to(loss.dtype)).mean()


def _mean(loss: Tensor, share: Tensor, over_all: bool) -> Tensor:
    """Sum of `loss` over the sum of the shares, or over the number of pixels."""
    if over_all:
        return loss.sum() / max(loss.numel(), 1)
    return loss.sum() / share.sum().clamp(min=_LEAST)


def _binary(logits: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none")


def _one_hot(mask: Tensor, like: Tensor) -> Tensor:
    """Mask (B, H, W) as channels (B, K, H, W) of the dtype in which losses are computed, all 0 where it is IGNORE."""
    kinds = torch.arange(like.shape[1], device=mask.device)[None, :, None, None]
    return (mask[:, None] == kinds).to(widened(like).dtype)


def _check_channels(logits: Tensor, old: int) -> None:
    if not 1 <= old <= logits.shape[1]:
        raise ValueError(
            f"logits have {logits.shape[1]} channels, expected at least the {old} old ones (1 or more)"
        )
