"""Encoders from timm: an image in, one feature map per stride out."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal, cast

import timm
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from aftermap.errors import RecipeError
from aftermap.models.configs.encoder import EncoderWeights, ExtraBands
from aftermap.models.networks.bands import create_banded
from aftermap.models.weights.pretrained import create_timm


class Encoder(nn.Module):
    """A timm backbone cut into stages.

    Attributes:
        channels: feature channels of each stage, finest first.
        strides: ground stride of each stage in input pixels, finest first.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        depth: int = 5,
        weights: EncoderWeights = None,
        extra_bands: ExtraBands = "timm",
        fold: int = 1,
        pixel_skip: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Create the backbone.

        Args:
            name: any timm model that offers features, such as `resnet18`.
            in_channels: bands of the image.
            depth: stages to keep.
            weights: `imagenet`, a weight file or folder, or None for random weights.
            extra_bands: how weights for red, green and blue take further bands.
            fold: blocks of `fold` x `fold` pixels become channels before the backbone, which then works on an image
                that much smaller without losing a pixel; all strides grow by it.
            pixel_skip: the folded image itself comes as a first, finest feature map.
            options: arguments of the backbone in timm, such as `channels` of a ResNet.

        Raises:
            RecipeError: no such encoder, no such option, or fewer stages than asked for.
            ModelError: the weights are not there or do not fit.
        """
        super().__init__()
        check_timm_name(name)
        self.fold = fold
        self.pixel_skip = pixel_skip
        self.body: Any
        try:
            self.body = create_banded(
                name,
                in_channels=in_channels,
                weights=weights,
                extra_bands=extra_bands,
                fold=fold,
                features_only=True,
                out_indices=tuple(range(depth)),
                **(options or {}),
            )
        except TypeError as error:  # timm hands what it does not know to the backbone's class
            raise RecipeError(
                f"encoder {name} does not take encoder_options {dict(options or {})}: {error}"
            ) from None
        except (IndexError, AssertionError):  # timm's way of saying that there is no such stage
            stages = len(timm.create_model(name, features_only=True, pretrained=False).feature_info)
            raise RecipeError(f"encoder {name} has {stages} stages, the recipe asks for {depth}") from None
        info = self.body.feature_info
        self.channels: list[int] = list(info.channels())
        self.strides: list[int] = [fold * stride for stride in info.reduction()]
        if pixel_skip:
            self.channels.insert(0, in_channels * fold**2)
            self.strides.insert(0, fold)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, C, H, W), finest first."""
        pixels = folded(image, self.fold)
        features: list[Tensor] = self.body(pixels)
        return [pixels, *features] if self.pixel_skip else features


def folded(image: Tensor, fold: int) -> Tensor:
    """(B, C, H, W) -> (B, fold * fold * C, H / fold, W / fold), the bands of one pixel side by side.

    In that order a first convolution made for C bands, repeated and divided by `fold` squared (as timm does with
    pretrained weights), sees the mean of each block.
    """
    if fold == 1:
        return image
    batch, bands, height, width = image.shape
    size = (height // fold, width // fold)
    # (B, C * fold^2, h, w) with the pixels of one band side by side -> (B, fold^2 * C, h, w)
    blocks = F.pixel_unshuffle(image, fold).reshape(batch, bands, fold**2, *size)
    return blocks.transpose(1, 2).reshape(batch, fold**2 * bands, *size)


def check_timm_name(name: str) -> None:
    """Raise a RecipeError with similar names where timm has no model of that name."""
    if timm.is_model(name):
        return
    near = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f": similar names are {', '.join(near)}" if near else ""
    raise RecipeError(f"timm has no encoder named {name!r}{hint}")


STAGES = (1, 2, 4)
"""timm's stages whose last blocks are taken, at strides 4, 8 and 16."""

EARLY_BLOCKS, EARLY_DROP = 4, 0.2
"""Blocks at the start whose drop-connect goes no higher, and how high it goes."""


class EfficientnetEncoder(nn.Module):
    """A timm EfficientNet without its classifier; first and last activation are Mish.

    Attributes:
        channels: feature channels of each stage, finest first.
        strides: ground stride of each stage in input pixels, finest first.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        weights: EncoderWeights = None,
        drop_connect: float = 0.2,
        frozen_stem: Literal["none", "statistics", "weights"] = "none",
    ) -> None:
        """Create the backbone.

        Args:
            name: timm's name, such as `tf_efficientnet_b1`.
            in_channels: bands of the image.
            weights: `imagenet`, a weight file or folder, or None for random weights.
            drop_connect: see `drop_rates`.
            frozen_stem: what of the first convolution and its normalisation is not trained: nothing, the statistics,
                or everything.

        Raises:
            ModelError: the weights are not there or do not fit.
        """
        super().__init__()
        self.body = cast("Any", create_timm(name, in_channels=in_channels, weights=weights, num_classes=0))
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.01
        self.body.bn1.act, self.body.bn2.act = nn.Mish(), nn.Mish()
        blocks: list[Any] = [block for stage in self.body.blocks for block in stage]
        for block, rate in zip(blocks, drop_rates(len(blocks), drop_connect), strict=True):
            if block.has_skip:
                block.drop_path = DropPath(rate) if rate else nn.Identity()
        # every stage ends in the convolution that projects to its width, and that one's normalisation
        ends = [self.body.blocks[stage][-1].bn3.num_features for stage in STAGES]
        self.channels: list[int] = [*ends, self.body.conv_head.out_channels]
        self.strides = [4, 8, 16, 32]
        self._stem_has_fixed_statistics = frozen_stem != "none"
        if self._stem_has_fixed_statistics:
            self.body.bn1.eval()
        if frozen_stem == "weights":
            self.body.conv_stem.requires_grad_(False)
            self.body.bn1.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, C, H, W), finest first."""
        x = self.body.bn1(self.body.conv_stem(image))
        features = []
        for number, stage in enumerate(self.body.blocks):
            x = stage(x)
            if number in STAGES:
                features.append(x)
        features.append(self.body.bn2(self.body.conv_head(x)))
        return features

    def train(self, mode: bool = True) -> "EfficientnetEncoder":
        """Training mode, but for the statistics of a frozen stem."""
        super().train(mode)
        if self._stem_has_fixed_statistics:
            self.body.bn1.eval()
        return self


def drop_rates(blocks: int, drop_connect: float) -> list[float]:
    """Chance of dropping each residual block: rising from 0, as if to `drop_connect` at a block behind the last.

    The first four rise to 0.2 at most.
    """
    return [
        (min(EARLY_DROP, drop_connect) if i < EARLY_BLOCKS else drop_connect) * i / blocks
        for i in range(blocks)
    ]
