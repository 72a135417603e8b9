"""The U-Nets of the xView2 winner and of MetaDamageNet: one family, for one date or two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aftermap.config import Config
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.scse import Scse
from aftermap.models.networks.stages import AnyEncoder, published_encoder
from aftermap.models.weights.pretrained import EncoderWeights

ScseMode = Literal["none", "concat", "add"]
STRIDES = [2, 4, 8, 16, 32]


class Xview2UnetConfig(Config):
    """U-Net of the xView2 winner or MetaDamageNet; the siamese one joins the dates after the decoder.

    Attributes:
        encoder_name: resnet34, seresnext50, dpn92, senet154, efficientnet_b0, efficientnet_b0_widese,
            efficientnet_b4 (as published), or any timm encoder with five stages at strides 2 to 32.
        dates: 1 for localization, 2 for damage.
        classes: logits per pixel; published are 1 for localization and 5 for damage.
        decoder_channels: five widths, coarsest first; None takes those published with the encoder.
        scse: gates after the four decoder steps that merge a skip; None as published with the encoder.
        decoder_norm: batch normalisation in the decoder; None as published with the encoder.
        encoder_weights: "imagenet", a weight file, or None for random weights.
        in_channels: bands of one date.
    """

    kind: Literal["xview2-unet"] = "xview2-unet"
    encoder_name: str = "resnet34"
    dates: Literal[1, 2] = 2
    classes: int = 5
    decoder_channels: tuple[int, int, int, int, int] | None = None
    scse: ScseMode | None = None
    decoder_norm: bool | None = None
    encoder_weights: EncoderWeights = None
    in_channels: int = 3

    @property
    def decoder(self) -> "DecoderPlan":
        """The decoder with every open choice filled in."""
        published = PUBLISHED_DECODERS.get(self.encoder_name, SMALL_DECODER)
        return DecoderPlan(
            self.decoder_channels or published.widths,
            published.scse if self.scse is None else self.scse,
            published.norm if self.decoder_norm is None else self.decoder_norm,
        )


@dataclass(frozen=True, slots=True)
class DecoderPlan:
    """What a decoder of this family is made of; widths are listed coarsest first."""

    widths: tuple[int, int, int, int, int]
    scse: ScseMode = "none"
    norm: bool = False


LARGE_DECODER = DecoderPlan((320, 160, 96, 64, 48))
SMALL_DECODER = DecoderPlan((256, 128, 64, 48, 32))
PUBLISHED_DECODERS = {
    "resnet34": LARGE_DECODER,
    "seresnext50": SMALL_DECODER,
    "dpn92": DecoderPlan(SMALL_DECODER.widths, scse="concat"),
    "senet154": LARGE_DECODER,
    "efficientnet_b0": DecoderPlan(LARGE_DECODER.widths, norm=True),
    "efficientnet_b0_widese": DecoderPlan(LARGE_DECODER.widths, norm=True),
    "efficientnet_b4": DecoderPlan(LARGE_DECODER.widths, norm=True),
}


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
