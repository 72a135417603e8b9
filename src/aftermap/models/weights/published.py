"""The networks of the published systems by name, and the way between their weight names and ours."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import AnyModelConfig, FpnEfficientnetConfig, SegformerConfig, Xview2UnetConfig
from aftermap.models.configs.networks import SIZES, ScseMode
from aftermap.models.weights.published_keys import (
    metadamagenet_unet_keys,
    opencities_keys,
    segformer_keys,
    stored_flat,
    xview2_keys,
)

if TYPE_CHECKING:
    from torch import Tensor

Keys = Callable[[Any, Iterable[str]], dict[str, str]]
"""From a configuration and our weight names to the original's names, in the original's order, with ours for each."""

Widths = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Published:
    """A network of a published system, and what a card has to say about its weights.

    Attributes:
        system: whose it is.
        config: our configuration of the same network.
        activation: what turns its logits into channels.
        channel_0: what channel 0 of several means; a localization network with one logit has it for building.
        bands: bands in the order that it was trained on.
        mean: subtracted from 8-bit values, per band.
        std: what they are divided by afterwards, per band.
        keys: names of its weights.
        resolution_m: ground resolution (finest, coarsest) that it was trained on.
        building_threshold: of p(building), with which its own inference makes a mask.
    """

    system: Literal["xview2", "kd-student", "metadamagenet", "opencities"]
    config: AnyModelConfig
    activation: Literal["softmax", "sigmoid"]
    channel_0: Literal["background", "building"]
    bands: tuple[str, str, str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    keys: Keys
    resolution_m: tuple[float, float] = (0.3, 1.2)
    building_threshold: float = 0.5

    @property
    def role(self) -> Literal["localization", "damage"]:
        """What it tells: where buildings are, by one logit or two, or what became of them."""
        return "localization" if self.config.classes <= 2 else "damage"


def published(name: str) -> Published:
    """The entry of a name such as `xview2-resnet34-damage`.

    Raises:
        ModelError: no network of that name.
    """
    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, n=3) or list(PUBLISHED)[:3]
        raise ModelError(f"no published network is named {name!r}: similar names are {', '.join(near)}")
    return PUBLISHED[name]


@cache
def original_keys(name: str) -> Mapping[str, str]:
    """Every weight name of a published network in its original order (without `module.`), with ours for each.

    Raises:
        ModelError: no network of that name.
    """
    return MappingProxyType({key: ours for key, (ours, _) in _layout(name).items()})


def original_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a published network as its checkpoints hold it, in the original order.

    Raises:
        ModelError: no network of that name.
    """
    return {key: shape[:2] if stored_flat(key) else shape for key, (_, shape) in _layout(name).items()}


def to_ours(name: str, state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """A checkpoint's weights under our names; names that the network does not have stay as they are.

    Args:
        name: a published network.
        state: weights by original name (without `module.`); squeeze-and-excitation weights may be matrices.

    Raises:
        ModelError: no network of that name.
    """
    layout = _layout(name)
    ours = {}
    for key, value in state.items():
        if key not in layout:
            ours[key] = value
            continue
        own_key, shape = layout[key]
        flat = stored_flat(key) and value.ndim == 2 and len(shape) == 4
        ours[own_key] = value[:, :, None, None] if flat else value
    return ours


def to_original(name: str, state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Our weights under the original's names, in its order and its shapes: what its checkpoint would hold.

    Args:
        name: a published network.
        state: all weights of our network.

    Raises:
        ModelError: no network of that name, or weights that are missing.
    """
    layout = _layout(name)
    missing = [ours for ours, _ in layout.values() if ours not in state]
    if missing:
        raise ModelError(f"these are no weights of {name}: {len(missing)} are missing, such as {missing[0]}")
    return {
        key: state[ours].flatten(1) if stored_flat(key) else state[ours] for key, (ours, _) in layout.items()
    }


@cache
def _layout(name: str) -> Mapping[str, tuple[str, tuple[int, ...]]]:
    """By original name, in its order: our name and our shape."""
    import torch

    entry = published(name)
    with torch.device("meta"):
        state = build_model(entry.config).state_dict()
    return {key: (ours, tuple(state[ours].shape)) for key, ours in entry.keys(entry.config, state).items()}


def _xview2(
    encoder_name: str, system: Literal["xview2", "kd-student"] = "xview2", widths: Widths | None = None
) -> dict[str, Published]:
    """The winner's pair on one encoder: blue, green, red as `x / 127 - 1`; the ResNet's channel 0 is the building."""
    sigmoid = encoder_name == "resnet34"
    stem = f"xview2-{encoder_name}" if system == "xview2" else system
    return {
        f"{stem}-{role}": Published(
            system=system,
            config=Xview2UnetConfig(
                encoder_name=encoder_name, dates=dates, classes=classes, decoder_channels=widths
            ),
            activation="sigmoid" if classes == 1 or sigmoid else "softmax",
            channel_0="building" if classes == 5 and sigmoid else "background",
            bands=("blue", "green", "red"),
            mean=(127.0, 127.0, 127.0),
            std=(127.0, 127.0, 127.0),
            keys=xview2_keys,
        )
        for role, dates, classes in ROLES
    }


def _metadamagenet(
    name: str, encoder_name: str, *, scse: ScseMode | None = None, widths: Widths | None = None
) -> dict[str, Published]:
    """MetaDamageNet's pair on one encoder: red, green, blue in [0, 1] as `2 x - 1`."""
    return {
        f"metadamagenet-{name}-{role}": metadamagenet(
            Xview2UnetConfig(
                encoder_name=encoder_name, dates=dates, classes=classes, scse=scse, decoder_channels=widths
            ),
            metadamagenet_unet_keys,
        )
        for role, dates, classes in ROLES
    }


def metadamagenet(config: AnyModelConfig, keys: Keys) -> Published:
    """A network of MetaDamageNet: red, green, blue in [0, 1] as `2 x - 1`, a softmax for damage."""
    return Published(
        system="metadamagenet",
        config=config,
        activation="sigmoid" if config.classes == 1 else "softmax",
        channel_0="background",
        bands=("red", "green", "blue"),
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        keys=keys,
    )


def _segformer(encoder_name: Literal["mit_b0"]) -> dict[str, Published]:
    """MetaDamageNet's pair of SegFormers, which squeezes every image to 512 px."""
    return {
        f"metadamagenet-segformer-b0-{role}": metadamagenet(
            SegformerConfig(encoder_name=encoder_name, dates=dates, classes=classes, internal_px=512),
            lambda config, _: segformer_keys(SIZES[config.encoder_name]),
        )
        for role, dates, classes in ROLES
    }


def _opencities(name: str, config: FpnEfficientnetConfig) -> dict[str, Published]:
    """A network of the Open Cities system: red, green, blue with ImageNet's mean and deviation.

    Its images are of 3 to 20 cm, halved and doubled, and SpaceNet's of up to 50.
    """
    return {
        f"opencities-{name}": Published(
            system="opencities",
            config=config,
            activation="softmax",
            channel_0="background",
            bands=("red", "green", "blue"),
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
            keys=opencities_keys,
            resolution_m=(0.03, 0.5),
            building_threshold=0.57,
        )
    }


ROLES: tuple[tuple[str, Literal[1, 2], int], ...] = (("localization", 1, 1), ("damage", 2, 5))
BIG: Widths = (512, 256, 128, 96, 64)
HALVED: Widths = (128, 64, 32, 24, 16)

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        **_xview2("resnet34"),
        **_xview2("seresnext50"),
        **_xview2("dpn92"),
        **_xview2("senet154"),
        **_xview2("seresnext50", "kd-student", HALVED),
        **_metadamagenet("resnet34", "resnet34"),
        **_metadamagenet("seresnext50", "seresnext50"),
        **_metadamagenet("dpn92", "dpn92"),
        **_metadamagenet("senet154", "senet154"),
        **_metadamagenet("efficientunet-b0", "efficientnet_b0"),
        **_metadamagenet("efficientunet-b0-scse", "efficientnet_b0", scse="add"),
        **_metadamagenet("efficientunet-wide-se-b0", "efficientnet_b0_widese"),
        **_metadamagenet("efficientunet-b0-big", "efficientnet_b0", widths=BIG),
        **_metadamagenet("efficientunet-b4", "efficientnet_b4"),
        **_metadamagenet("efficientunet-b4-scse", "efficientnet_b4", scse="add"),
        **_metadamagenet("efficientunet-b4-big", "efficientnet_b4", widths=BIG),
        **_segformer("mit_b0"),
        **_opencities(
            "b1",
            FpnEfficientnetConfig(
                encoder_name="tf_efficientnet_b1",
                compat_frozen_stem="statistics",
                compat_resize_probabilities=True,
            ),
        ),
        **_opencities(
            "b2",
            FpnEfficientnetConfig(
                encoder_name="tf_efficientnet_b2",
                context=True,
                mish=True,
                compat_frozen_stem="weights",
                compat_resize_probabilities=True,
            ),
        ),
    }
)
"""By name: the winner's networks, the distilled students, MetaDamageNet's, and those of the Open Cities system."""
