"""Losses of single pixels, averaged over those whose class is known; a batch without any gives 0, not NaN.

All take logits and go through log-sigmoid or log-softmax, so they are finite, with their gradients, at any logit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import IGNORE


def widened(values: Tensor) -> Tensor:
    """`values` in 32 bits, or as they are where they have more."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


_LEAST = 1e-6


def cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of logits (B, K, H, W) and class indices (B, H, W); with weights (K,) the weighted mean."""
    logits = widened(logits)
    class_weights = None if class_weights is None else class_weights.to(logits.dtype)
    total = F.cross_entropy(logits, target, weight=class_weights, ignore_index=IGNORE, reduction="sum")
    seen = target != IGNORE
    if class_weights is None:
        return total / seen.sum().clamp(min=1)
    # 0 at ignored pixels, so that they add nothing to the divisor
    weight = torch.where(seen, class_weights[target.where(seen, target.new_zeros(()))], 0.0)
    return total / weight.sum().clamp(min=_LEAST)


def focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float = 1.0,
    class_weights: Tensor | None = None,
    normalise: bool = True,
    compat_clamp: float = 0.0,
    compat_leak: float = 0.0,
    compat_detached: bool = False,
    compat_mean_over_all: bool = False,
) -> Tensor:
    """Cross-entropy of the softmax weighted by (1 - p of the true class) ** gamma.

    Args:
        logits: (B, K, H, W).
        target: class indices (B, H, W).
        gamma: how much easy pixels are passed over; 0 is cross-entropy.
        alpha: factor of the whole.
        class_weights: (K,) by true class.
        normalise: divide by the sum of the weights; False divides by the number of pixels.
        compat_clamp: keep the probability of the true class this far from 0 and 1 (1e-8 in MetaDamageNet's examples),
            beyond which the gradient is 0; neither leak nor detached factor go with it.
        compat_leak: this much of every class is wanted at every pixel besides the true one (1e-6 in MetaDamageNet's
            library).
        compat_detached: no gradient flows through the factor (1 - p) ** gamma (Open Cities).
        compat_mean_over_all: divide by the number of all pixels, unknown ones too (MiB-CD).

    Source: Lin et al. 2017, section 3.2.
    """
    logits = widened(logits)
    seen = target != IGNORE
    safe = target.where(seen, target.new_zeros(()))
    log_p = torch.log_softmax(logits, dim=1)
    if compat_clamp:
        p = torch.softmax(logits, dim=1).gather(1, safe[:, None])[:, 0].clamp(compat_clamp, 1 - compat_clamp)
        loss = -((1 - p) ** gamma) * p.log()
    else:
        loss = _focused(log_p.gather(1, safe[:, None])[:, 0], gamma, detached=compat_detached)
    weight = seen.to(logits.dtype) if class_weights is None else class_weights.to(logits.dtype)[safe] * seen
    loss = loss * weight
    if compat_leak:
        loss = loss + compat_leak * (_focused(log_p, gamma, detached=compat_detached).sum(1) * seen)
    if compat_mean_over_all:
        return alpha * loss.sum() / max(seen.numel(), 1)
    divisor = weight.sum().clamp(min=_LEAST) if normalise else seen.sum().clamp(min=1)
    return alpha * loss.sum() / divisor


def binary_focal(
    logits: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    compat_clamp: float = 0.0,
) -> Tensor:
    """Focal loss of every channel for itself.

    Args:
        logits: (B, K, H, W), activated by a sigmoid.
        truth: the same shape, 0 or 1.
        known: bool (B, H, W).
        gamma: see `focal`.
        alpha: weight of the pixels that are 1, those that are 0 get 1 - alpha; None weighs both by 1.
        compat_clamp: keep probabilities this far from 0 and 1, and the truth too, as the xView2 winner does; the
            gradient is then 0 beyond.

    Returns:
        (K,).
    """
    logits = widened(logits)
    wanted = truth.to(logits.dtype)
    if compat_clamp:
        p = torch.sigmoid(logits).clamp(compat_clamp, 1 - compat_clamp)
        soft = wanted.clamp(compat_clamp, 1 - compat_clamp)
        right = (1 - soft) * (1 - p) + soft * p
        loss = -((1 - right) ** gamma) * right.log()
    else:
        loss = _focused(F.logsigmoid(torch.where(truth.bool(), logits, -logits)), gamma)
    if alpha is not None:
        loss = loss * (alpha * wanted + (1 - alpha) * (1 - wanted))
    return _mean(loss, known)


def binary_cross_entropy(logits: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
    """Cross-entropy of every channel for itself, (K,); arguments as `binary_focal`."""
    logits = widened(logits)
    return _mean(F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none"), known)


def _focused(log_p: Tensor, gamma: float, *, detached: bool = False) -> Tensor:
    """-(1 - p) ** gamma log p, with 1 - p kept exact where p is near 1."""
    # the least positive number instead of 0, whose root has no gradient (gamma < 1)
    missing = -torch.expm1(log_p).clamp(max=-torch.finfo(log_p.dtype).tiny)
    factor = missing**gamma
    return -(factor.detach() if detached else factor) * log_p


def _mean(loss: Tensor, known: Tensor | None) -> Tensor:
    """Mean (K,) over the known pixels of (B, K, H, W)."""
    if known is None:
        return loss.mean((0, 2, 3))
    return torch.where(known[:, None], loss, 0.0).sum((0, 2, 3)) / known.sum().clamp(min=1)


def soft_kl(logits: Tensor, soft: Tensor, *, compat_class_mean: bool = False) -> Tensor:
    """Mean over the pixels with soft labels of KL(soft || softmax of the logits); 0 where there are none.

    Args:
        logits: (B, K, H, W).
        soft: probabilities (B, K, H, W), all 0 where unknown.
        compat_class_mean: divide by the number of classes too (Open Cities, by the default of its library).
    """
    logits = widened(logits)
    soft = soft.to(logits.dtype)
    known = soft.sum(dim=1) > 0
    values = torch.xlogy(soft, soft) - soft * torch.log_softmax(logits, dim=1)
    mean = values.sum() / known.sum().clamp(min=1)
    return mean / logits.shape[1] if compat_class_mean else mean


def harden(soft: Tensor, low: float, high: float) -> Tensor:
    """Class indices int64 (B, H, W) of soft labels (B, K, H, W).

    The likeliest class where its probability is above `high`; with two classes that is building above `high` and
    background where p(building) is below `low`. IGNORE elsewhere, and where nothing is known.
    """
    best, index = soft.max(dim=1)
    sure = (soft[:, 1] > high) | (soft[:, 1] < low) if soft.shape[1] == 2 else best > high
    known = soft.sum(dim=1) > 0
    return index.where(sure & known, index.new_full((), IGNORE))
