"""The one thing that flows from data to objectives.

Letters of shapes, here and everywhere: B crops of a batch, T dates, C bands, K classes, H and W pixels, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aftermap.classes import IGNORE


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one or two dates with their class mask; `data.loading` makes them, objectives take them.

    Attributes:
        image: float32 (B, T, C, H, W), normalised; T = 1 (one date) or 2 (pre, post).
        mask: int64 (B, H, W) class indices from 0 to K - 1; IGNORE (255) where unknown, all of it where a scene is
            unlabelled.
        soft: float32 (B, K, H, W) probabilities that a model gave, all 0 where there are none; None where no scene
            has any.
        resolution: float32 (B,) metres per pixel of each crop; NaN where unknown. None where nobody asked.
        dates: int64 (B,) BOTH, POST_ONLY or PRE_ONLY of `loading.date_dropout`; None where all show all.
    """

    image: Tensor
    mask: Tensor
    soft: Tensor | None = None
    resolution: Tensor | None = None
    dates: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        image, mask = (tensor.to(device, non_blocking=True) for tensor in (self.image, self.mask))
        return Batch(image, mask, moved(self.soft), moved(self.resolution), moved(self.dates))

    @property
    def is_labelled(self) -> bool:
        """True where at least one pixel has a known class."""
        return bool((self.mask != IGNORE).any())
