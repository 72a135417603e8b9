"""Encoders from timm: an image in, one feature map per stride out."""

import difflib
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aftermap.errors import ModelError, RecipeError


class Encoder(nn.Module):
    """A timm backbone cut into stages.

    Attributes:
        channels: feature channels of each stage, finest first.
        strides: ground stride of each stage in input pixels, finest first.
    """

    def __init__(
        self, name: str, *, in_channels: int = 3, depth: int = 5, weights: Path | None = None
    ) -> None:
        """Create the backbone.

        Args:
            name: any timm model that offers features, such as `resnet18`.
            in_channels: bands of the image.
            depth: stages to keep.
            weights: a timm weight file (safetensors or state dict); None starts from random weights.

        Raises:
            RecipeError: no such encoder, or fewer stages than asked for.
        """
        super().__init__()
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=3)
            hint = f": similar names are {', '.join(near)}" if near else ""
            raise RecipeError(f"timm has no encoder named {name!r}{hint}")
        available = timm.create_model(name, features_only=True, in_chans=in_channels, pretrained=False)
        stages = len(available.feature_info)
        if depth > stages:
            raise RecipeError(f"encoder {name} has {stages} stages, the recipe asks for {depth}")
        self.body: Any = timm.create_model(
            name, features_only=True, in_chans=in_channels, pretrained=False, out_indices=tuple(range(depth))
        )
        info = self.body.feature_info
        self.channels: list[int] = info.channels()
        self.strides: list[int] = info.reduction()
        if weights is not None:
            self._load(weights)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, C, H, W), finest first."""
        features: list[Tensor] = self.body(image)
        return features

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise ModelError(f"no encoder weights at {path}")
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        missing, _ = self.body.load_state_dict(state, strict=False)
        if missing:
            raise ModelError(f"{path} lacks {len(missing)} of the encoder's weights, such as {missing[0]}")
