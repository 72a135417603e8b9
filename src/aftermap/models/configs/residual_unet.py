"""What the residual U-Net of MiB-CD can be."""

from typing import Literal, Self

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.models.configs.encoder import EncoderName, EncoderOptions, EncoderWeights, ExtraBands

Norm = Literal["std", "iabn"]
Activation = Literal["identity", "relu", "leaky-relu"]


class ResidualUnetConfig(Config):
    """Residual U-Net on a timm encoder, for one date.

    Attributes:
        encoder_name: any timm model that offers features; all its stages are used. TResNet begins at stride 4.
        encoder_weights: "imagenet", a weight file, or None for random weights.
        encoder_options: further arguments of the encoder in timm.
        output_stride: the encoder goes no coarser than this, by dilation; None for as coarse as it is made. Not for
            TResNet. The original has 16.
        in_channels: bands of the image.
        extra_bands: how pretrained weights for red, green and blue take further bands.
        norm: of the decoder: `std` is batch normalisation; `iabn` is batch normalisation and leaky ReLU in one, here as
            two steps (the in-place form saves memory, and gives the same values).
        activation: after each normalisation; None for `relu`, and for none of its own with `iabn`.
        dropout: of the features before the classifier.
        dropout2d: drops whole feature maps instead of single values.
        compat_band_order: pretrained weights take further bands as in the original, which puts them behind all others:
            right for plain first convolutions, and a shuffle of all bands for TResNet.
    """

    kind: Literal["residual-unet"] = "residual-unet"
    encoder_name: EncoderName = "tresnet_m"
    encoder_weights: EncoderWeights = None
    encoder_options: EncoderOptions = Field(default_factory=dict)
    output_stride: Literal[8, 16, 32] | None = None
    in_channels: int = Field(default=3, ge=1)
    extra_bands: ExtraBands = "red"
    classes: int = Field(default=2, ge=1)
    norm: Norm = "std"
    activation: Activation | None = None
    dropout: float = Field(default=0.5, ge=0, lt=1)
    dropout2d: bool = False
    compat_band_order: bool = False

    @model_validator(mode="after")
    def _iabn_activates(self) -> Self:
        if self.norm == "iabn" and self.activation not in (None, "identity"):
            raise ValueError(f"norm iabn ends in a leaky ReLU: leave activation {self.activation} out")
        return self
