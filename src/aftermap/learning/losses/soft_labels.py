"""Learning from soft labels: probabilities that a model gave, wherever it gave any."""

import torch
from torch import Tensor

from aftermap.classes import IGNORE
from aftermap.learning.losses.precision import widened


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
