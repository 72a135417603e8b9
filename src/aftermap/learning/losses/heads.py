"""Targets and losses of a network whose heads look at cells of several pixels and at whole images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import IGNORE
from aftermap.data.loading.targets import channels_of, known
from aftermap.learning.losses import pixel
from aftermap.learning.losses.pixel import widened


@dataclass(frozen=True, slots=True)
class CellTargets:
    """What a mask says about cells of pixels and about whole images.

    Attributes:
        share: of each class in each cell, float (B, K, h, w), 0 where nothing is known.
        known: bool (B, h, w), where at least half of what a cell looks at is known.
        index: class of each cell, int64 (B, h, w), IGNORE where unknown.
        presence: int64 (B,), 1 where any known cell is of another class than the background; IGNORE where none is known.
    """

    share: Tensor
    known: Tensor
    index: Tensor
    presence: Tensor


def cell_targets(
    mask: Tensor, size: tuple[int, int], *, classes: int = 2, compat_truncate: bool = False
) -> CellTargets:
    """Targets of cells on a grid of `size` = (h, w): the mask, resized bilinearly as an image would be.

    A cell belongs to the likeliest class but the background as soon as these make up half of it.

    Args:
        mask: class indices (B, H, W), IGNORE where unknown.
        size: of the heads' maps.
        classes: K.
        compat_truncate: only cells that lie wholly within one class belong to it, every other one is background, as in
            the Open Cities system: buildings lose their rims.
    """
    share, seen = _reduced(channels_of(mask, classes).float(), known(mask), size)
    objects = share[:, 1:]
    if compat_truncate:
        whole = objects >= 1 - 1e-6
        index = torch.where(whole.any(1), whole.int().argmax(1) + 1, 0)
    else:
        index = torch.where(objects.sum(1) >= 0.5, objects.argmax(1) + 1, 0)
    index = index.masked_fill(~seen, IGNORE)
    found = ((index > 0) & seen).flatten(1).any(1).long()
    return CellTargets(share, seen, index, found.masked_fill(~seen.flatten(1).any(1), IGNORE))


def soft_cells(soft: Tensor, size: tuple[int, int]) -> Tensor:
    """Soft labels (B, K, H, W) resized to (B, K, h, w); all 0 where less than half of a cell is known."""
    return _reduced(soft, soft.sum(1) > 0, size)[0]


def image_focal(
    logits: Tensor, target: Tensor, *, gamma: float = 2.0, compat_detached: bool = False
) -> Tensor:
    """Focal loss of images, the one without an object weighed by 0.25 and the one with any by 0.75.

    Args:
        logits: (B, 2).
        target: (B,), 0 or 1, IGNORE where unknown.
        gamma: see `pixel.focal`.
        compat_detached: see `pixel.focal`.

    Source: Open Cities third place.
    """
    return pixel.focal(
        logits[:, :, None, None],
        target[:, None, None],
        gamma=gamma,
        class_weights=logits.new_tensor(PRESENCE_WEIGHTS),
        normalise=False,
        compat_detached=compat_detached,
    )


PRESENCE_WEIGHTS = (0.25, 0.75)


def resolution_error(scale: Tensor, resolution: Tensor, reference_m: float) -> Tensor:
    """Smooth L1 between the scale head and the logarithm of the ground resolution over a reference.

    Args:
        scale: (B, 1).
        resolution: metres per pixel (B,), NaN where unknown; unknown ones take no part.
        reference_m: the resolution whose scale is 0.
    """
    scale = widened(scale)[:, 0]
    resolution = resolution.to(scale)
    seen = resolution.isfinite() & (resolution > 0)
    wanted = torch.log(torch.where(seen, resolution, reference_m) / reference_m)
    error = F.smooth_l1_loss(scale, wanted, reduction="none") * seen
    return error.sum() / seen.sum().clamp(min=1)


def hard_pixels(losses: Tensor, *, share: float = 2 / 3, dropped: float = 0.1) -> Tensor:
    """Which pixels to learn from: the costliest, without the very costliest, whose labels are likely wrong.

    Args:
        losses: one per pixel, (N,).
        share: of all pixels that is kept at first.
        dropped: of these, from the top.

    Returns:
        Indices, costliest first.

    Source: Shrivastava et al. 2016 (OHEM); the upper end is Open Cities third place's.
    """
    kept = int(len(losses) * share)
    return losses.argsort(descending=True, stable=True)[int(kept * dropped) : kept]


def hard_pixel_cross_entropy(
    logits: Tensor, target: Tensor, *, share: float = 2 / 3, dropped: float = 0.1
) -> Tensor:
    """Mean cross-entropy of logits (B, K, H, W) and class indices (B, H, W) over the `hard_pixels` of the batch."""
    losses = F.cross_entropy(widened(logits), target, ignore_index=IGNORE, reduction="none")[known(target)]
    chosen = losses[hard_pixels(losses.detach(), share=share, dropped=dropped)]
    # a batch with nothing known still has a gradient of 0
    return chosen.mean() if len(chosen) else widened(logits).sum() * 0


def _reduced(channels: Tensor, seen: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Mean of channels (B, K, H, W) over what is known of each cell, and where that is at least half, (B, h, w)."""
    part = _resized(seen[:, None].to(channels.dtype), size)
    enough = part[:, 0] >= 0.5
    mean = _resized(channels * seen[:, None], size) / part.clamp(min=0.5)
    return mean * enough[:, None], enough


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)
