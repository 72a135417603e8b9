"""Which channels of damage a network is taught, as data."""

from typing import Literal, Self

from pydantic import model_validator

from aftermap.classes import DAMAGE
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

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.dilation_px % 2 == 0 or self.dilation_px < 1:
            raise ValueError(f"dilation_px is {self.dilation_px}, expected an odd number of pixels")
        if sorted(self.priority) != list(range(1, len(DAMAGE))):
            raise ValueError(
                f"priority is {list(self.priority)}, expected each of 1 to {len(DAMAGE) - 1} once"
            )
        return self
