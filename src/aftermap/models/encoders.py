"""Encoders from timm: an image in, one feature map per stride out."""

import difflib
from typing import Any

import timm
from torch import Tensor, nn

from aftermap.errors import RecipeError
from aftermap.models.pretrained import EncoderWeights, create_timm


class Encoder(nn.Module):
    """A timm backbone cut into stages.

    Attributes:
        channels: feature channels of each stage, finest first.
        strides: ground stride of each stage in input pixels, finest first.
    """

    def __init__(
        self, name: str, *, in_channels: int = 3, depth: int = 5, weights: EncoderWeights = None
    ) -> None:
        """Create the backbone.

        Args:
            name: any timm model that offers features, such as `resnet18`.
            in_channels: bands of the image.
            depth: stages to keep.
            weights: `imagenet`, a weight file or folder, or None for random weights.

        Raises:
            RecipeError: no such encoder, or fewer stages than asked for.
            ModelError: the weights are not there or do not fit.
        """
        super().__init__()
        check_timm_name(name)
        self.body: Any
        try:
            self.body = create_timm(
                name,
                in_channels=in_channels,
                weights=weights,
                features_only=True,
                out_indices=tuple(range(depth)),
            )
        except (IndexError, AssertionError):  # timm's way of saying that there is no such stage
            stages = len(timm.create_model(name, features_only=True, pretrained=False).feature_info)
            raise RecipeError(f"encoder {name} has {stages} stages, the recipe asks for {depth}") from None
        info = self.body.feature_info
        self.channels: list[int] = info.channels()
        self.strides: list[int] = info.reduction()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, C, H, W), finest first."""
        features: list[Tensor] = self.body(image)
        return features


def check_timm_name(name: str) -> None:
    """Raise a RecipeError with similar names where timm has no model of that name."""
    if timm.is_model(name):
        return
    near = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f": similar names are {', '.join(near)}" if near else ""
    raise RecipeError(f"timm has no encoder named {name!r}{hint}")
