"""The network of the Open Cities system: a feature pyramid on an EfficientNet, with four heads.

Two heads look at every cell of 4 x 4 pixels (class logits, and one logit trained by overlap), two at the image (is
there any building, and how large is a pixel on the ground).

Source: third place of the Open Cities AI challenge (2020); Lin et al. 2017 (feature pyramids).
"""

from typing import Any, Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aftermap.errors import ModelError, RecipeError
from aftermap.models.configs import FpnEfficientnetConfig
from aftermap.models.networks.aspp import Aspp
from aftermap.models.networks.context import GlobalContext
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.fpn_encoder import EfficientnetEncoder
from aftermap.models.networks.unet import upsample
from aftermap.models.taps import unwrapped

WIDTH = 64
"""Channels of every level of the pyramid, and of the features that the heads see."""

HEAD_STRIDE = 4
"""Stride in input pixels of the heads that look at cells."""

_LEAST = 1e-12


class Heads(NamedTuple):
    """What the four heads say.

    Attributes:
        map: class logits (B, K, h, w) at stride 4.
        dice: logit of any class but the background (B, 1, h, w) at stride 4.
        presence: logits (B, 2) of an image without and with buildings.
        scale: (B, 1), logarithm of the ground resolution over a reference.
    """

    map: Tensor
    dice: Tensor
    presence: Tensor
    scale: Tensor


class UpsampleStep(nn.Sequential):
    """3x3 convolution, group normalisation, ReLU, and twice the size."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.GroupNorm(32, WIDTH),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        )


class Pyramid(nn.Module):
    """Top-down pyramid over four stages; its three finer levels side by side at stride 4.

    Attributes:
        out_channels: channels of the result.
    """

    def __init__(self, channels: list[int], *, dropout: float) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in reversed(channels))
        self.tops = nn.ModuleList(
            [
                nn.Sequential(UpsampleStep(), UpsampleStep()),
                UpsampleStep(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            ]
        )
        self.dropout = nn.Dropout(dropout)
        self.out_channels = WIDTH * len(self.tops)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Features (B, out_channels, H / 4, W / 4) of encoder stages, finest first."""
        level: Tensor = self.laterals[0](stages[-1])
        levels = []
        for lateral, stage in zip(list(self.laterals)[1:], reversed(stages[:-1]), strict=True):
            level = F.interpolate(level, size=stage.shape[-2:], mode="nearest") + lateral(stage)
            levels.append(level)
        features: Tensor = self.dropout(
            torch.cat([top(level) for top, level in zip(self.tops, levels, strict=True)], dim=1)
        )
        return features


class Neck(nn.Module):
    """Context, pyramid pooling, a last 3x3 convolution and attention: from the pyramid to what the heads see."""

    def __init__(self, channels: int, config: FpnEfficientnetConfig) -> None:
        super().__init__()
        second = config.compat_second_context
        self.context = GlobalContext(channels, 4 if second else 8) if config.context else None
        self.aspp = Aspp(channels, channels) if config.aspp else None
        self.second_context = GlobalContext(channels, 8) if second else None
        self.conv = nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.activation = nn.Mish() if config.mish or config.context else nn.ReLU()
        self.attention = nn.Conv2d(WIDTH, WIDTH, 1, bias=False) if config.attention else None

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 64, h, w) of (B, channels, h, w)."""
        for part in (self.context, self.aspp, self.second_context):
            if part is not None:
                x = part(x)
        x = self.activation(self.norm(self.conv(x)))
        return x if self.attention is None else x * torch.tanh(self.attention(x))


class FpnEfficientnet(DenseModel):
    """Feature pyramid network on an EfficientNet, for one date.

    As any dense model it answers with the logits of its map head at full size; with `heads=True` with all four heads.
    """

    dates = 1

    def __init__(self, config: FpnEfficientnetConfig) -> None:
        """Assemble the network.

        Raises:
            ModelError: the encoder's weights are not there or do not fit.
        """
        super().__init__()
        self.config = config
        self.classes = config.classes
        self.encoder = EfficientnetEncoder(
            config.encoder_name,
            in_channels=config.in_channels,
            weights=config.encoder_weights,
            drop_connect=config.drop_connect,
            frozen_stem=config.compat_frozen_stem,
        )
        self.stride = self.encoder.strides[-1]
        self.pyramid = Pyramid(self.encoder.channels, dropout=config.dropout)
        self.neck = Neck(self.pyramid.out_channels, config)
        self.head = nn.Conv2d(WIDTH, config.classes, 1)
        self.dice_head = nn.Conv2d(WIDTH, 1, 1, bias=False)
        self.image_dropout = nn.Dropout(config.dropout)
        self.presence_head = nn.Linear(self.encoder.channels[-1], 2)
        self.scale_head = nn.Linear(self.encoder.channels[-1], 1)

    @overload
    def forward(self, image: Tensor, heads: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, image: Tensor, heads: Literal[True]) -> Heads: ...

    def forward(self, image: Tensor, heads: bool = False) -> Tensor | Heads:
        """Logits (B, classes, H, W) of normalised images (B, 1, C, H, W), or all heads' answers.

        Raises:
            RecipeError: learning with `aspp` from one image at a time.
        """
        if not heads:
            return super().forward(image)
        stages = self.encoder(image[:, 0])
        features = self._decoded(stages)
        pooled = self._pooled(stages)
        return Heads(
            self.head(features), self.dice_head(features), self.presence_head(pooled), self.scale_head(pooled)
        )

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, 64, H / 4, W / 4) of images (B, 1, C, H, W)."""
        return self._decoded(self.encoder(image[:, 0]))

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W) of the map head, resized bilinearly."""
        logits = self.head(features)
        if not self.config.compat_resize_probabilities:
            return upsample(logits, size)
        return upsample(torch.softmax(logits.float(), dim=1), size).clamp(min=_LEAST).log()

    def presence_logits(self, image: Tensor) -> Tensor:
        """Logits (B, 2) of images (B, 1, C, H, W) without and with buildings, by encoder and presence head alone."""
        logits: Tensor = self.presence_head(self._pooled(self.encoder(image[:, 0])))
        return logits

    def _decoded(self, stages: list[Tensor]) -> Tensor:
        if self.training and self.config.aspp and len(stages[0]) < 2:
            # its branch of the image's mean has one value per channel and image, which normalises to nothing
            raise RecipeError(
                "fpn-efficientnet with aspp cannot learn from one sample at a time: set batch_size to 2 or more"
            )
        features: Tensor = self.neck(self.pyramid(stages))
        return features

    def _pooled(self, stages: list[Tensor]) -> Tensor:
        """(B, C) of the deepest stage."""
        pooled: Tensor = self.image_dropout(stages[-1].mean((2, 3)))
        return pooled


@torch.no_grad()
def presence_probability(model: nn.Module, image: Tensor) -> Tensor:
    """Probability (B,) that there is a building in images (B, 1, C, H, W), by the presence head.

    Args:
        model: a network of kind `fpn-efficientnet` in the mode that it should answer in.
        image: normalised.

    Raises:
        ModelError: the model has no such head.
    """
    bare: Any = unwrapped(model)
    if not isinstance(bare, FpnEfficientnet):
        raise ModelError(
            f"{type(bare).__name__} has no presence head: take a model of kind fpn-efficientnet, trained with the "
            "objective heads"
        )
    return torch.softmax(bare.presence_logits(image).float(), dim=1)[:, 1]
