"""The models one can name: one entry per architecture, with its parameters and its arithmetic."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftermap.artefacts.store import BOX, load_card
from aftermap.errors import ModelError
from aftermap.extras import lacking
from aftermap.models.configs import (
    AnyModelConfig,
    DeeplabConfig,
    ResidualUnetConfig,
    SegformerConfig,
    SiameseUnetConfig,
    SmpConfig,
    TorchangeConfig,
    UnetConfig,
)
from aftermap.models.configs.libraries import Architecture, Fusion
from aftermap.models.weights.published import PUBLISHED

SIZE_PX = 1024
"""Height and width of the images that the multiply-accumulates are counted for."""

COUNTS = Path(__file__).with_name("counts.json")
"""What `counting` has found, by name and use; `python -m aftermap.workflows.weights.counting` writes it."""


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


def catalogue() -> list[dict[str, Any]]:
    """One entry per architecture: the model in the box first, then ours, the published ones, and general ones.

    `parameters` has `features` (the localization network without its head; the damage network's where there is no
    other), `localization` and `damage` (whole networks); `gmacs` the multiply-accumulates of convolutions and matrix
    products, in 1e9 per 1024 px image and per pair; both None where a use does not exist. Any timm encoder can stand
    in for those listed: `model.encoder_name` in a recipe. The numbers are read from a file, as counting takes seconds.
    """
    counts = json.loads(COUNTS.read_text())
    return [_entry(listed, counts[listed.name]) for listed in listed_models()]


def listed_models() -> Iterator[Listed]:
    """The architectures that are listed, none of them built yet."""
    yield from _box()
    yield from _ours()
    yield from _published()
    yield from _general()


def _entry(listed: Listed, counts: dict[str, Any]) -> dict[str, Any]:
    configs = {"localization": listed.localization, "damage": listed.damage}
    sizes = {use: counts[use] if config else None for use, config in configs.items()}
    trunk = counts["localization" if listed.localization else "damage"]
    return {
        "name": listed.name,
        "kind": listed.kind,
        "dates": [dates for dates, config in ((1, listed.localization), (2, listed.damage)) if config],
        "classes": {use: config.classes if config else None for use, config in configs.items()},
        "parameters": {
            "features": trunk["features"],
            **{use: size["total"] if size else None for use, size in sizes.items()},
        },
        "gmacs": {use: size["gmacs"] if size else None for use, size in sizes.items()},
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
    deeplab = "DeepLab v3 on ResNet-101 or -50 with leaky ReLUs, as in MiB and PLOP"
    yield Listed("deeplab-v3-resnet101", DeeplabConfig(), None, deeplab)


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
    if not lacking("changeos"):
        yield Listed("changeos-swin-t", None, TorchangeConfig(), "ChangeOS through the package torchange")


def _encoder(config: AnyModelConfig) -> str:
    return str(getattr(config, "encoder_name", config.kind))
