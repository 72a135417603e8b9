"""A U-Net of residual blocks on any timm encoder, for one date: the network of MiB-CD.

Source: MiB-CD, class-incremental segmentation of aerial images by contrastive distillation (2021 to 2022).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, overload

import torch
import torch.nn.functional as F
from timm.layers import Format
from torch import Tensor, nn

from aftermap.errors import RecipeError
from aftermap.models.configs.networks import ResidualUnetConfig
from aftermap.models.networks.bands import create_banded
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.encoders import check_timm_name

SLOPE = 0.01
"""Of every leaky ReLU in the decoder."""


class ResidualUnet(DenseModel):
    """Encoder, residual decoder and a linear classifier of features at the stride of the finest stage.

    Full resolution comes last: features are dropped out, resampled (bilinear, corners on corners) and classified. As
    classifying and resampling are both linear, the logits are resampled instead wherever nobody asks for the
    features at full resolution: less work and memory, and equal up to rounding.
    """

    dates = 1
    has_embedding: ClassVar[bool] = True

    def __init__(self, config: ResidualUnetConfig) -> None:
        """Assemble the network.

        Raises:
            RecipeError: no such encoder, or one that does not take the options.
            ModelError: its weights are not there or do not fit.
        """
        super().__init__()
        self.classes = config.classes
        self.encoder = StageEncoder(config)
        self.stride = max(self.encoder.strides)
        self.decoder = ResidualDecoder(self.encoder.channels, config)
        self.dropout = nn.Dropout2d(config.dropout) if config.dropout2d else nn.Dropout(config.dropout)
        self.head = nn.Conv2d(self.decoder.out_channels, config.classes, 1)

    @overload
    def forward(self, image: Tensor, embedding: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, image: Tensor, embedding: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(self, image: Tensor, embedding: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, classes, H, W) of normalised images (B, 1, C, H, W).

        Args:
            image: height and width are multiples of `stride`.
            embedding: give what the classifier sees at full resolution, (B, D, H, W), beside them.
        """
        if not embedding:
            return super().forward(image)
        embedded = self.embed(self.forward_features(image), (image.shape[-2], image.shape[-1]))
        return self.head(embedded), embedded

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of images (B, 1, C, H, W) at the finest stride of the encoder, before dropout."""
        features: Tensor = self.decoder(self.encoder(image[:, 0]))
        return features

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W), with dropout in training."""
        return resampled(self.head(self.dropout(features)), size)

    def embed(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Features (B, D, H, W) at full resolution, after dropout in training: what the classifier looks at."""
        return resampled(self.dropout(features), size)


class StageEncoder(nn.Module):
    """All stages that timm gives of a model.

    Attributes:
        channels: feature channels of each stage, finest first.
        strides: stride of each stage in input pixels, finest first.
    """

    def __init__(self, config: ResidualUnetConfig) -> None:
        super().__init__()
        name = config.encoder_name
        check_timm_name(name)
        options = dict(config.encoder_options)
        if config.output_stride is not None:
            options["output_stride"] = config.output_stride
        self.body: Any
        try:
            self.body = create_banded(
                name,
                in_channels=config.in_channels,
                weights=config.encoder_weights,
                extra_bands=config.extra_bands,
                compat_band_order=config.compat_band_order,
                features_only=True,
                **options,
            )
        except (TypeError, NotImplementedError, RuntimeError, AssertionError) as error:
            raise RecipeError(f"encoder {name} cannot be cut into stages with {options}: {error}") from None
        info = self.body.feature_info
        self.channels: list[int] = list(info.channels())
        self.strides: list[int] = list(info.reduction())
        self._channels_last = getattr(self.body, "output_fmt", Format.NCHW) == Format.NHWC

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, C, H, W), finest first."""
        features: list[Tensor] = self.body(image)
        if self._channels_last:
            return [maps.permute(0, 3, 1, 2).contiguous() for maps in features]
        return features


class ResidualDecoder(nn.Module):
    """Merges the stages from the coarsest to the finest.

    Attributes:
        out_channels: channels of the result.
    """

    def __init__(self, channels: Sequence[int], config: ResidualUnetConfig) -> None:
        super().__init__()
        coarse_first = list(reversed(channels))
        self.blocks = nn.ModuleList(
            ResidualBlock(coarse, fine, config) for coarse, fine in pairwise(coarse_first)
        )
        self.out_channels = coarse_first[-1]

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Features (B, out_channels, h, w) of stages, finest first, at the size of the finest."""
        x = stages[-1]
        for block, skip in zip(self.blocks, reversed(stages[:-1]), strict=True):
            x = block(x, skip)
        return x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions of a coarse stage and a skip, added to the coarse one."""

    def __init__(self, in_channels: int, out_channels: int, config: ResidualUnetConfig) -> None:
        super().__init__()
        middle = in_channels // 2
        self.reduce = nn.Conv2d(in_channels, middle, 1)
        self.convolutions = nn.Sequential(
            nn.Conv2d(middle + out_channels, out_channels, 3, padding=1, bias=False),
            *_normalised(out_channels, config),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            *_normalised(out_channels, config),
        )
        self.adapter = nn.Identity() if middle == out_channels else nn.Conv2d(middle, out_channels, 1)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Features (B, out_channels, h, w) of (B, in_channels, h', w') and a skip (B, out_channels, h, w)."""
        # the original resamples first; a 1x1 convolution gives the same on either side of it, for less here
        x = resampled(self.reduce(coarse), (skip.shape[-2], skip.shape[-1]))
        result: Tensor = self.convolutions(torch.cat([x, skip], dim=1)) + self.adapter(x)
        return result


def resampled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resampling of (B, C, h, w) to `size`, the centres of corner pixels on each other."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _normalised(channels: int, config: ResidualUnetConfig) -> list[nn.Module]:
    modules: list[nn.Module] = [nn.BatchNorm2d(channels)]
    activation = config.activation or ("leaky-relu" if config.norm == "iabn" else "relu")
    if config.norm == "iabn" or activation == "leaky-relu":
        modules.append(nn.LeakyReLU(SLOPE, inplace=True))
    elif activation == "relu":
        modules.append(nn.ReLU(inplace=True))
    return modules
