"""What a network is taught: channels derived from a class mask, by pure functions."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import DAMAGE, IGNORE
from aftermap.config import Config

MINOR_FIRST = (2, 3, 4, 1)
"""Damage classes in the order in which the winner lets dilated ones overrule each other."""


class DamageTargets(Config):
    """Channels for damage instead of the plain class mask.

    Attributes:
        dilation_px: side of the square that each class is dilated by; 1 leaves it as it is.
        priority: where dilated classes meet, the earlier one stays.
        channel_0: `background`, what no class covers; or `building`, what any class covers.

    Source: xView2 first place, section "target" of its training scripts.
    """

    dilation_px: int = 5
    priority: tuple[int, ...] = MINOR_FIRST
    channel_0: Literal["background", "building"] = "background"


def damage_channels(mask: Tensor, targets: DamageTargets) -> Tensor:
    """Channel per damage class, each dilated, without overlaps, behind channel 0.

    Pixels that the mask ignores dilate nothing; whether a loss looks at them is not decided here (see `known`).

    Args:
        mask: class indices (B, H, W), 0 background, 1 to 4 damage, IGNORE.
        targets: how.

    Returns:
        bool (B, 5, H, W).
    """
    if targets.dilation_px % 2 == 0 or targets.dilation_px < 1:
        raise ValueError(f"dilation_px is {targets.dilation_px}, expected an odd number of pixels")
    if sorted(targets.priority) != list(range(1, len(DAMAGE))):
        raise ValueError(
            f"priority is {list(targets.priority)}, expected each of 1 to {len(DAMAGE) - 1} once"
        )
    channels = torch.stack([mask == k for k in range(1, len(DAMAGE))], dim=1)
    if targets.dilation_px > 1:
        size = targets.dilation_px
        channels = (
            F.max_pool2d(channels.to(torch.float16 if mask.is_cuda else torch.float32), size, 1, size // 2)
            > 0
        )
    free = torch.ones_like(channels[:, 0])
    kept: dict[int, Tensor] = {}
    for k in targets.priority:
        kept[k] = channels[:, k - 1] & free
        free = free & ~channels[:, k - 1]
    first = free if targets.channel_0 == "background" else ~free
    return torch.stack([first, *(kept[k] for k in range(1, len(DAMAGE)))], dim=1)


def class_channels(mask: Tensor, classes: int) -> Tensor:
    """One channel per class, bool (B, classes, H, W); with one class the channel of what is not background.

    Ignored pixels are False in every channel.
    """
    if classes == 1:
        return ((mask > 0) & known(mask))[:, None]
    return torch.stack([mask == k for k in range(classes)], dim=1)


def class_index(channels: Tensor, mask: Tensor) -> Tensor:
    """Index (B, H, W) of the first channel that is set, IGNORE where the mask is."""
    return torch.where(known(mask), channels.to(torch.uint8).argmax(dim=1), IGNORE)


def known(mask: Tensor) -> Tensor:
    """Where the class is known, bool of the mask's shape."""
    return mask != IGNORE
