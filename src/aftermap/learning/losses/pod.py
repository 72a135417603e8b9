"""Local POD: what rows and columns of feature maps sum up to stays as it was with the model of the step before.

Nothing flows into the old features.

Source: Douillard et al. 2021 (PLOP), section 3.2, and its released code.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from aftermap.learning.losses.pixel import widened

SCALES = (1, 2, 4)


def local_pod(
    new: Sequence[Tensor],
    old: Sequence[Tensor],
    *,
    scales: Sequence[int] = SCALES,
    factor: float = 0.01,
    logits: Tensor | None = None,
    old_logits: Tensor | None = None,
    logits_factor: float = 0.0005,
    growth: float = 1.0,
    compat_parts: bool = False,
) -> Tensor:
    """Mean over the layers of the distance between the embeddings of squared features, times its layer's factor.

    Args:
        new: feature maps of the model that learns, (B, C, h, w) each.
        old: those of the old model, of the same shapes.
        scales: see `pod_embedding`.
        factor: of every feature map; 0.01, or 0.001 where there are many classes.
        logits: of the model that learns, (B, K, h, w): one more layer, whose new classes are part of the background.
        old_logits: (B, old, h, w).
        logits_factor: of that layer.
        growth: factor of the whole, see `pod_growth`.
        compat_parts: see `pod_embedding`.

    Returns:
        Scalar; its gradient is 0 where both are equal.

    Raises:
        ValueError: the layers do not go together, or there are none.
    """
    if len(new) != len(old) or (logits is None) != (old_logits is None):
        raise ValueError(
            f"{len(new)} new layers and {len(old)} old ones, expected pairs, and both logits or none"
        )
    layers = [(a, b, factor) for a, b in zip(new, old, strict=True)]
    if logits is not None and old_logits is not None:
        layers.append((merged_logits(logits, old_logits.shape[1]), old_logits, logits_factor))
    if not layers:
        raise ValueError("no layers, expected feature maps or logits")
    losses = [f * _distance(a, b, scales, compat_parts=compat_parts) for a, b, f in layers]
    return growth * torch.stack(losses).mean()


def pod_embedding(features: Tensor, scales: Sequence[int] = SCALES, *, compat_parts: bool = False) -> Tensor:
    """Means of the squared features along the rows and along the columns of the parts of an image.

    At scale s the map falls into s x s parts, as equal as pixels allow and never more than it has pixels.

    Args:
        features: (B, C, h, w).
        scales: parts per side.
        compat_parts: parts are squares of width // scale pixels from the upper left corner, as in the released code, and
            what is left over at the other sides is not looked at.

    Returns:
        (B, D), of each scale the parts row by row, of each part the C x h means along the width, then the C x w means
        along the height.
    """
    squares = widened(features).square()
    means = []
    for scale in scales:
        if compat_parts:
            side = squares.shape[3] // scale
            rows = columns = [(i * side, (i + 1) * side) for i in range(scale)]
        else:
            rows, columns = _borders(squares.shape[2], scale), _borders(squares.shape[3], scale)
        for top, bottom in rows:
            for left, right in columns:
                part = squares[:, :, top:bottom, left:right]
                means += [part.mean(dim=3).flatten(1), part.mean(dim=2).flatten(1)]
    return torch.cat(means, dim=1)


def merged_logits(logits: Tensor, old: int) -> Tensor:
    """Logits (B, K, H, W) in the layout of the old model (B, old, H, W): those of new classes are added to channel 0."""
    return torch.cat([logits[:, :1] + logits[:, old:].sum(dim=1, keepdim=True), logits[:, 1:old]], dim=1)


def pod_growth(classes: int, added: int) -> float:
    """Factor by which what is kept counts for more as classes add up: the root of all classes over the new ones.

    Args:
        classes: channels of the model that learns, the background included.
        added: how many of them are new in the step.
    """
    return math.sqrt(classes / added)


def _distance(new: Tensor, old: Tensor, scales: Sequence[int], *, compat_parts: bool = False) -> Tensor:
    """Euclidean distance of the embeddings, mean over the images."""
    if new.shape != old.shape:
        raise ValueError(f"a layer is {tuple(new.shape)} now and was {tuple(old.shape)}, expected one shape")
    embed = partial(pod_embedding, scales=scales, compat_parts=compat_parts)
    gap = embed(new) - embed(old.detach())
    distances: Tensor = torch.linalg.vector_norm(gap, dim=1)
    return distances.mean()


def _borders(length: int, parts: int) -> list[tuple[int, int]]:
    parts = min(parts, length)
    return [(i * length // parts, (i + 1) * length // parts) for i in range(parts)]
