"""Two siamese U-Nets whose answers become one: one that finds buildings, beside one that ranks damage."""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.models.configs.networks import Fuse
from aftermap.models.networks.encoders import Encoder
from aftermap.models.networks.siamese import SiameseUnet
from aftermap.models.networks.unet import upsample


class LateFusion(SiameseUnet):
    """A `SiameseUnet` with a second one beside it, that may see images at a smaller size.

    p(building) is the weighted mean of both. The damage classes share it by the weighted geometric mean of what both say
    of a building. The two meet at the stride of the first network's head. The weights of the first have the names that it
    would have alone: a model can be grown from it.

    Args:
        encoder, widths, classes, head_stride, fuse: of the first network, see `SiameseUnet`.
        second: the second, for as many classes.
        second_scale: size at which it sees images, in eighths.
        second_share: weight of its answer in both.
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
        """Features (B, D, h, w) of the first network, and behind them the logits of the second."""
        own, other = self._both(image)
        return torch.cat([own, other], dim=1)

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W)."""
        width = self.head.in_channels
        return upsample(self._fused(self.head(features[:, :width]), features[:, width:]), size)

    def direct(self, image: Tensor) -> Tensor:
        """Without features that are gathered to be parted again, which costs a graph copies in 32 bits."""
        own, other = self._both(image)
        return upsample(self._fused(self.head(own), other), (image.shape[-2], image.shape[-1]))

    def _both(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the first network, and logits of the second at their size.

        The head of the second comes before its answer is enlarged: that is the same, and has fewer channels.
        """
        own = super().forward_features(image)
        other = self.second.head(self.second.forward_features(self._smaller(image)))
        if other.shape[-2:] != own.shape[-2:]:
            other = F.interpolate(other, size=own.shape[-2:], mode="bilinear", align_corners=False)
        return own, other

    def _smaller(self, image: Tensor) -> Tensor:
        """Images (B, 2, C, H, W) as the second network sees them."""
        if self.scale == 1:
            return image
        dates = image.flatten(0, 1)
        dates = F.interpolate(dates, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
        return dates.reshape(-1, 2, *dates.shape[1:])

    def _fused(self, own: Tensor, other: Tensor) -> Tensor:
        """One answer (B, classes, h, w) from two, computed in 32 bits; the logit of the ground is 0.

        With a and b as the odds of the degrees against the ground and s as the share of the second, p(building) is
        (1 - s) A / (1 + A) + s B / (1 + B), A and B being their sums, and the degrees go by a^(1 - s) b^s.
        """
        x, y = ((logits[:, 1:] - logits[:, :1]).float().clamp(-_CERTAIN, _CERTAIN) for logits in (own, other))
        one, two = 1 - self.second_share, self.second_share
        degrees = one * x + two * y
        a, b = (odds.exp().sum(1, keepdim=True) for odds in (x, y))
        building, ground = one * a + two * b + a * b, 1 + one * b + two * a  # both times (1 + A) (1 + B)
        found = (building / (ground * degrees.exp().sum(1, keepdim=True))).log() + degrees
        return torch.cat([torch.zeros_like(a), found], dim=1).to(own.dtype)


_CERTAIN = 30.0
"""Logits go no further apart: e to this power, squared, is far from the end of 32 bits."""
