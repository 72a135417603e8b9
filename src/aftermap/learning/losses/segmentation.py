"""Losses of dense classification: pure functions of logits (B, K, H, W) and class indices (B, H, W).

Pixels whose target is IGNORE take no part; a batch without any known pixel gives 0, not NaN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import IGNORE

EPSILON = 1e-6


def cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over known pixels; with `class_weights` (K,) the weighted mean."""
    total = F.cross_entropy(logits, target, weight=class_weights, ignore_index=IGNORE, reduction="sum")
    known = target != IGNORE
    if class_weights is None:
        return total / known.sum().clamp(min=1)
    # 0 at ignored pixels, so that they add nothing to the divisor
    weight = torch.where(known, class_weights[target.where(known, target.new_zeros(()))], 0.0)
    return total / weight.sum().clamp(min=EPSILON)


def soft_dice(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """1 minus the soft Dice coefficient of each class over the whole batch, averaged over the classes.

    Classes that are absent from the target take no part (their Dice would only say "predict nothing").

    Args:
        logits: (B, K, H, W).
        target: class indices (B, H, W).
        class_weights: (K,) weights of the average; None weighs all alike.

    Source: Milletari et al. 2016 (V-Net), section 3; whole-batch sums as in the xView2 winner.
    """
    known = target != IGNORE
    probabilities = torch.softmax(logits, dim=1) * known[:, None]
    truth = (
        F.one_hot(target.where(known, target.new_zeros(())), logits.shape[1]).movedim(-1, 1) * known[:, None]
    )
    axes = (0, 2, 3)
    overlap = (probabilities * truth).sum(axes)
    size = probabilities.sum(axes) + truth.sum(axes)
    loss = 1 - (2 * overlap + EPSILON) / (size + EPSILON)
    present = (truth.sum(axes) > 0).to(loss.dtype)
    weight = present if class_weights is None else present * class_weights
    return (loss * weight).sum() / weight.sum().clamp(min=EPSILON)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy weighted by (1 - p of the true class) ** gamma, averaged over known pixels.

    Source: Lin et al. 2017, section 3.2, without alpha.
    """
    known = target != IGNORE
    safe = target.where(known, target.new_zeros(()))
    log_p = torch.log_softmax(logits, dim=1).gather(1, safe[:, None])[:, 0]
    loss = -((1 - log_p.exp()) ** gamma) * log_p * known
    if class_weights is None:
        return loss.sum() / known.sum().clamp(min=1)
    weight = class_weights[safe] * known
    return (loss * weight).sum() / weight.sum().clamp(min=EPSILON)
