"""The encoders of the published U-Nets, cut where the originals cut them, out of timm's equal networks."""

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

from aftermap.errors import ModelError
from aftermap.models.configs.encoder import EncoderWeights
from aftermap.models.networks.encoders import Encoder
from aftermap.models.weights.pretrained import create_timm, load_weights

TIMM_NAMES = {"seresnext50": "legacy_seresnext50_32x4d", "senet154": "legacy_senet154"}
"""timm's names of the two SE networks; its others are called as in the published systems."""

WIDE_SE_B0 = (
    "ds_r1_k3_s1_e1_c16_se0.25",
    "ir_r2_k3_s2_e6_c24_se1.5",
    "ir_r2_k5_s2_e6_c40_se1.5",
    "ir_r3_k3_s2_e6_c80_se1.5",
    "ir_r3_k5_s1_e6_c112_se1.5",
    "ir_r4_k5_s2_e6_c192_se1.5",
    "ir_r1_k3_s1_e6_c320_se1.5",
)
"""EfficientNet-B0 that squeezes to a quarter of the expanded channels: 1.5 of the 6-fold smaller block input."""


class Dpn92Encoder(nn.Module):
    """DPN-92 in five stages; the last ends in the final normalisation and ReLU, which timm's own stages leave out.

    Attributes:
        channels: feature channels of each stage, finest first.
        strides: ground stride of each stage in input pixels, finest first.
    """

    def __init__(self, *, in_channels: int = 3, weights: EncoderWeights = None) -> None:
        super().__init__()
        self.body: Any = create_timm("dpn92", in_channels=in_channels, weights=weights, num_classes=0)
        stages = cast("list[dict[str, Any]]", self.body.feature_info)
        self.channels: list[int] = [stage["num_chs"] for stage in stages]
        self.strides: list[int] = [stage["reduction"] for stage in stages]
        self._ends = {stage["module"].removeprefix("features.") for stage in stages[:-1]}

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, C, H, W), finest first; residual channels stand before dense ones."""
        return list(self._stages(image))

    def _stages(self, image: Tensor) -> Iterator[Tensor]:
        x: Any = image
        for name, block in self.body.features.named_children():
            x = block(x)
            if name in self._ends:
                yield torch.cat(x, dim=1) if isinstance(x, tuple) else x
        yield x


class WideSeEncoder(nn.Module):
    """EfficientNet-B0 with the wide squeeze-and-excitation of NVIDIA's variant, in five stages.

    Attributes:
        channels: feature channels of each stage, finest first.
        strides: ground stride of each stage in input pixels, finest first.
    """

    def __init__(self, *, in_channels: int = 3, weights: EncoderWeights = None) -> None:
        """Create the backbone.

        Args:
            in_channels: bands of the image.
            weights: a file with timm's names of an EfficientNet's weights, or None for random ones.

        Raises:
            ModelError: `imagenet` is asked for, or the file does not fit.
        """
        super().__init__()
        if weights == "imagenet":
            raise ModelError(
                "timm has no ImageNet weights of efficientnet_b0_widese: give encoder_weights a file, or null"
            )
        self.body: Any = EfficientNetFeatures(
            decode_arch_def([[stage] for stage in WIDE_SE_B0]),
            in_chans=in_channels,
            stem_size=32,
            act_layer=nn.SiLU,
            norm_layer=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01),
        )
        self.channels: list[int] = self.body.feature_info.channels()
        self.strides: list[int] = self.body.feature_info.reduction()
        if weights is not None:
            load_weights(self.body, weights, what="encoder efficientnet_b0_widese")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, C, H, W), finest first."""
        features: list[Tensor] = self.body(image)
        return features


AnyEncoder = Encoder | Dpn92Encoder | WideSeEncoder


def published_encoder(name: str, *, in_channels: int = 3, weights: EncoderWeights = None) -> AnyEncoder:
    """An encoder of the published systems by its name there, or any other of timm's.

    Without weights, it starts as the original would: torchvision's ResNet-34 and Cadene's SE networks draw their
    first weights otherwise than timm's.

    Raises:
        RecipeError: no such encoder.
        ModelError: its weights cannot be had, or do not fit.
    """
    if name == "dpn92":
        return Dpn92Encoder(in_channels=in_channels, weights=weights)
    if name == "efficientnet_b0_widese":
        return WideSeEncoder(in_channels=in_channels, weights=weights)
    encoder = Encoder(TIMM_NAMES.get(name, name), in_channels=in_channels, weights=weights)
    if name in ("efficientnet_b0", "efficientnet_b4"):
        for norm in _norms(encoder):
            norm.eps, norm.momentum = 1e-3, 0.01
    if weights is None and name in ("resnet34", *TIMM_NAMES):
        for norm in _norms(encoder):
            nn.init.ones_(norm.weight)  # timm starts the last one of each residual branch of a ResNet at 0
    if weights is None and name in TIMM_NAMES:
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    return encoder


def _norms(module: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
