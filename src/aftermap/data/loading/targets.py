"""What a network is taught: channels derived from a class mask, by pure functions on any device."""

from typing import Literal

import torch
from torch import Tensor

from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.loading.damage_targets import DamageTargets

_UNKNOWN = 1  # bit 0 of a pixel's byte; class k is bit k, background none


def damage_index(mask: Tensor, targets: DamageTargets) -> Tensor:
    """Class of every pixel after each class is dilated and the first by priority stays.

    Pixels that the mask ignores stay ignored, whatever is near. They spread into the background alone: within reach
    of a building of unknown damage nobody knows whether there would be one, so IGNORE stands there as well.

    Args:
        mask: class indices (B, H, W), 0 background, 1 to 4 damage, IGNORE.
        targets: how.

    Returns:
        int64 (B, H, W).
    """
    covered = _dilated(_as_bits(mask), targets.dilation_px)
    index = torch.zeros_like(covered).masked_fill((covered & _UNKNOWN) > 0, IGNORE)
    for k in reversed(targets.priority):
        index = index.masked_fill((covered & (1 << k)) > 0, k)
    return index.masked_fill(~known(mask), IGNORE).to(torch.int64)


def damage_channels(mask: Tensor, targets: DamageTargets) -> Tensor:
    """Channel per damage class of `damage_index`, without overlaps, behind channel 0.

    Returns:
        bool (B, 5, H, W); False in every channel where the class is not known.
    """
    return channels_of(damage_index(mask, targets), len(DAMAGE), targets.channel_0)


def channels_of(
    index: Tensor, classes: int, channel_0: Literal["background", "building"] = "background"
) -> Tensor:
    """One channel per class of indices (B, H, W), bool (B, classes, H, W).

    One class is the channel of what is not background, and so is channel 0 where it means `building`. Ignored pixels
    are False in every channel.
    """
    building = (index > 0) & known(index)
    if classes == 1:
        return building[:, None]
    first = index == 0 if channel_0 == "background" else building
    return torch.stack([first, *(index == k for k in range(1, classes))], dim=1)


def validation_channels(building: Tensor, damage: Tensor) -> Tensor:
    """Channels against which the winner validated damage: the building mask, then the damage classes as they are.

    Args:
        building: (B, H, W), > 0 is building.
        damage: (B, H, W), 0 to 4.

    Returns:
        bool (B, 5, H, W).
    """
    damaged = [damage == k for k in range(1, len(DAMAGE))]
    return torch.stack([(building > 0) & known(building), *damaged], dim=1)


def validation_index(damage: Tensor) -> Tensor:
    """Damage 0 to 3 of indices (B, H, W) as the winner validated it: no building counts as no-damage; IGNORE stays."""
    return torch.where(known(damage), (damage - 1).clamp(min=0), IGNORE)


def known(mask: Tensor) -> Tensor:
    """Where the class is known, bool of the mask's shape."""
    return mask != IGNORE


def _as_bits(mask: Tensor) -> Tensor:
    """Every pixel's class as one bit of a byte, so that all classes are dilated at once."""
    one = torch.ones((), dtype=torch.uint8, device=mask.device)
    bits = torch.bitwise_left_shift(one, mask.clamp(max=7).to(torch.uint8))
    return (bits & 0xFE).masked_fill(~known(mask), _UNKNOWN)


def _dilated(bits: Tensor, size_px: int) -> Tensor:
    """Union of the bits in a square around each pixel; nothing comes from outside the image."""
    for axis in (-1, -2):
        length = bits.shape[axis]
        spread = bits.clone()
        for distance in range(1, min(size_px // 2 + 1, length)):
            rest = length - distance
            spread.narrow(axis, distance, rest).bitwise_or_(bits.narrow(axis, 0, rest))
            spread.narrow(axis, 0, rest).bitwise_or_(bits.narrow(axis, distance, rest))
        bits = spread
    return bits
