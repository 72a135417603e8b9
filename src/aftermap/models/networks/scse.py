"""Concurrent spatial and channel squeeze and excitation: gates on channels and on pixels."""

from typing import Literal

import torch
from torch import Tensor, nn


class Scse(nn.Module):
    """Channel gate and spatial gate of the same features, side by side or summed.

    Source: Roy et al. 2018; as used by the xView2 winner (concat) and MetaDamageNet (add).
    """

    def __init__(self, channels: int, *, merge: Literal["concat", "add"], reduction: int = 16) -> None:
        """Create both gates.

        Args:
            channels: channels C of the features.
            merge: `concat` gives 2C channels, those under the channel gate first; `add` gives their sum.
            reduction: the channel gate squeezes to C // reduction channels, at least one.
        """
        super().__init__()
        squeezed = max(1, channels // reduction)
        self.merge = merge
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)
        self.spatial = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gated features (B, C or 2C, H, W) of (B, C, H, W)."""
        mean = x.mean((2, 3), keepdim=True)
        by_channel = x * self.excite(self.squeeze(mean).relu()).sigmoid()
        by_pixel = x * self.spatial(x).sigmoid()
        return torch.cat([by_channel, by_pixel], dim=1) if self.merge == "concat" else by_channel + by_pixel
