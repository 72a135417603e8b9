"""Atrous spatial pyramid pooling: the same features seen at several reaches, and as a whole."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormRelu(nn.Sequential):
    """Convolution without bias, batch normalisation, ReLU; the size stays."""

    def __init__(self, in_channels: int, out_channels: int, *, size: int = 1, dilation: int = 1) -> None:
        padding = dilation * (size // 2)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, size, padding=padding, dilation=dilation, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Aspp(nn.Module):
    """A 1x1 convolution, dilated 3x3 convolutions and the image's mean, side by side and brought back together.

    Source: Chen et al. 2017 (DeepLabv3), section 3.3.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, rates: Sequence[int] = (4, 8, 12), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.point = ConvNormRelu(in_channels, out_channels)
        self.atrous = nn.ModuleList(
            ConvNormRelu(in_channels, out_channels, size=3, dilation=rate) for rate in rates
        )
        self.whole = ConvNormRelu(in_channels, out_channels)
        self.combine = ConvNormRelu((len(rates) + 2) * out_channels, out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, out_channels, h, w) of (B, in_channels, h, w)."""
        whole = self.whole(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, x.shape[-2], x.shape[-1])
        branches = [self.point(x), *(branch(x) for branch in self.atrous), whole]
        combined: Tensor = self.dropout(self.combine(torch.cat(branches, dim=1)))
        return combined
