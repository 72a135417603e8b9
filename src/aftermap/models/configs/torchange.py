"""What ChangeOS can be."""

from pathlib import Path
from typing import Literal

from aftermap.config import Config

EncoderName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "swin_t"]


class TorchangeConfig(Config):
    """ChangeOS (Zheng et al. 2021) for pairs of images, on the encoders that torchange has a configuration for.

    Attributes:
        encoder_weights: `imagenet` (the residual networks: torchvision's first weights), a file with the encoder's
            weights, or None.
    """

    kind: Literal["torchange"] = "torchange"
    encoder_name: EncoderName = "swin_t"
    encoder_weights: Literal["imagenet"] | Path | None = None
    classes: Literal[5] = 5

    @property
    def dates(self) -> Literal[2]:
        """Always a pair."""
        return 2
