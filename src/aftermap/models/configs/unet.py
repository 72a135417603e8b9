"""What U-Nets on a timm encoder can be, for one date and for two."""

from typing import Literal

from pydantic import Field

from aftermap.config import Config
from aftermap.models.configs.encoder import EncoderName, EncoderOptions, EncoderWeights, ExtraBands

Fuse = Literal["encoder", "decoder"]
"""Where the two dates become one: before the decoder or after it."""


class _TimmUnetConfig(Config):
    """What U-Nets on a timm encoder have in common.

    Attributes:
        encoder_name: any timm model that offers features.
        encoder_depth: stages of it that are kept.
        encoder_weights: "imagenet", a weight file, or None for random weights.
        encoder_options: arguments of the encoder in timm, such as `channels: [32, 64, 128, 256]` of a ResNet.
        extra_bands: how pretrained weights for red, green and blue take further bands.
        fold: blocks of so many pixels squared become channels before the encoder, which makes everything after
            cheaper by the square of it without losing a pixel.
        pixel_skip: the decoder sees the folded pixels themselves at stride `fold`, one merge more: sharper outlines
            for little arithmetic.
        head_stride: the decoder ends at this stride in input pixels; the logits are resampled from there.
    """

    encoder_name: EncoderName = "resnet18"
    encoder_depth: int = 5
    encoder_weights: EncoderWeights = None
    encoder_options: EncoderOptions = Field(default_factory=dict)
    extra_bands: ExtraBands = "timm"
    fold: Literal[1, 2, 4] = 1
    pixel_skip: bool = False
    in_channels: int = 3
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    head_stride: Literal[1, 2, 4, 8] = 1


class UnetConfig(_TimmUnetConfig):
    """Single-date U-Net on a timm encoder."""

    kind: Literal["unet"] = "unet"
    classes: int = 2


class SiameseUnetConfig(_TimmUnetConfig):
    """Two-date U-Net with one encoder."""

    kind: Literal["siamese-unet"] = "siamese-unet"
    classes: int = 5
    fuse: Fuse = "encoder"
