"""The U-Nets of the xView2 winner and of MetaDamageNet: one family, for one date or two."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aftermap.models.configs.networks import DecoderPlan, ScseMode, Xview2UnetConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.stages import AnyEncoder, published_encoder


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


STRIDES = [2, 4, 8, 16, 32]


class ConvRelu(nn.Sequential):
    """3x3 convolution, batch normalisation if asked for, ReLU; starts from Kaiming's normal distribution.

    The convolution has a bias even before a normalisation, where it does nothing: the published weights do.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool) -> None:
        convolution = kaiming(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        middle = [nn.BatchNorm2d(out_channels)] if norm else []
        super().__init__(convolution, *middle, nn.ReLU(inplace=True))


class DecoderStep(nn.Module):
    """Doubles the resolution and merges a skip.

    Attributes:
        out_channels: channels of the result, twice the width where SCSE concatenates.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, width: int, *, scse: ScseMode = "none", norm: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = ConvRelu(in_channels, width, norm=norm)
        self.conv2 = ConvRelu(width + skip_channels, width, norm=norm)
        self.scse = None if scse == "none" else Scse(width, merge=scse)
        self.out_channels = 2 * width if scse == "concat" else width

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Features (B, out_channels, 2h, 2w) of coarse ones (B, C, h, w) and a skip (B, S, 2h, 2w)."""
        x = self.conv1(doubled(coarse))
        merged: Tensor = self.conv2(torch.cat([x, skip], dim=1))
        if self.scse is not None:
            merged = self.scse(merged)
        return merged


class Xview2Decoder(nn.Module):
    """Four steps that merge a skip each, and a last doubling to full resolution without one."""

    def __init__(self, channels: Sequence[int], plan: DecoderPlan) -> None:
        super().__init__()
        current = channels[-1]
        steps = []
        for skip, width in zip(reversed(channels[:-1]), plan.widths[:-1], strict=True):
            steps.append(DecoderStep(current, skip, width, scse=plan.scse, norm=plan.norm))
            current = steps[-1].out_channels
        self.steps = nn.ModuleList(steps)
        self.last = ConvRelu(current, plan.widths[-1], norm=plan.norm)
        self.out_channels = plan.widths[-1]

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Features (B, out_channels, H, W) of five encoder stages, finest first."""
        x = stages[-1]
        for step, skip in zip(self.steps, reversed(stages[:-1]), strict=True):
            x = step(x, skip)
        features: Tensor = self.last(doubled(x))
        return features


class Xview2Unet(DenseModel):
    """U-Net on one date, or the same U-Net on both dates under one 1x1 head.

    Source: the winning entry of xView2 (2019) and MetaDamageNet (2022).
    """

    trunk: ClassVar[tuple[str, ...]] = ("encoder.", "decoder.")

    def __init__(self, encoder: AnyEncoder, plan: DecoderPlan, *, dates: int, classes: int) -> None:
        """Assemble the network.

        Raises:
            ValueError: the encoder does not have five stages at strides 2, 4, 8, 16 and 32.
        """
        super().__init__()
        if encoder.strides != STRIDES:
            found = ", ".join(map(str, encoder.strides))
            raise ValueError(
                f"xview2-unet needs an encoder with strides 2, 4, 8, 16, 32, this one has {found}: "
                "take another encoder, or kind unet"
            )
        self.dates = dates
        self.classes = classes
        self.stride = STRIDES[-1]
        self.encoder = encoder
        self.decoder = Xview2Decoder(encoder.channels, plan)
        self.head = kaiming(nn.Conv2d(dates * self.decoder.out_channels, classes, 1))

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, dates * D, H, W) of images (B, dates, C, H, W), pre before post.

        The dates pass one after the other, not as one batch: in training, batch normalisation then sees the
        statistics of each date alone, as in the published systems.
        """
        return torch.cat([self.decoder(self.encoder(image[:, date])) for date in range(self.dates)], dim=1)

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W); the features have full resolution already."""
        logits: Tensor = self.head(features)
        return logits


def build_xview2_unet(config: Xview2UnetConfig) -> Xview2Unet:
    """The network of a configuration.

    Raises:
        ValueError: the encoder's strides do not fit.
        RecipeError: no such encoder.
        ModelError: its weights cannot be had.
    """
    encoder = published_encoder(
        config.encoder_name, in_channels=config.in_channels, weights=config.encoder_weights
    )
    return Xview2Unet(encoder, config.decoder, dates=config.dates, classes=config.classes)


def doubled(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2h, 2w), each pixel repeated."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def kaiming(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution with weights of variance 2 / fan-in and no bias to start with."""
    nn.init.kaiming_normal_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
