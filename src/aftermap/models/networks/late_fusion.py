"""Two siamese U-Nets whose answers become one: one that finds buildings, beside one that ranks damage."""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm, log

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.models.configs.networks import Fuse
from aftermap.models.networks.encoders import Encoder
from aftermap.models.networks.siamese import SiameseUnet
from aftermap.models.networks.unet import upsample


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

    encoder_parts = ("encoder", "second.encoder")
    head_parts = ("head", "second.head")

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
        degrees = ((own[:, 1:] + other[:, 1:]) / 2).log_softmax(1)
        found = self._mean(_ground_and_building(own), _ground_and_building(other))
        return upsample(torch.cat([found[:, :1], found[:, 1:] + degrees], dim=1), size)

    def _mean(self, own: Tensor, other: Tensor) -> Tensor:
        """Logarithm of the weighted mean of what two logarithms stand for; never of 0, however sure both are."""
        if self.second_share == 0:
            return own
        parts = [own + log(1 - self.second_share), other + log(self.second_share)]
        return torch.stack(parts).logsumexp(0)

    def _smaller(self, image: Tensor) -> Tensor:
        """Images (B, 2, C, H, W) as the second network sees them."""
        if self.scale == 1:
            return image
        dates = [
            F.interpolate(date, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
            for date in image.unbind(1)
        ]
        return torch.stack(dates, dim=1)


def _ground_and_building(logarithms: Tensor) -> Tensor:
    """Logarithms (B, 2, H, W) of the probabilities of no building and of one, from those of all classes."""
    return torch.cat([logarithms[:, :1], logarithms[:, 1:].logsumexp(1, keepdim=True)], dim=1)
