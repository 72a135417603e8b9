"""Two siamese U-Nets whose answers become one: one that finds buildings, beside one that ranks damage."""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.models.configs.networks import Fuse
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.encoders import Encoder
from aftermap.models.networks.siamese import SiameseUnet
from aftermap.models.networks.unet import upsample
from aftermap.models.weights.pretrained import load_weights

LEAST = 1e-6
"""p(building) of the mean stays so far from 0 and 1, whose logarithms are no numbers."""


class LateFusion(SiameseUnet):
    """A `SiameseUnet` with a second one beside it, that may see images at a smaller size.

    p(building) is the weighted mean of both. The damage classes share it by the geometric mean of what both say of a
    building. Logits are the logarithms of these, so that a softmax gives them; both meet at the stride of the first
    network's head. The weights of the first have the names that it would have alone: a model can be grown from it.

    Args:
        encoder, widths, classes, head_stride, fuse: of the first network, see `SiameseUnet`.
        second: the second, for as many classes.
        second_scale: size at which it sees images, in eighths.
        second_share: of its answer in p(building).
    """

    def __init__(
        self,
        encoder: Encoder,
        widths: Sequence[int],
        *,
        second: SiameseUnet,
        second_scale: float,
        second_share: float,
        classes: int,
        head_stride: int = 1,
        fuse: Fuse = "encoder",
    ) -> None:
        super().__init__(encoder, widths, classes=classes, head_stride=head_stride, fuse=fuse)
        self.second = second
        self.second_share = second_share
        self.scale = Fraction(second_scale)
        self.stride = lcm(encoder.strides[-1], second.stride * self.scale.denominator)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of both networks, those of the first before those of the second."""
        own = super().forward_features(image)
        other = self.second.forward_features(self._smaller(image))
        if other.shape[-2:] != own.shape[-2:]:
            other = F.interpolate(other, size=own.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([own, other], dim=1)

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W)."""
        width = self.head.in_channels
        own = self.head(features[:, :width]).log_softmax(1)
        other = self.second.head(features[:, width:]).log_softmax(1)
        ground = torch.lerp(own[:, :1].exp(), other[:, :1].exp(), self.second_share).clamp(LEAST, 1 - LEAST)
        degrees = ((own[:, 1:] + other[:, 1:]) / 2).log_softmax(1)
        return upsample(torch.cat([ground.log(), (1 - ground).log() + degrees], dim=1), size)

    def _smaller(self, image: Tensor) -> Tensor:
        """Images (B, 2, C, H, W) as the second network sees them."""
        if self.scale == 1:
            return image
        dates = [
            F.interpolate(date, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
            for date in image.unbind(1)
        ]
        return torch.stack(dates, dim=1)


def second_network(built: DenseModel, weights: Path | None) -> SiameseUnet:
    """The second network with its weights.

    Raises:
        ModelError: no such file, or it does not fit.
    """
    assert isinstance(built, SiameseUnet)
    if weights is not None:
        load_weights(built, weights, what="the second network")
    return built
