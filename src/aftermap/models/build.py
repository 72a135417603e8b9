"""From a configuration to a model: one class per kind, one exhaustive match."""

from importlib import import_module
from typing import Annotated, Any, Literal, assert_never

from pydantic import Field, TypeAdapter

from aftermap.config import Config
from aftermap.errors import RecipeError
from aftermap.models.configs.fpn import FpnEfficientnetConfig
from aftermap.models.networks.bands import ExtraBands
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.encoders import Encoder
from aftermap.models.networks.fpn import FpnEfficientnet
from aftermap.models.networks.residual_unet import ResidualUnet, ResidualUnetConfig
from aftermap.models.networks.segformer import Segformer, SegformerConfig
from aftermap.models.networks.siamese import Fuse, SiameseUnet
from aftermap.models.networks.smp import SmpConfig, SmpModel
from aftermap.models.networks.torchange import ChangeOs, TorchangeConfig
from aftermap.models.networks.unet import Unet
from aftermap.models.networks.xview2 import Xview2UnetConfig, build_xview2_unet
from aftermap.models.weights.pretrained import EncoderWeights


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

    encoder_name: str = "resnet18"
    encoder_depth: int = 5
    encoder_weights: EncoderWeights = None
    encoder_options: dict[str, Any] = Field(default_factory=dict)
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


class CustomConfig(Config):
    """A model of the user's own: `target` is `package.module:function`, called with `arguments`."""

    kind: Literal["custom"] = "custom"
    target: str
    classes: int
    arguments: dict[str, Any] = Field(default_factory=dict)


AnyModelConfig = (
    UnetConfig
    | SiameseUnetConfig
    | Xview2UnetConfig
    | SegformerConfig
    | SmpConfig
    | TorchangeConfig
    | FpnEfficientnetConfig
    | ResidualUnetConfig
    | CustomConfig
)  # fmt: skip
ModelConfig = Annotated[AnyModelConfig, Field(discriminator="kind")]
MODEL_CONFIG: TypeAdapter[AnyModelConfig] = TypeAdapter(ModelConfig)


def build_model(config: AnyModelConfig) -> DenseModel:
    """Create a model with random weights (or the encoder weights that the configuration names).

    Raises:
        RecipeError: the encoder or the custom target does not exist, or the numbers do not fit together.
    """
    match config:
        case UnetConfig():
            return _checked(
                lambda: Unet(
                    _encoder(config),
                    config.decoder_channels,
                    classes=config.classes,
                    head_stride=config.head_stride,
                )
            )
        case SiameseUnetConfig():
            return _checked(
                lambda: SiameseUnet(
                    _encoder(config),
                    config.decoder_channels,
                    classes=config.classes,
                    head_stride=config.head_stride,
                    fuse=config.fuse,
                )
            )
        case Xview2UnetConfig():
            return _checked(lambda: build_xview2_unet(config))
        case SegformerConfig():
            return Segformer(config)
        case SmpConfig():
            return SmpModel(config)
        case TorchangeConfig():
            return ChangeOs(config)
        case FpnEfficientnetConfig():
            return FpnEfficientnet(config)
        case ResidualUnetConfig():
            return ResidualUnet(config)
        case CustomConfig():
            return _custom(config)
        case _:
            assert_never(config)


def _checked(make: Any) -> DenseModel:
    try:
        model: DenseModel = make()
    except ValueError as error:
        raise RecipeError(f"model: {error}") from None
    return model


def _encoder(config: UnetConfig | SiameseUnetConfig) -> Encoder:
    return Encoder(
        config.encoder_name,
        in_channels=config.in_channels,
        depth=config.encoder_depth,
        weights=config.encoder_weights,
        extra_bands=config.extra_bands,
        fold=config.fold,
        pixel_skip=config.pixel_skip,
        options=config.encoder_options,
    )


def _custom(config: CustomConfig) -> DenseModel:
    module_name, _, name = config.target.partition(":")
    try:
        function = getattr(import_module(module_name), name)
    except (ImportError, AttributeError, ValueError):
        raise RecipeError(
            f"model target {config.target!r} cannot be imported: write package.module:function"
        ) from None
    model = function(**config.arguments)
    if not isinstance(model, DenseModel):
        raise RecipeError(
            f"model target {config.target!r} returned a {type(model).__name__}, expected a DenseModel"
        )
    return model
