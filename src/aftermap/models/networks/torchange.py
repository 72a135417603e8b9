"""ChangeOS through the package torchange (Apache-2.0): a localization and a damage branch as one set of classes."""

import copy
import logging
import warnings
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aftermap.errors import ModelError, RasterError
from aftermap.models.configs.libraries import ChangeosEncoder, TorchangeConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.unet import upsample
from aftermap.models.weights.pretrained import create_timm, load_weights

CONFIGS: dict[ChangeosEncoder, str] = {
    "resnet18": "cos_r18",
    "resnet34": "cos_r34",
    "resnet50": "cos_r50",
    "resnet101": "cos_r101",
    "swin_t": "cos_swint",
}
"""torchange's own configuration of each encoder."""

RESIDUAL = {
    "include_conv5": True,
    "batchnorm_trainable": True,
    "freeze_at": 0,
    "with_cp": (False, False, False, False),
    "norm_layer": nn.BatchNorm2d,
    "in_channels": 3,
}
"""What the residual encoder's own defaults are; the release 0.6.1 of the package behind it (ever) loses them."""

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of 8-bit red, green and blue, as ChangeOS was trained."""


class ChangeOs(DenseModel):
    """ChangeOS with its two answers joined.

    The localization branch sees the pre image and gives one logit for "building"; the damage branch sees both and
    gives background, no damage, minor, major, destroyed. Joined: p(background) = 1 - p(building), and p(building)
    is shared out as the damage branch does among its four damage classes. Its own background is left out: where the
    two branches disagree on whether there is a building, localization decides, as in the original's object-based
    way of reading the damage (its pixel-based way leaves such buildings without a class).

    The network keeps its names, so that the weights it publishes load as they are.
    """

    dates, classes, stride = 2, 5, 32

    def __init__(self, config: TorchangeConfig) -> None:
        super().__init__()
        network = build_changeos(config.encoder_name)
        self.encoder, self.decoder, self.head = network.encoder, network.decoder, network.head
        self.channels = int(network.decoder.config.out_channels)
        if config.encoder_weights is not None:
            _load_encoder(self.encoder, config.encoder_name, config.encoder_weights)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, 2 D, H / 4, W / 4) of pre and post images (B, 2, 3, H, W): localization, then damage.

        Raises:
            RasterError: height or width is no multiple of 32.
        """
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise RasterError(
                f"ChangeOS takes sizes that are multiples of {self.stride} pixels, found {height} x {width}: "
                "pad the image or cut other windows"
            )
        stages = self.encoder(image.transpose(0, 1).flatten(0, 1))  # (2B, ...): all pre, then all post
        pre, post = zip(*(stage.chunk(2) for stage in stages), strict=True)
        return torch.cat(self.decoder(list(pre), list(post)), dim=1)

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, 5, H, W) whose softmax is the joined probability."""
        localization, damage = self.branches(features, size)
        kinds = F.logsigmoid(localization) + F.log_softmax(damage[:, 1:], dim=1)
        return torch.cat([F.logsigmoid(-localization), kinds], dim=1)

    def branches(self, features: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Logits of the two branches, (B, 1, H, W) and (B, 5, H, W), as ChangeOS itself gives them."""
        localization, damage = torch.split(features, self.channels, dim=1)
        return upsample(self.head.loc_cls(localization), size), upsample(self.head.dam_cls(damage), size)


def build_changeos(encoder_name: ChangeosEncoder) -> Any:
    """ChangeOS by the package's own configuration, with random weights.

    Raises:
        ModelError: torchange is not installed.
    """
    package = _torchange()
    module = import_module(f"torchange.configs.changeos.{CONFIGS[encoder_name]}")
    settings = copy.deepcopy(module.config["model"]["params"])
    params = settings["encoder"]["params"]
    if encoder_name == "swin_t":
        params["weights"] = None
    else:
        settings["encoder"]["params"] = {**RESIDUAL, **params, "pretrained": False}
    network = package.changeos.ChangeOS(settings)
    if encoder_name == "swin_t":
        network.encoder.swin.__class__ = package.staged_swin
    return network


def identify(state: Mapping[str, Tensor]) -> ChangeosEncoder:
    """Which ChangeOS these weights belong to, by their names and shapes.

    Raises:
        ModelError: to none, with what the nearest one lacks or has otherwise.
    """
    differences: dict[ChangeosEncoder, list[str]] = {}
    for name in CONFIGS:
        with torch.device("meta"):
            own = build_changeos(name).state_dict()
        lacking = [f"lacks {key}" for key in own if key not in state]
        strange = [f"has {key} besides" for key in state if key not in own]
        wrong = [
            f"has {key} as {tuple(state[key].shape)}, expected {tuple(value.shape)}"
            for key, value in own.items()
            if key in state and state[key].shape != value.shape
        ]
        differences[name] = lacking + wrong + strange
        if not differences[name]:
            return name
    nearest = min(differences, key=lambda name: len(differences[name]))
    found = differences[nearest]
    raise ModelError(
        f"no weights of a ChangeOS for xView2's five classes: against the nearest ({nearest}) {len(found)} names or "
        f"shapes differ, it {found[0]}"
    )


class _Package(NamedTuple):
    changeos: Any
    staged_swin: type[Any]


@cache
def _torchange() -> _Package:
    """The module of ChangeOS, and torchvision's Swin with the forward pass that it wants.

    Importing torchange changes that class and what is logged for the whole process: both are put back, and the
    network gets a class of its own.
    """
    SwinTransformer = import_module("torchvision.models.swin_transformer").SwinTransformer  # noqa: N806

    forward, root = SwinTransformer.forward, logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript and autocast, about code that is not used here
            changeos = import_module("torchange.models.changeos")
    except ImportError as error:
        raise ModelError(
            f"kind torchange needs the package torchange ({error}): pip install 'aftermap[changeos]'"
        ) from None
    root.setLevel(level)
    root.handlers[:] = handlers
    import_module("ever.module.resnet")._logger.setLevel(logging.WARNING)
    theirs = import_module("torchange.module.tv_swin")
    SwinTransformer.forward = forward
    staged = type(
        "StagedSwin", (SwinTransformer,), {n: getattr(theirs, n) for n in ("forward", "get_stages")}
    )
    return _Package(changeos, staged)


def _load_encoder(encoder: Any, name: ChangeosEncoder, weights: Literal["imagenet"] | Path) -> None:
    trunk = encoder.swin if name == "swin_t" else encoder.resnet
    if isinstance(weights, Path):
        load_weights(trunk, weights, what=f"encoder {name}")
        return
    if name == "swin_t":
        raise ModelError(
            "imagenet weights of ChangeOS's swin_t are published by torchvision only: download swin_t-704ceda3.pth "
            "and give encoder_weights its path"
        )
    state = create_timm(f"{name}.tv_in1k", weights="imagenet").state_dict()
    trunk.load_state_dict({key: state[key] for key in trunk.state_dict()})
