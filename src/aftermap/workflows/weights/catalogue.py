"""The models one can name: one entry per architecture, with its parameters and its arithmetic."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from aftermap.artefacts.store import BOX, load_card
from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import (
    AnyModelConfig,
    CustomConfig,
    ResidualUnetConfig,
    SegformerConfig,
    SiameseUnetConfig,
    SmpConfig,
    TorchangeConfig,
    UnetConfig,
)
from aftermap.models.configs.smp import Architecture, Fusion
from aftermap.models.networks.dense import count_parameters
from aftermap.models.weights.published import PUBLISHED

SIZE_PX = 1024
"""Height and width of the images that the multiply-accumulates are counted for."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An architecture in the uses that it has.

    Attributes:
        localization: for one date, if there is such a use.
        damage: for two dates, if there is such a use.
        text: what it is, in a line.
    """

    name: str
    localization: AnyModelConfig | None
    damage: AnyModelConfig | None
    text: str

    @property
    def kind(self) -> str:
        """The kind in a recipe: the damage model's where both differ."""
        config = self.damage or self.localization
        assert config is not None
        return config.kind


@dataclass(frozen=True, slots=True)
class Measured:
    """A network's size.

    Attributes:
        features: parameters without the head.
        total: all parameters.
        gmacs: multiply-accumulates in 1e9 of one image or pair of `SIZE_PX`.
    """

    features: int
    total: int
    gmacs: float


def catalogue() -> list[dict[str, Any]]:
    """One entry per architecture: the model in the box first, then ours, the published ones, and general ones.

    `parameters` has `features` (the localization network without its head; the damage network's where there is no
    other), `localization` and `damage` (whole networks); `gmacs` the multiply-accumulates of convolutions and matrix
    products, in 1e9 per 1024 px image and per pair; both None where a use does not exist. Any timm encoder can stand
    in for those listed: `model.encoder_name` in a recipe.
    """
    return [_entry(listed) for listed in listed_models()]


def listed_models() -> Iterator[Listed]:
    """The architectures that are listed, none of them built yet."""
    yield from _box()
    yield from _ours()
    yield from _published()
    yield from _general()


def measure(config: AnyModelConfig, *, size_px: int = SIZE_PX) -> Measured:
    """Count parameters and multiply-accumulates without weights, memory or arithmetic, on torch's meta device."""
    config = (
        config if isinstance(config, CustomConfig) else config.model_copy(update={"encoder_weights": None})
    )
    with torch.device("meta"), _NoRandomness():
        model: Any = build_model(config).eval()
    total = count_parameters(model)
    head = count_parameters(model.head) if hasattr(model, "head") else 0
    _drop_normalisation(model)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        bands = getattr(config, "in_channels", 3)
        model(torch.empty(1, model.dates, bands, size_px, size_px, device="meta"))
    # torch counts a multiplication and an addition as two
    return Measured(total - head, total, counter.get_total_flops() / 2e9)


class _NoRandomness(TorchFunctionMode):
    """Weights that are not there need no start: filling them on the meta device takes most of the building."""

    skipped = frozenset(
        {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_, Tensor.erfinv_, Tensor.clamp_}
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in self.skipped else func(*args, **(kwargs or {}))


def _drop_normalisation(model: nn.Module) -> None:
    """Take batch normalisation out: nothing of it is counted, and on the meta device it takes half of the time."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())


def _entry(listed: Listed) -> dict[str, Any]:
    configs = {"localization": listed.localization, "damage": listed.damage}
    sizes = {use: measure(config) if config else None for use, config in configs.items()}
    trunk = sizes["localization"] or sizes["damage"]
    assert trunk is not None
    return {
        "name": listed.name,
        "kind": listed.kind,
        "dates": [dates for dates, config in ((1, listed.localization), (2, listed.damage)) if config],
        "classes": {use: config.classes if config else None for use, config in configs.items()},
        "parameters": {
            "features": trunk.features,
            **{use: size.total if size else None for use, size in sizes.items()},
        },
        "gmacs": {use: round(size.gmacs, 2) if size else None for use, size in sizes.items()},
        "description": listed.text,
    }


def _box() -> Iterator[Listed]:
    try:
        card = load_card(BOX)
    except ModelError:
        return
    single, double = (card.model, None) if card.dates == 1 else (None, card.model)
    yield Listed(BOX, single, double, f"{card.name}: the model in the box")


def _ours() -> Iterator[Listed]:
    small = {
        "encoder_name": "mobilenetv3_small_100",
        "decoder_channels": (128, 64, 48, 32, 16),
        "head_stride": 2,
    }
    for name, values, text in (
        ("resnet18", {}, "U-Net (localization: kind unet) and its siamese, fused in the encoder"),
        ("resnet34", {"encoder_name": "resnet34"}, "the same, larger"),
        ("mobilenetv3", small, "the same, small"),
    ):
        single, double = UnetConfig.model_validate(values), SiameseUnetConfig.model_validate(values)
        yield Listed(f"siamese-unet-{name}", single, double, text)
    late = SiameseUnetConfig(fuse="decoder")
    yield Listed("siamese-unet-resnet18-late", UnetConfig(), late, "fused after the decoder")
    segformers = SegformerConfig(), SegformerConfig(dates=2, classes=5)
    yield Listed("segformer-b0", *segformers, "SegFormer at the image's own resolution, B0 to B5")
    residual = "U-Net of residual blocks on TResNet-M or any other encoder, for classes learned in steps"
    yield Listed("residual-unet-tresnet-m", ResidualUnetConfig(), None, residual)


def _published() -> Iterator[Listed]:
    """Each published architecture once: MetaDamageNet's copies of the winner's networks are theirs."""
    texts = {"xview2": "the xView2 winner's", "kd-student": "distilled from the xView2 winner's"}
    seen: list[AnyModelConfig] = []
    for name in [n.removesuffix("-damage") for n in PUBLISHED if n.endswith("-damage")]:
        localization, damage = PUBLISHED[f"{name}-localization"], PUBLISHED[f"{name}-damage"]
        if damage.config in seen:
            continue
        seen.append(damage.config)
        text = texts.get(damage.system, "MetaDamageNet's")
        yield Listed(name, localization.config, damage.config, f"{text}: {_encoder(damage.config)}")
    for name in [n for n in PUBLISHED if PUBLISHED[n].system == "opencities"]:
        config = PUBLISHED[name].config
        yield Listed(name, config, None, f"Open Cities third place: feature pyramid on {_encoder(config)}")


def _general() -> Iterator[Listed]:
    choices: tuple[tuple[Architecture, str, Fusion], ...] = (
        ("unetplusplus", "resnet34", "concat"),
        ("fpn", "convnext_tiny", "concat"),
        ("deeplabv3plus", "resnet50", "concat"),
        ("upernet", "swin_tiny_patch4_window7_224", "concat"),
        ("segformer", "convnext_tiny", "concat"),
        ("dpt", "vit_small_patch16_224", "concat"),
    )
    for architecture, encoder, fusion in choices:
        single = SmpConfig(architecture=architecture, encoder_name=encoder)
        double = SmpConfig(architecture=architecture, encoder_name=encoder, fusion=fusion, dates=2, classes=5)
        name = f"{architecture}-{encoder.split('_patch')[0].replace('_', '-')}"
        yield Listed(name, single, double, f"{architecture} on {encoder}, any other encoder likewise")
    if find_spec("torchange") is not None:
        yield Listed("changeos-swin-t", None, TorchangeConfig(), "ChangeOS through the package torchange")


def _encoder(config: AnyModelConfig) -> str:
    return str(getattr(config, "encoder_name", config.kind))
