"""Losses of overlap: one value per channel, from probabilities and truth of the whole batch or of each image.

Shapes throughout: `probabilities` and `truth` (B, K, H, W), `known` bool (B, H, W) or None. Unknown pixels count on
neither side. The result is (K,); a channel that has nothing to say, such as one without any known pixel, is 0.
"""

import torch
from torch import Tensor

from aftermap.learning.configs.terms import SMOOTH
from aftermap.learning.losses.pixel import widened


def dice(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    per_image: bool = False,
    skip_absent: bool = False,
    smooth: float = SMOOTH,
) -> Tensor:
    """1 minus the soft Dice coefficient: 1 - (2 |p t| + s) / (|p| + |t| + s).

    Args:
        probabilities: (B, K, H, W) in 0..1.
        truth: the same shape, 0 or 1.
        known: (B, H, W).
        per_image: average over the images instead of pooling their pixels.
        skip_absent: leave out where the channel does not occur: an image, or the whole channel.
        smooth: s; 1e-6 in the xView2 winner, 1e-8 in MetaDamageNet.

    Source: Milletari et al. 2016 (V-Net), section 3.
    """
    both, predicted, wanted, seen = _sums(probabilities, truth, known, per_image)
    loss = 1 - (2 * both + smooth) / (predicted + wanted + smooth)
    return _over_images(loss, wanted, seen, skip_absent)


def jaccard(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    per_image: bool = False,
    skip_absent: bool = False,
    smooth: float = SMOOTH,
) -> Tensor:
    """1 minus the soft Jaccard index: 1 - (|p t| + s) / (|p| + |t| - |p t| + s); arguments as `dice`."""
    both, predicted, wanted, seen = _sums(probabilities, truth, known, per_image)
    loss = 1 - (both + smooth) / (predicted + wanted - both + smooth)
    return _over_images(loss, wanted, seen, skip_absent)


def tversky(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    per_image: bool = False,
    skip_absent: bool = False,
    smooth: float = SMOOTH,
) -> Tensor:
    """1 minus the Tversky index, which weighs false alarms by `alpha` and misses by `beta`.

    With alpha = beta = 0.5 it is the Dice loss with half the smoothing, with 1 and 1 the Jaccard loss.

    Source: Salehi et al. 2017, equation 4.
    """
    both, predicted, wanted, seen = _sums(probabilities, truth, known, per_image)
    alarms, misses = predicted - both, wanted - both
    loss = 1 - (both + smooth) / (both + alpha * alarms + beta * misses + smooth)
    return _over_images(loss, wanted, seen, skip_absent)


def log_cosh_dice(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    per_image: bool = False,
    skip_absent: bool = False,
    smooth: float = SMOOTH,
) -> Tensor:
    """Logarithm of the hyperbolic cosine of the Dice loss, flat near 0; arguments as `dice`.

    Source: Jadon 2020, section II.
    """
    loss = dice(probabilities, truth, known, per_image=per_image, skip_absent=skip_absent, smooth=smooth)
    return torch.log(torch.cosh(loss))


def present(truth: Tensor, known: Tensor | None = None) -> Tensor:
    """Which channels occur among the known pixels of the batch, bool (K,)."""
    if known is not None:
        truth = truth * known[:, None]
    return truth.sum((0, 2, 3)) > 0


def _sums(
    probabilities: Tensor, truth: Tensor, known: Tensor | None, per_image: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums of p t, p and t, each (B, K), or (1, K) over the whole batch; and whether anything is known (B or 1, 1)."""
    probabilities = widened(probabilities)
    truth = truth.to(probabilities.dtype)
    seen = torch.ones((len(truth), 1), dtype=torch.bool, device=truth.device)
    if known is not None:
        mask = known[:, None].to(probabilities.dtype)
        probabilities, truth = probabilities * mask, truth * mask
        seen = known.flatten(1).any(dim=1, keepdim=True)
    axes = (2, 3) if per_image else (0, 2, 3)
    sums = (probabilities * truth).sum(axes), probabilities.sum(axes), truth.sum(axes)
    if per_image:
        return *sums, seen
    both, predicted, wanted = (s[None] for s in sums)
    return both, predicted, wanted, seen.any(dim=0, keepdim=True)


def _over_images(loss: Tensor, wanted: Tensor, seen: Tensor, skip_absent: bool) -> Tensor:
    """Mean (K,) of losses (N, K) over the images that count."""
    counted = seen & (wanted > 0) if skip_absent else seen.expand_as(loss)
    return (loss * counted).sum(0) / counted.sum(0).clamp(min=1)
