"""From a configuration to a model: one class per kind, one exhaustive match. A network is imported where one is built."""

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from aftermap.errors import RecipeError
from aftermap.models.configs import (
    AnyModelConfig,
    CustomConfig,
    DeeplabConfig,
    FpnEfficientnetConfig,
    LateFusionConfig,
    PseudoSiameseUnetConfig,
    ResidualUnetConfig,
    SegformerConfig,
    SiameseUnetConfig,
    SmpConfig,
    TorchangeConfig,
    UnetConfig,
    Xview2UnetConfig,
)
from aftermap.trust import function_named, trust

if TYPE_CHECKING:
    from aftermap.models.networks.dense import DenseModel


def build_model(config: AnyModelConfig) -> "DenseModel":
    """Create a model with random weights (or the encoder weights that the configuration names).

    Raises:
        RecipeError: the encoder or the custom target does not exist, or the numbers do not fit together.
    """
    match config:
        case UnetConfig() | SiameseUnetConfig() | PseudoSiameseUnetConfig() | LateFusionConfig():
            return _checked(lambda: _timm_unet(config))
        case Xview2UnetConfig():
            from aftermap.models.networks.xview2 import build_xview2_unet

            return _checked(lambda: build_xview2_unet(config))
        case SegformerConfig():
            from aftermap.models.networks.segformer import Segformer

            return _checked(lambda: Segformer(config))
        case SmpConfig():
            from aftermap.models.networks.smp import SmpModel

            return _checked(lambda: SmpModel(config))
        case TorchangeConfig():
            from aftermap.models.networks.torchange import ChangeOs

            return _checked(lambda: ChangeOs(config))
        case FpnEfficientnetConfig():
            from aftermap.models.networks.fpn import FpnEfficientnet

            return _checked(lambda: FpnEfficientnet(config))
        case ResidualUnetConfig():
            from aftermap.models.networks.residual_unet import ResidualUnet

            return _checked(lambda: ResidualUnet(config))
        case DeeplabConfig():
            from aftermap.models.networks.deeplab import Deeplab

            return _checked(lambda: Deeplab(config))
        case CustomConfig():
            return _custom(config)
        case _:
            assert_never(config)


def without_weights(config: AnyModelConfig) -> AnyModelConfig:
    """The configuration without the encoder weights that it names: for models whose weights are then copied."""
    if isinstance(config, CustomConfig):
        return config
    if isinstance(config, LateFusionConfig):
        second = config.second.model_copy(update={"encoder_weights": None})
        return config.model_copy(update={"encoder_weights": None, "second": second})
    return config.model_copy(update={"encoder_weights": None})


def trust_own(config: AnyModelConfig) -> None:
    """Trust the custom target of a recipe: whoever runs a recipe chose the code that it names."""
    if isinstance(config, CustomConfig):
        trust(config.target)


def _checked(make: "Callable[[], DenseModel]") -> "DenseModel":
    try:
        return make()
    except (
        ValueError,
        OverflowError,
        TypeError,
        RuntimeError,
    ) as error:  # of sizes that no array can have, too
        raise RecipeError(f"model: {str(error).partition(chr(10))[0]}") from None


def _timm_unet(
    config: UnetConfig | SiameseUnetConfig | PseudoSiameseUnetConfig | LateFusionConfig,
) -> "DenseModel":
    from aftermap.models.networks.encoders import Encoder
    from aftermap.models.networks.late_fusion import LateFusion
    from aftermap.models.networks.siamese import PseudoSiameseUnet, SiameseUnet
    from aftermap.models.networks.unet import Unet

    def encoder(in_channels: int) -> Encoder:
        return Encoder(
            config.encoder_name,
            in_channels=in_channels,
            depth=config.encoder_depth,
            weights=config.encoder_weights,
            extra_bands=config.extra_bands,
            fold=config.fold,
            pixel_skip=config.pixel_skip,
            options=config.encoder_options,
        )

    first = encoder(config.in_channels)
    widths, classes, stride = config.decoder_channels, config.classes, config.head_stride
    if isinstance(config, UnetConfig):
        return Unet(first, widths, classes=classes, head_stride=stride)
    if isinstance(config, SiameseUnetConfig):
        return SiameseUnet(first, widths, classes=classes, head_stride=stride, fuse=config.fuse)
    if isinstance(config, LateFusionConfig):
        second = _timm_unet(config.second)
        assert isinstance(second, SiameseUnet)
        return LateFusion(
            first,
            widths,
            second=second,
            second_scale=config.second_scale,
            second_share=config.second_share,
            classes=classes,
            head_stride=stride,
            fuse=config.fuse,
        )
    return PseudoSiameseUnet(
        first,
        encoder(config.post_channels),
        widths,
        post_channels=config.post_channels,
        classes=classes,
        head_stride=stride,
        fuse=config.fuse,
    )


def _custom(config: CustomConfig) -> "DenseModel":
    from aftermap.models.networks.dense import DenseModel

    model = function_named(config.target, "model target")(**config.arguments)
    if not isinstance(model, DenseModel):
        raise RecipeError(
            f"model target {config.target!r} returned a {type(model).__name__}, expected a DenseModel"
        )
    return model
