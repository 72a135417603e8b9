"""The one thing that flows from data to objectives."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aftermap.classes import IGNORE


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one or two dates with their class mask.

    Attributes:
        image: float32 (B, T, C, H, W), normalised; T = 1 (one date) or 2 (pre, post).
        mask: int64 (B, H, W) class indices; IGNORE where unknown, all of it where a scene is unlabelled.
    """

    image: Tensor
    mask: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(self.image.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))

    @property
    def is_labelled(self) -> bool:
        """True where at least one pixel has a known class."""
        return bool((self.mask != IGNORE).any())
