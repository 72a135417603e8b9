"""Local POD: what rows and columns of feature maps sum up to stays as it was with the model of the step before.

Nothing flows into the old features.

Source: Douillard et al. 2021 (PLOP), section 3.2, and its released code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.learning.losses.pixel import widened

SCALES = (1, 2, 4)
_LEAST = 1e-8


@dataclass(frozen=True, slots=True)
class Pooling:
    """How maps are pooled and compared; the defaults are PLOP's.

    Attributes:
        kind: see `pod_embedding`.
        scales: of it.
        before: what becomes of features first.
        distance: of the pooled values.
        compat_parts: of `local`: parts are squares of width // scale pixels from the upper left corner, as in the
            released code, and what is left over at the other sides is not looked at.
    """

    kind: Literal["local", "spatial", "global"] = "local"
    scales: Sequence[int] = SCALES
    before: Literal["square", "relu", "none"] = "square"
    distance: Literal["l2", "l1", "kl"] = "l2"
    compat_parts: bool = False


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
    pooling: Pooling | None = None,
    added: Literal["sum", "trim"] = "sum",
    where: Tensor | None = None,
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
        pooling: how maps are pooled and compared; it has its own `scales` and `compat_parts`.
        added: `trim` leaves the logits of new classes out.
        where: bool (B, H, W): the logits are compared there only, by the largest at each pixel of that size.
        compat_parts: see `Pooling`.

    Returns:
        Scalar; its gradient is 0 where both are equal.

    Raises:
        ValueError: the layers do not go together, or there are none.
    """
    if len(new) != len(old) or (logits is None) != (old_logits is None):
        raise ValueError(
            f"{len(new)} new layers and {len(old)} old ones, expected pairs, and both logits or none"
        )
    pooling = pooling or Pooling(scales=scales, compat_parts=compat_parts)
    losses = [factor * _distance(a, b, pooling) for a, b in zip(new, old, strict=True)]
    if logits is not None and old_logits is not None:
        known = old_logits.shape[1]
        ours = merged_logits(logits, known) if added == "sum" else logits[:, :known]
        losses.append(logits_factor * _distance(ours, old_logits, pooling, where))
    if not losses:
        raise ValueError("no layers, expected feature maps or logits")
    return growth * torch.stack(losses).mean()


def pod_embedding(
    features: Tensor,
    scales: Sequence[int] = SCALES,
    *,
    compat_parts: bool = False,
    pooling: Pooling | None = None,
    where: Tensor | None = None,
) -> Tensor:
    """Means of the squared features along the rows and along the columns of the parts of an image.

    At scale s the map falls into s x s parts, as equal as pixels allow and never more than it has pixels.

    Args:
        features: (B, C, h, w).
        scales: parts per side.
        compat_parts: see `Pooling`.
        pooling: another way: `spatial` sums up the rows and the columns of the whole map, `global` the columns and the
            rows of its means over squares of width // scale pixels.
        where: bool (B, H, W): the largest of the channels, resampled to that size, and 0 elsewhere.

    Returns:
        (B, D), of each scale the parts row by row, of each part the C x h means along the width, then the C x w means
        along the height.
    """
    pooling = pooling or Pooling(scales=scales, compat_parts=compat_parts)
    values = widened(features)
    if pooling.before != "none":
        values = values.square() if pooling.before == "square" else values.clamp(min=0)
    if where is not None:
        size = (where.shape[-2], where.shape[-1])
        values = F.interpolate(
            values.amax(dim=1, keepdim=True), size=size, mode="bilinear", align_corners=False
        )
        values = values * where[:, None]
    if pooling.kind == "spatial":
        return torch.cat([values.sum(dim=3).flatten(1), values.sum(dim=2).flatten(1)], dim=1)
    means = []
    for scale in pooling.scales:
        if pooling.kind == "global":
            squares = F.avg_pool2d(values, max(min(values.shape[3] // scale, values.shape[2]), 1))
            means += [squares.sum(dim=2).flatten(1), squares.sum(dim=3).flatten(1)]
            continue
        if pooling.compat_parts:
            side = values.shape[3] // scale
            rows = columns = [(i * side, (i + 1) * side) for i in range(scale)]
        else:
            rows, columns = _borders(values.shape[2], scale), _borders(values.shape[3], scale)
        for top, bottom in rows:
            for left, right in columns:
                part = values[:, :, top:bottom, left:right]
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


def _distance(new: Tensor, old: Tensor, pooling: Pooling, where: Tensor | None = None) -> Tensor:
    """Distance of the embeddings, mean over the images."""
    if new.shape != old.shape:
        raise ValueError(f"a layer is {tuple(new.shape)} now and was {tuple(old.shape)}, expected one shape")
    ours = pod_embedding(new, pooling=pooling, where=where)
    theirs = pod_embedding(old.detach(), pooling=pooling, where=where)
    if pooling.distance == "kl":
        p, q = (x / x.sum(dim=1, keepdim=True).clamp(min=_LEAST) for x in (theirs, ours))
        divergence: Tensor = (torch.xlogy(p, p) - p * q.clamp(min=_LEAST).log()).sum(dim=1)
        return divergence.mean()
    order = 1 if pooling.distance == "l1" else 2
    distances: Tensor = torch.linalg.vector_norm(ours - theirs, ord=order, dim=1)
    return distances.mean()


def _borders(length: int, parts: int) -> list[tuple[int, int]]:
    parts = min(parts, length)
    return [(i * length // parts, (i + 1) * length // parts) for i in range(parts)]
