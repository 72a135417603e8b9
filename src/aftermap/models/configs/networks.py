"""What the networks of the package can be: U-Nets on an encoder, and those of the published systems."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.models.configs.encoder import EncoderName, EncoderOptions, EncoderWeights, ExtraBands

Fuse = Literal["encoder", "difference", "decoder"]
"""Where the two dates become one: before the decoder, there with what differs between them, or after it."""


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


class PseudoSiameseUnetConfig(_TimmUnetConfig):
    """Two-date U-Net with an encoder for each date, such as optical before and radar after.

    Attributes:
        post_channels: bands of the second image that its encoder sees, the first ones; 1 for radar, whose single band
            stands for red, green and blue alike.
    """

    kind: Literal["pseudo-siamese-unet"] = "pseudo-siamese-unet"
    classes: int = 5
    fuse: Fuse = "encoder"
    post_channels: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _bands_are_there(self) -> Self:
        if self.post_channels > self.in_channels:
            raise ValueError(f"post_channels is {self.post_channels}, images have {self.in_channels} bands")
        if self.pixel_skip and self.post_channels != self.in_channels:
            raise ValueError("pixel_skip needs as many bands after as before: set it to false")
        return self


class LateFusionConfig(_TimmUnetConfig):
    """Two siamese U-Nets whose answers become one: a second network beside that of the other keys.

    The second may be of another make, and see images at another size: a network that ranks damage well need not be one
    that finds buildings well.

    Attributes:
        second: the second network; its `encoder_weights` are "imagenet" or None. A recipe's `second_from` is its start.
        second_scale: size at which it sees images, in whole eighths, such as 0.75.
        second_share: weight of its answer, in p(building) and among the damage classes.
    """

    kind: Literal["late-fusion"] = "late-fusion"
    classes: int = Field(default=5, ge=3)
    fuse: Fuse = "encoder"
    second: SiameseUnetConfig = SiameseUnetConfig()
    second_scale: float = Field(default=1.0, ge=0.125, le=1)
    second_share: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _networks_fit_together(self) -> Self:
        if (self.second.classes, self.second.in_channels) != (self.classes, self.in_channels):
            raise ValueError(
                f"the second network tells {self.second.classes} classes of {self.second.in_channels} bands, the first "
                f"{self.classes} of {self.in_channels}"
            )
        if isinstance(self.second.encoder_weights, Path):
            raise ValueError(
                "second.encoder_weights is a file: begin with a model, by the recipe's second_from"
            )
        if self.second_scale * 8 % 1:
            raise ValueError(
                f"second_scale is {self.second_scale}: whole eighths can be had, such as 0.5 or 0.75"
            )
        return self


EfficientnetName = Literal[
    "tf_efficientnet_b0",
    "tf_efficientnet_b1",
    "tf_efficientnet_b2",
    "tf_efficientnet_b3",
]
Rate = Annotated[float, Field(ge=0, lt=1)]


class FpnEfficientnetConfig(Config):
    """Feature pyramid network on an EfficientNet with four heads, for one date.

    Attributes:
        encoder_name: timm's ports of the original EfficientNets, whose convolutions pad as TensorFlow does.
        encoder_weights: "imagenet", a weight file, or None for random weights.
        in_channels: bands of the image.
        classes: logits per pixel of the map head; the Dice head has one for all but the background.
        attention: features are multiplied by the tanh of a 1x1 convolution of themselves before the heads.
        aspp: atrous spatial pyramid pooling before the last 3x3 convolution.
        context: global context block before it.
        mish: Mish instead of ReLU after the last 3x3 convolution; always so with `context`. The encoder's first and
            last activations are Mish in any case.
        drop_connect: chance of dropping the last residual block for a sample, in training; falls linearly to 0 towards
            the first. The first four blocks take at most 0.2 of it.
        dropout: of the pyramid's features and of those for the image-level heads.
        compat_second_context: two context blocks, a narrow one and one after the pyramid pooling, as the original has
            for every encoder but B2.
        compat_frozen_stem: `statistics`: the first normalisation never learns new statistics, as in the original;
            `weights`: it and the first convolution are not trained either, as in the original's B2.
        compat_resize_probabilities: the softmax is taken before the map is resized to the image, as the original does,
            and not after; the logits are then logarithms of probabilities. For prediction; the objective `heads`
            learns at the resolution of the heads.
    """

    kind: Literal["fpn-efficientnet"] = "fpn-efficientnet"
    encoder_name: EfficientnetName = "tf_efficientnet_b1"
    encoder_weights: EncoderWeights = None
    in_channels: int = Field(default=3, ge=1)
    classes: int = Field(default=2, ge=2)
    attention: bool = True
    aspp: bool = True
    context: bool = False
    mish: bool = False
    drop_connect: Rate = 0.2
    dropout: Rate = 0.2
    compat_second_context: bool = False
    compat_frozen_stem: Literal["none", "statistics", "weights"] = "none"
    compat_resize_probabilities: bool = False

    @model_validator(mode="after")
    def _a_second_follows_a_first(self) -> Self:
        if self.compat_second_context and not self.context:
            raise ValueError("compat_second_context adds to context, which is off: set context to true")
        return self


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


class DeeplabConfig(Config):
    """DeepLab v3 on a dilated ResNet with leaky ReLUs, for one date: the network of MiB and PLOP.

    Attributes:
        encoder_weights: a file of the original's ImageNet weights (`resnet101_iabn_sync.pth.tar`), or None for random
            weights. Others do not fit: they were learned with ReLUs.
        output_stride: of the features; later groups of blocks are dilated in place of strided.
        pooling: in use the pyramid's mean is that of windows of so many cells of the features; None for the image's,
            as in training.
        compat_positive_scale: normalisations scale by |weight| + 1e-5, as in-place ABN does.
        compat_sums: terms on the encoder's maps see them before their leaky ReLU, as in PLOP's released code.
    """

    kind: Literal["deeplab-v3"] = "deeplab-v3"
    encoder_name: Literal["resnet50", "resnet101"] = "resnet101"
    encoder_weights: Path | None = None
    in_channels: int = Field(default=3, ge=1)
    classes: int = Field(default=2, ge=1)
    output_stride: Literal[8, 16] = 16
    pooling: Annotated[int, Field(ge=1)] | None = 32
    compat_positive_scale: bool = False
    compat_sums: bool = False


REDUCTIONS = (8, 4, 2, 1)
"""How much coarser the keys of the four stages are than their queries, along each side."""


class MitSize(NamedTuple):
    """Widths and depths of the four stages of an encoder, and the width of its published decoder."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder_channels: int


SIZES = {
    "mit_b0": MitSize((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "mit_b1": MitSize((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "mit_b2": MitSize((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "mit_b3": MitSize((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "mit_b4": MitSize((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "mit_b5": MitSize((64, 128, 320, 512), (3, 6, 40, 3), 768),
}


class SegformerConfig(Config):
    """SegFormer for one date or for two (one encoder for both, hidden states side by side).

    Attributes:
        encoder_weights: `imagenet` or `ade20k` (where the published system starts from), a file or folder, or None.
            NVIDIA's weights are for research use only.
        decoder_channels: width of the decoder; None takes the published one of the encoder.
        internal_px: the image is resized to a square of this size and the logits back, as the published system does
            (512); None keeps the resolution.
        drop_path: rate of the last block; the rates rise linearly from 0.
        dropout: rate before the classes.
    """

    kind: Literal["segformer"] = "segformer"
    encoder_name: Literal["mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5"] = "mit_b0"
    encoder_weights: Literal["imagenet", "ade20k"] | Path | None = None
    dates: Literal[1, 2] = 1
    in_channels: int = 3
    classes: int = 2
    decoder_channels: int | None = None
    internal_px: int | None = None
    drop_path: float = 0.1
    dropout: float = 0.1


ScseMode = Literal["none", "concat", "add"]


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
    encoder_name: EncoderName = "resnet34"
    dates: Literal[1, 2] = 2
    classes: int = 5
    decoder_channels: tuple[int, int, int, int, int] | None = None
    scse: ScseMode | None = None
    decoder_norm: bool | None = None
    encoder_weights: EncoderWeights = None
    in_channels: int = 3

    @property
    def decoder(self) -> DecoderPlan:
        """The decoder with every open choice filled in."""
        published = PUBLISHED_DECODERS.get(self.encoder_name, SMALL_DECODER)
        return DecoderPlan(
            self.decoder_channels or published.widths,
            published.scse if self.scse is None else self.scse,
            published.norm if self.decoder_norm is None else self.decoder_norm,
        )
