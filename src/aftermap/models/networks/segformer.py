"""SegFormer: a hierarchical transformer encoder and a decoder of linear maps, for one date and for two."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import DropPath, trunc_normal_
from torch import Tensor, nn

from aftermap.errors import ModelError
from aftermap.models.configs.networks import REDUCTIONS, SIZES, MitSize, SegformerConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.unet import upsample
from aftermap.models.weights.pretrained import hub_file, local_file, read_weights
from aftermap.models.weights.published_keys import segformer_keys, transformers_5_name

HEADS = (1, 2, 5, 8)
PATCHES, STRIDES = (7, 3, 3, 3), (4, 2, 2, 2)


class Segformer(DenseModel):
    """MiT encoder and all-MLP decoder.

    Source: Xie et al. 2021, sections 3.1 and 3.2; normalisation (epsilon 1e-5 everywhere) and the order in which the
    decoder stacks the stages, deepest first, as in the implementation that the published checkpoints come from.
    """

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        self.dates, self.classes, self.internal_px = config.dates, config.classes, config.internal_px
        size = SIZES[config.encoder_name]
        # the convolutions that shorten the keys drop what does not fill a whole patch
        self.stride = 1 if self.internal_px else 32
        self.encoder = MixTransformer(size, in_channels=config.in_channels, drop_path=config.drop_path)
        width = config.decoder_channels or size.decoder_channels
        self.decoder = MlpDecoder([w * config.dates for w in size.widths], width, dropout=config.dropout)
        self.head = nn.Conv2d(width, config.classes, 1)
        if config.encoder_weights is not None:
            load_encoder(self.encoder, config.encoder_name, config.encoder_weights)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, D, h / 4, w / 4) of images (B, dates, C, H, W); h, w = H, W or internal_px."""
        both = image.transpose(0, 1).flatten(0, 1)  # (T*B, C, H, W): all pre, then all post
        if self.internal_px:
            both = upsample(both, (self.internal_px, self.internal_px))
        stages: list[Tensor] = self.encoder(both)
        if self.dates == 2:
            stages = [torch.cat(stage.chunk(2), dim=1) for stage in stages]  # (2B, c, ..) -> (B, 2c, ..)
        features: Tensor = self.decoder(stages)
        return features

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W), bilinear."""
        return upsample(self.head(features), size)


class MixTransformer(nn.Module):
    """Four stages of overlapping patches and transformer blocks, at strides 4, 8, 16 and 32."""

    def __init__(self, size: MitSize, *, in_channels: int, drop_path: float) -> None:
        super().__init__()
        rates = [drop_path * i / (sum(size.depths) - 1) for i in range(sum(size.depths))]
        inputs = (in_channels, *size.widths[:-1])
        stages, done = [], 0
        for level, (width, depth) in enumerate(zip(size.widths, size.depths, strict=True)):
            stages.append(Stage(level, inputs[level], width, rates[done : done + depth]))
            done += depth
        self.stages = nn.ModuleList(stages)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised hidden states of images (B, C, H, W), finest first."""
        states = []
        for stage in self.stages:
            image = stage(image)
            states.append(image)
        return states


class Stage(nn.Module):
    """Patches of the level, its blocks, and a normalisation."""

    def __init__(self, level: int, in_channels: int, width: int, rates: Sequence[float]) -> None:
        super().__init__()
        kernel = PATCHES[level]
        self.patches = nn.Conv2d(in_channels, width, kernel, stride=STRIDES[level], padding=kernel // 2)
        self.patch_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, HEADS[level], REDUCTIONS[level], rate) for rate in rates)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """Hidden state (B, width, h, w)."""
        patches: Tensor = self.patches(image)
        size = (patches.shape[-2], patches.shape[-1])
        tokens = self.patch_norm(patches.flatten(2).transpose(1, 2))  # (B, h*w, width)
        for block in self.blocks:
            tokens = block(tokens, size)
        return to_map(self.norm(tokens), size)


class Block(nn.Module):
    """Attention over shortened keys, then a feed-forward network with a 3x3 convolution inside."""

    def __init__(self, width: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = ReducedAttention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.depthwise = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, h*w, width) of the same shape."""
        tokens = tokens + self.drop_path(self.attention(self.norm1(tokens), size))
        hidden: Tensor = self.depthwise(to_map(self.expand(self.norm2(tokens)), size))
        mixed: Tensor = self.drop_path(self.contract(F.gelu(hidden.flatten(2).transpose(1, 2))))
        return tokens + mixed


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values come from a map that is `reduction` times coarser."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.reduce = nn.Conv2d(width, width, reduction, stride=reduction) if reduction > 1 else None
        self.reduce_norm = nn.LayerNorm(width) if reduction > 1 else None

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, h*w, width) of the same shape."""
        source = tokens
        if self.reduce is not None and self.reduce_norm is not None:
            source = self.reduce_norm(self.reduce(to_map(tokens, size)).flatten(2).transpose(1, 2))
        # (B, n, width) -> (B, heads, n, width / heads)
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in ((self.query, tokens), (self.key, source), (self.value, source))
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return result


class MlpDecoder(nn.Module):
    """Each stage through a linear map, all at stride 4, side by side, and mixed."""

    def __init__(self, widths: Sequence[int], channels: int, *, dropout: float) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(width, channels) for width in widths)
        self.fuse = nn.Conv2d(len(widths) * channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Features (B, channels, H / 4, W / 4)."""
        size = (stages[0].shape[-2], stages[0].shape[-1])
        projected = [
            upsample(projection(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), size)
            for projection, stage in zip(self.projections, stages, strict=True)
        ]
        features: Tensor = self.dropout(F.relu(self.norm(self.fuse(torch.cat(projected[::-1], dim=1)))))
        return features


def to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h*w, C) as (B, C, h, w)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *size)


def load_encoder(encoder: MixTransformer, name: str, weights: Literal["imagenet", "ade20k"] | Path) -> None:
    """Fill the encoder from NVIDIA's published weights, or from a file in their layout or in ours.

    Raises:
        ModelError: the weights are not there, cannot be fetched, or do not fit.
    """
    if isinstance(weights, Path):
        path = local_file(weights)
    else:
        size = name.removeprefix("mit_")
        edge = 640 if size == "b5" else 512
        repository = {
            "imagenet": f"nvidia/mit-{size}",
            "ade20k": f"nvidia/segformer-{size}-finetuned-ade-{edge}-{edge}",
        }[weights]
        path = hub_file(repository, what=f"the weights of encoder {name}")
    state = read_weights(path)
    own = encoder.state_dict()
    theirs = {ours.removeprefix("encoder."): key for key, ours in segformer_keys(SIZES[name]).items()}
    found = {}
    for key in own:
        names = (theirs[key], transformers_5_name(theirs[key]))
        found[key] = _first(
            state, (f"encoder.{key}", key, *names, *(n.removeprefix("segformer.") for n in names))
        )
    missing = [key for key, value in found.items() if value is None]
    if missing:
        raise ModelError(
            f"{path} does not fit encoder {name}: it lacks {len(missing)} weights, such as {theirs[missing[0]]}"
        )
    fitting = {key: value for key, value in found.items() if value is not None}
    wrong = [key for key, value in fitting.items() if value.shape != own[key].shape]
    if wrong:
        shapes = tuple(fitting[wrong[0]].shape), tuple(own[wrong[0]].shape)
        raise ModelError(
            f"{path} does not fit encoder {name}: {theirs[wrong[0]]} is {shapes[0]}, expected {shapes[1]}"
        )
    encoder.load_state_dict(fitting)


def _first(state: Mapping[str, Tensor], names: Sequence[str]) -> Tensor | None:
    return next((state[name] for name in names if name in state), None)


def _initialise(module: nn.Module) -> None:
    """Truncated normal for linear maps, normal by fan-out for convolutions (Xie et al.'s own start)."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
