"""EfficientNet as the Open Cities system cuts it: three stages and the last layer before the classifier."""

from typing import Any, Literal, cast

from timm.layers import DropPath
from torch import Tensor, nn

from aftermap.models.configs.encoder import EncoderWeights
from aftermap.models.weights.pretrained import create_timm

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
