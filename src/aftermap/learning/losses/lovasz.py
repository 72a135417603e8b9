"""Lovász losses: convex surrogates of the Jaccard index, from errors sorted by size.

Source: Berman et al. 2018, algorithm 1 and sections 3.1 and 3.2.
"""

import torch
from torch import Tensor


def lovasz_hinge(
    logits: Tensor, truth: Tensor, known: Tensor | None = None, *, per_image: bool = False
) -> Tensor:
    """Hinge form, for logits of single channels.

    Args:
        logits: (B, K, H, W).
        truth: the same shape, 0 or 1.
        known: bool (B, H, W); other pixels take no part.
        per_image: average over the images instead of sorting all pixels together.

    Returns:
        (K,).
    """
    signs = 2 * truth.to(logits.dtype) - 1
    return _per_channel(1 - logits * signs, truth, known, per_image=per_image, hinge=True)


def lovasz_sigmoid(
    probabilities: Tensor, truth: Tensor, known: Tensor | None = None, *, per_image: bool = False
) -> Tensor:
    """Form for probabilities of single channels: the errors are |truth - p|; arguments as `lovasz_hinge`."""
    errors = (truth.to(probabilities.dtype) - probabilities).abs()
    return _per_channel(errors, truth, known, per_image=per_image, hinge=False)


def _per_channel(
    errors: Tensor, truth: Tensor, known: Tensor | None, *, per_image: bool, hinge: bool
) -> Tensor:
    b, k = errors.shape[:2]
    mask = torch.ones_like(errors[:, 0], dtype=torch.bool) if known is None else known
    groups = [[i] for i in range(b)] if per_image else [list(range(b))]
    values = []
    for channel in range(k):
        parts = [
            _surrogate(errors[g, channel][mask[g]], truth[g, channel][mask[g]], hinge=hinge) for g in groups
        ]
        values.append(torch.stack(parts).mean())
    return torch.stack(values)


def _surrogate(errors: Tensor, truth: Tensor, *, hinge: bool) -> Tensor:
    """Inner product of the sorted errors with the steps of the Jaccard index; 0 of no pixel."""
    if not errors.numel():
        return errors.sum()
    order = errors.argsort(descending=True)
    wanted = truth[order].to(errors.dtype)
    total = wanted.sum()
    jaccard = 1 - (total - wanted.cumsum(0)) / (total + (1 - wanted).cumsum(0))
    steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    chosen = errors[order]
    return torch.dot(torch.relu(chosen) if hinge else chosen, steps)
