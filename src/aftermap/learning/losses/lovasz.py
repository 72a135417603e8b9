"""Lovász losses: convex surrogates of the Jaccard index, from errors sorted by size.

Source: Berman et al. 2018, algorithm 1 and sections 3.1 and 3.2.
"""

import torch
from torch import Tensor

from aftermap.learning.losses.pixel import widened


def lovasz_hinge(
    logits: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    per_image: bool = False,
    skip_absent: bool = False,
) -> Tensor:
    """Hinge form, for logits of single channels.

    Args:
        logits: (B, K, H, W).
        truth: the same shape, 0 or 1.
        known: bool (B, H, W); other pixels take no part.
        per_image: average over the images instead of sorting all pixels together.
        skip_absent: leave out the images in which a channel does not occur.

    Returns:
        (K,).
    """
    logits = widened(logits)
    errors = 1 - logits * (2 * truth.to(logits.dtype) - 1)
    return _surrogate(errors, truth, known, per_image=per_image, skip_absent=skip_absent)


def lovasz_sigmoid(
    probabilities: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    per_image: bool = False,
    skip_absent: bool = False,
) -> Tensor:
    """Form for probabilities of single channels: the errors are |truth - p|; arguments as `lovasz_hinge`."""
    probabilities = widened(probabilities)
    errors = (truth.to(probabilities.dtype) - probabilities).abs()
    return _surrogate(errors, truth, known, per_image=per_image, skip_absent=skip_absent)


def _surrogate(
    errors: Tensor, truth: Tensor, known: Tensor | None, *, per_image: bool, skip_absent: bool
) -> Tensor:
    """Inner product of the positive errors, sorted, with the steps of the Jaccard index; mean over images (K,)."""
    truth = truth.bool()
    if known is not None:
        # at the far end of the order, where the clipping below makes nothing of them
        errors = errors.masked_fill(~known[:, None], -torch.inf)
        truth = truth & known[:, None]
    if not per_image:
        errors, truth = (t.transpose(0, 1).flatten(1)[None, :, None] for t in (errors, truth))
    errors, truth = errors.flatten(2), truth.flatten(2)  # (images or 1, K, pixels)
    ordered, order = errors.sort(dim=-1, descending=True)
    hits = truth.gather(-1, order).cumsum(-1)
    total = hits[..., -1:]
    places = torch.arange(1, hits.shape[-1] + 1, device=hits.device)
    union = total + places - hits
    jaccard = 1 - (total - hits).to(errors.dtype) / union.to(errors.dtype)
    steps = torch.diff(jaccard, dim=-1, prepend=torch.zeros_like(jaccard[..., :1]))
    loss = (torch.relu(ordered) * steps).sum(-1)
    counted = (errors > -torch.inf).any(-1)
    if skip_absent:
        counted = counted & (total[..., 0] > 0)
    return (loss * counted).sum(0) / counted.sum(0).clamp(min=1)
