"""Losses of overlap: one value per channel, from probabilities and truth of the whole batch or of each image.

Shapes throughout: `probabilities` and `truth` (B, K, H, W), `known` bool (B, H, W) or None. Unknown pixels count on
neither side. The result is (K,).
"""

import torch
from torch import Tensor

SMOOTH = 1e-6


def dice(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    per_image: bool = False,
    smooth: float = SMOOTH,
) -> Tensor:
    """1 minus the soft Dice coefficient: 1 - (2 |p t| + s) / (|p| + |t| + s).

    Args:
        probabilities: (B, K, H, W) in 0..1.
        truth: the same shape, 0 or 1.
        known: (B, H, W).
        per_image: average over the images instead of pooling their pixels.
        smooth: s; 1e-6 in the xView2 winner, 1e-8 in MetaDamageNet.

    Source: Milletari et al. 2016 (V-Net), section 3.
    """
    both, predicted, wanted = _sums(probabilities, truth, known, per_image)
    return (1 - (2 * both + smooth) / (predicted + wanted + smooth)).mean(0)


def jaccard(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    per_image: bool = False,
    smooth: float = SMOOTH,
) -> Tensor:
    """1 minus the soft Jaccard index: 1 - (|p t| + s) / (|p| + |t| - |p t| + s); arguments as `dice`."""
    both, predicted, wanted = _sums(probabilities, truth, known, per_image)
    return (1 - (both + smooth) / (predicted + wanted - both + smooth)).mean(0)


def tversky(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    per_image: bool = False,
    smooth: float = SMOOTH,
) -> Tensor:
    """1 minus the Tversky index, which weighs false alarms by `alpha` and misses by `beta`.

    With alpha = beta = 0.5 it is the Dice loss with half the smoothing, with 1 and 1 the Jaccard loss.

    Source: Salehi et al. 2017, equation 4.
    """
    both, predicted, wanted = _sums(probabilities, truth, known, per_image)
    alarms, misses = predicted - both, wanted - both
    return (1 - (both + smooth) / (both + alpha * alarms + beta * misses + smooth)).mean(0)


def log_cosh_dice(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    per_image: bool = False,
    smooth: float = SMOOTH,
) -> Tensor:
    """Logarithm of the hyperbolic cosine of the Dice loss, flat near 0; arguments as `dice`.

    Source: Jadon 2020, section II.
    """
    return torch.log(torch.cosh(dice(probabilities, truth, known, per_image=per_image, smooth=smooth)))


def present(truth: Tensor, known: Tensor | None = None) -> Tensor:
    """Which channels occur among the known pixels of the batch, bool (K,)."""
    if known is not None:
        truth = truth * known[:, None]
    return truth.sum((0, 2, 3)) > 0


def _sums(
    probabilities: Tensor, truth: Tensor, known: Tensor | None, per_image: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of p t, p and t, each (B, K), or (1, K) over the whole batch."""
    truth = truth.to(probabilities.dtype)
    if known is not None:
        seen = known[:, None].to(probabilities.dtype)
        probabilities, truth = probabilities * seen, truth * seen
    axes = (2, 3) if per_image else (0, 2, 3)
    sums = (probabilities * truth).sum(axes), probabilities.sum(axes), truth.sum(axes)
    both, predicted, wanted = (s if per_image else s[None] for s in sums)
    return both, predicted, wanted
