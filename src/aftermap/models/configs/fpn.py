"""What the feature pyramid network of the Open Cities system can be."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.models.configs.encoder import EncoderWeights

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
