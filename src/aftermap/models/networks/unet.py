"""U-Net on any encoder: a trunk (encoder and decoder) that ends in features, and a head of class logits."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.encoders import Encoder


class DecoderBlock(nn.Sequential):
    """Two 3x3 convolutions with batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UnetDecoder(nn.Module):
    """Merges feature maps from the coarsest to the finest, then up to `stride`.

    Attributes:
        out_channels: channels of the result.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], widths: Sequence[int], *, stride: int
    ) -> None:
        """Plan the blocks.

        Args:
            channels: encoder channels, finest first.
            strides: encoder strides, finest first.
            widths: channels of the decoder blocks, coarsest first; one per merge, plus one per
                doubling beyond the finest feature map.
            stride: stride of the result in input pixels; skips finer than that are not used.
        """
        super().__init__()
        used = [(c, s) for c, s in zip(channels, strides, strict=True) if s >= stride]
        merges = list(reversed(used[:-1]))
        doublings = max(0, (used[0][1] // stride).bit_length() - 1)
        needed = len(merges) + doublings
        if len(widths) < needed:
            raise ValueError(f"decoder_channels has {len(widths)} values, {needed} are needed")
        self.skips = [
            channels.index(c) if channels.count(c) == 1 else list(strides).index(s) for c, s in merges
        ]
        self.deepest = list(strides).index(used[-1][1])
        current = used[-1][0]
        blocks = []
        for (skip, _), width in zip([*merges, *[(0, 0)] * doublings], widths, strict=False):
            blocks.append(DecoderBlock(current + skip, width))
            current = width
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = current

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features (B, out_channels, H / stride, W / stride)."""
        x = features[self.deepest]
        for index, block in enumerate(self.blocks):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            if index < len(self.skips):
                x = torch.cat([x, features[self.skips[index]]], dim=1)
            x = block(x)
        return x


class Unet(DenseModel):
    """Single-date U-Net."""

    dates = 1

    def __init__(
        self, encoder: Encoder, widths: Sequence[int], *, classes: int, head_stride: int = 1
    ) -> None:
        super().__init__()
        self.classes = classes
        self.stride = encoder.strides[-1]
        self.encoder = encoder
        self.decoder = UnetDecoder(encoder.channels, encoder.strides, widths, stride=head_stride)
        self.head = nn.Conv2d(self.decoder.out_channels, classes, 1)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, D, H / head_stride, W / head_stride) of images (B, 1, C, H, W)."""
        features: Tensor = self.decoder(self.encoder(image[:, 0]))
        return features

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W); bilinear where the features are coarser."""
        return upsample(self.head(features), size)


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resampling of (B, K, h, w) to `size`; nothing where the size is already right."""
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
