"""The network of the Open Cities system: a feature pyramid on an EfficientNet, with four heads.

Two heads look at every cell of 4 x 4 pixels (class logits, and one logit trained by overlap), two at the image (is
there any building, and how large is a pixel on the ground).

Source: third place of the Open Cities AI challenge (2020); Lin et al. 2017 (feature pyramids).
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aftermap.errors import ModelError, RecipeError
from aftermap.models.configs import FpnEfficientnetConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.encoders import EfficientnetEncoder
from aftermap.models.networks.unet import upsample
from aftermap.models.taps import unwrapped


class ConvNormRelu(nn.Sequential):
    """Convolution without bias, batch normalisation, ReLU; the size stays."""

    def __init__(self, in_channels: int, out_channels: int, *, size: int = 1, dilation: int = 1) -> None:
        padding = dilation * (size // 2)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, size, padding=padding, dilation=dilation, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Aspp(nn.Module):
    """A 1x1 convolution, dilated 3x3 convolutions and the image's mean, side by side and brought back together.

    Source: Chen et al. 2017 (DeepLabv3), section 3.3.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, rates: Sequence[int] = (4, 8, 12), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.point = ConvNormRelu(in_channels, out_channels)
        self.atrous = nn.ModuleList(
            ConvNormRelu(in_channels, out_channels, size=3, dilation=rate) for rate in rates
        )
        self.whole = ConvNormRelu(in_channels, out_channels)
        self.combine = ConvNormRelu((len(rates) + 2) * out_channels, out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, out_channels, h, w) of (B, in_channels, h, w)."""
        whole = self.whole(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, x.shape[-2], x.shape[-1])
        branches = [self.point(x), *(branch(x) for branch in self.atrous), whole]
        combined: Tensor = self.dropout(self.combine(torch.cat(branches, dim=1)))
        return combined


class GlobalContext(nn.Module):
    """Attention-weighted mean of all pixels, through a bottleneck, added to each of them; the identity at the start.

    Source: Cao et al. 2019 (GCNet), section 4.2.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, 1, 1)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.LayerNorm([hidden, 1, 1])
        self.expand = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(self.expand.weight)
        if self.expand.bias is not None:
            nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) of the same shape."""
        share = torch.softmax(self.attention(x).flatten(2), dim=2)  # (B, 1, h*w)
        context = torch.bmm(x.flatten(2), share.transpose(1, 2))[..., None]  # (B, C, 1, 1)
        added: Tensor = self.expand(torch.relu(self.norm(self.reduce(context))))
        return x + added


WIDTH = 64
"""Channels of every level of the pyramid, and of the features that the heads see."""

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
