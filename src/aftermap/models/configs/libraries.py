"""What networks of other libraries can be, and of the user's own."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from aftermap.config import Config
from aftermap.models.configs.encoder import EncoderName, EncoderOptions, EncoderWeights

Architecture = Literal[
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "pan",
    "deeplabv3",
    "deeplabv3plus",
    "upernet",
    "segformer",
    "dpt",
]
Fusion = Literal["concat", "difference", "decoder"]


class SmpConfig(Config):
    """An architecture of segmentation_models_pytorch.

    Attributes:
        encoder_name: a timm model (`convnext_tiny`, with or without smp's `tu-`), or an encoder that only smp has
            (`mit_b0` and its like, whose code is under NVIDIA's research licence: `kind: segformer` is not).
        encoder_depth: stages; None takes the architecture's own number.
        fusion: how two dates become one. `concat`: each stage's pre and post features side by side, brought back to
            their width by a 1x1 convolution that starts as "take the pre image"; the decoder runs once. `difference`:
            post minus pre at each stage; cheapest, but an unchanged building leaves nothing, so it suits maps of
            change and not of all buildings. `decoder`: the decoder runs on each date and the head sees both results,
            as the xView2 winner did; the dearest. All three work with every architecture.
        arguments: further arguments of the architecture, such as `decoder_channels`, or of the encoder.
    """

    kind: Literal["smp"] = "smp"
    architecture: Architecture = "unetplusplus"
    encoder_name: EncoderName = "resnet34"
    encoder_depth: int | None = None
    encoder_weights: EncoderWeights = None
    dates: Literal[1, 2] = 1
    fusion: Fusion = "concat"
    in_channels: int = 3
    classes: int = 2
    arguments: EncoderOptions = Field(default_factory=dict)


ChangeosEncoder = Literal["resnet18", "resnet34", "resnet50", "resnet101", "swin_t"]


class TorchangeConfig(Config):
    """ChangeOS (Zheng et al. 2021) for pairs of images, on the encoders that torchange has a configuration for.

    Attributes:
        encoder_weights: `imagenet` (the residual networks: torchvision's first weights), a file with the encoder's
            weights, or None.
    """

    kind: Literal["torchange"] = "torchange"
    encoder_name: ChangeosEncoder = "swin_t"
    encoder_weights: Literal["imagenet"] | Path | None = None
    classes: Literal[5] = 5

    @property
    def dates(self) -> Literal[2]:
        """Always a pair."""
        return 2


class CustomConfig(Config):
    """A model of the user's own: `target` is `package.module:function`, called with `arguments`."""

    kind: Literal["custom"] = "custom"
    target: str
    classes: int
    arguments: dict[str, Any] = Field(default_factory=dict)
