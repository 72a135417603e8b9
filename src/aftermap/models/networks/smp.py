"""General architectures through segmentation_models_pytorch: any of its decoders on any encoder, one date or two."""

import difflib
import warnings
from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from aftermap.errors import ModelError, RasterError, RecipeError
from aftermap.models.configs.libraries import Architecture, SmpConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.siamese import pre_first_mix
from aftermap.models.networks.unet import upsample
from aftermap.models.weights.packages import packaged_file
from aftermap.models.weights.pretrained import create_timm, hub_file, load_weights

_REFUSALS = (
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    AssertionError,
    AttributeError,
)
"""What smp and timm raise where an architecture and an encoder, or an argument, do not go together."""

NEED_BATCH: tuple[Architecture, ...] = ("pan", "deeplabv3", "deeplabv3plus", "upernet")
"""Decoders that average the whole image and normalise that one value over the batch."""

LEAST_STAGE: dict[Architecture, int] = {"fpn": 2, "pan": 2, "upernet": 2}
"""The finest encoder stage that the decoder looks at, by index in smp's list, where it is not the first."""


class SmpModel(DenseModel):
    """Encoder, decoder and head of an smp model, for one date or for two.

    Attributes:
        fixed_px: the only (height, width) that the encoder takes, or None.
        least_px: the smallest height and width.
    """

    def __init__(self, config: SmpConfig) -> None:
        super().__init__()
        self.dates, self.classes, self.fusion = config.dates, config.classes, config.fusion
        self.title = f"{config.architecture} on {config.encoder_name}"
        name = encoder_name(config.encoder_name, architecture=config.architecture)
        options = _size_options(name)
        whole = _create(config, name, options)
        self.encoder, self.decoder, self.head = whole.encoder, whole.decoder, whole.segmentation_head
        if config.encoder_weights is not None:
            _load(self.encoder, name, config, options)
        self.fixed_px = None if options else _fixed_size(name, config.arguments.get("img_size"))
        self.tokens = config.architecture == "dpt"
        # DPT takes the tokens apart into maps of strides 4 to 32
        self.stride = max(int(self.encoder.output_stride), 32 if self.tokens else 1)
        self.least_px = 8 * self.stride if config.architecture == "pan" else self.stride
        self.needs_batch = config.architecture in NEED_BATCH
        self.mix = nn.ModuleDict()
        if self.tokens:
            _check_patches(self.encoder, self.title)
            _drop_unused(self.encoder)
        if self.dates == 2 and self.fusion == "concat":
            channels = list(self.encoder.out_channels)
            used = range(len(channels)) if self.tokens else _used_stages(config.architecture, channels)
            self.mix.update({str(i): pre_first_mix(channels[i]) for i in used})
        if self.dates == 2 and self.fusion == "decoder":
            _widen_first_convolution(self.head)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of images (B, dates, C, H, W).

        Raises:
            RasterError: a size that the architecture cannot take.
            RecipeError: learning with a batch that is too small for the architecture.
        """
        self._check_size(image.shape[-2], image.shape[-1])
        decoded = len(image) * (2 if self.dates == 2 and self.fusion == "decoder" else 1)
        if self.training and self.needs_batch and decoded < 2:
            raise RecipeError(
                f"{self.title} cannot learn from one sample at a time: set batch_size to 2 or more"
            )
        both = image.transpose(0, 1).flatten(0, 1)  # (T*B, C, H, W): all pre, then all post
        stages, *tokens = self.encoder(both) if self.tokens else (self.encoder(both),)
        if self.dates == 2 and self.fusion != "decoder":
            stages = [self._fuse(i, stage) for i, stage in enumerate(stages)]
            tokens = [[t if t is None else self._fuse(i, t) for i, t in enumerate(each)] for each in tokens]
        features: Tensor = self.decoder(stages, *tokens)
        if self.dates == 2 and self.fusion == "decoder":
            features = torch.cat(features.chunk(2), dim=1)
        return features

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W)."""
        return upsample(self.head(features), size)

    def _fuse(self, index: int, stage: Tensor) -> Tensor:
        """One map (B, c, h, w), or one row of tokens (B, n, c), of those of both dates (2B, ...)."""
        pre, post = stage.chunk(2)
        if self.fusion == "difference":
            return post - pre
        if (
            str(index) not in self.mix
        ):  # the image itself, empty stages, and what the decoder does not look at
            return pre
        mix: Any = self.mix[str(index)]
        if stage.ndim == 3:
            return F.linear(torch.cat([pre, post], dim=2), mix.weight[:, :, 0, 0], mix.bias)
        mixed: Tensor = mix(torch.cat([pre, post], dim=1))
        return mixed

    def _check_size(self, height: int, width: int) -> None:
        if self.fixed_px and (height, width) != self.fixed_px:
            raise RasterError(
                f"{self.title} takes images of {self.fixed_px[0]} x {self.fixed_px[1]} pixels only, found "
                f"{height} x {width}: cut windows of that size, or take another encoder"
            )
        if min(height, width) < self.least_px:
            raise RasterError(
                f"{self.title} takes images of at least {self.least_px} pixels, found {height} x {width}: "
                "take larger windows"
            )
        if height % self.stride or width % self.stride:
            raise RasterError(
                f"{self.title} takes sizes that are multiples of {self.stride} pixels, found {height} x {width}: "
                "pad the image or cut other windows"
            )


def encoder_name(name: str, *, architecture: Architecture) -> str:
    """Name of an encoder as smp wants it: `tu-` before what timm has, its own otherwise.

    Raises:
        RecipeError: neither has it, with similar names.
    """
    bare = name.removeprefix("tu-")
    if timm.is_model(bare):
        return f"tu-{bare}"
    if name in smp_encoders and architecture != "dpt":
        return name
    known = timm.list_models() + ([] if architecture == "dpt" else list(smp_encoders))
    near = difflib.get_close_matches(bare, known, n=3)
    hint = f": similar names are {', '.join(near)}" if near else ""
    owner = "timm has no" if architecture == "dpt" else "neither timm nor smp has an"
    raise RecipeError(f"{owner} encoder named {name!r}{hint}")


def _create(config: SmpConfig, name: str, options: dict[str, Any]) -> Any:
    given = dict(config.arguments)
    if config.encoder_depth is not None:
        given["encoder_depth"] = config.encoder_depth
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # smp on encoders without class tokens
            return smp.create_model(
                config.architecture,
                encoder_name=name,
                encoder_weights=None,
                in_channels=config.in_channels,
                classes=config.classes,
                **options,
                **given,
            )
    except _REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        if "'output_stride'" in reason:
            reason = "the encoder cannot be dilated: take fpn, upernet or segformer, or another encoder"
        raise RecipeError(
            f"model: {config.architecture} cannot be built on {config.encoder_name}: {reason}"
        ) from None


def _size_options(name: str) -> dict[str, Any]:
    """What makes a transformer take images of other sizes than the one it was trained with."""
    if not _fixed_size(name):
        return {}
    for options in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        try:
            with torch.device("meta"):
                timm.create_model(name[3:], **options)
        except TypeError:
            continue
        return dict(options)
    return {}


def _fixed_size(name: str, given: int | Sequence[int] | None = None) -> tuple[int, int] | None:
    if not name.startswith("tu-"):
        return None
    settings = timm.models.get_pretrained_cfg(name[3:])
    if settings is None or not settings.fixed_input_size:
        return None
    if isinstance(given, int):
        return given, given
    height, width = given or settings.input_size[1:]
    return height, width


def _check_patches(encoder: Any, title: str) -> None:
    odd = [s for s in encoder.output_strides if s & (s - 1)]
    if odd:
        raise RecipeError(
            f"model: {title}: patches of {odd[0]} pixels cannot be halved to 4, take 8, 16 or 32"
        )


def _used_stages(architecture: Architecture, channels: Sequence[int]) -> list[int]:
    last = len(channels) - 1
    if architecture in ("pspnet", "deeplabv3"):
        return [last]
    if architecture == "deeplabv3plus":
        return [2, last]
    return [i for i in range(LEAST_STAGE.get(architecture, 1), last + 1) if channels[i]]


def _widen_first_convolution(head: nn.Module) -> None:
    """Let the head see two dates: its first convolution gets twice the channels, started as smp starts heads."""
    for parent in head.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                wide = nn.Conv2d(
                    2 * child.in_channels,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]
                    padding=child.padding,  # type: ignore[arg-type]
                    bias=child.bias is not None,
                )
                nn.init.xavier_uniform_(wide.weight)
                if wide.bias is not None:
                    nn.init.zeros_(wide.bias)
                setattr(parent, name, wide)
                return


def _drop_unused(encoder: Any) -> None:
    """Take the classifier and the last normalisation off a vision transformer: no decoder looks at them."""
    prune = getattr(encoder.model, "prune_intermediate_layers", None)
    if prune is not None:
        encoder._output_indices = prune(encoder._output_indices, prune_norm=True, prune_head=True)


def _load(encoder: Any, name: str, config: SmpConfig, options: dict[str, Any]) -> None:
    """Fill the encoder from timm's weights, or from smp's for encoders that only smp has."""
    weights = config.encoder_weights
    assert weights is not None
    if name.startswith("tu-"):
        if config.architecture != "dpt":
            options = {
                **options,
                "features_only": True,
                "out_indices": encoder.model.feature_info.out_indices,
            }
        trunk = create_timm(name[3:], in_channels=config.in_channels, weights=weights, **options)
        encoder.model.load_state_dict(trunk.state_dict())
        return
    if weights == "imagenet":
        settings = smp_encoders[name]["pretrained_settings"].get("imagenet")
        if settings is None:
            raise ModelError(f"smp publishes no ImageNet weights of encoder {name}: give a file or null")
        # smp's ports carry timm's own names behind the prefix
        weights = packaged_file(name.removeprefix("timm-")) or hub_file(
            settings["repo_id"], revision=settings["revision"], what=f"the weights of encoder {name}"
        )
    three = get_encoder(name, in_channels=3, depth=len(encoder.out_channels) - 1, weights=None)
    load_weights(three, weights, what=f"encoder {name}")
    three.set_in_channels(config.in_channels, pretrained=True)
    encoder.load_state_dict(three.state_dict())
