"""The models one can name: what kinds there are, with their parameters."""

from typing import Any

from aftermap.artefacts.store import BOX, load_card, load_model
from aftermap.errors import ModelError
from aftermap.models.build import SiameseUnetConfig, UnetConfig, build_model
from aftermap.models.dense import DenseModel, count_parameters

LISTED: dict[str, tuple[UnetConfig | SiameseUnetConfig, str]] = {
    "unet-resnet18": (UnetConfig(), "localization"),
    "unet-resnet34": (UnetConfig(encoder_name="resnet34"), "localization, larger"),
    "siamese-unet-resnet18": (SiameseUnetConfig(), "damage"),
    "siamese-unet-resnet18-late": (
        SiameseUnetConfig(fuse="decoder"),
        "damage, fused after the decoder",
    ),
    "siamese-unet-resnet34": (SiameseUnetConfig(encoder_name="resnet34"), "damage, larger"),
    "siamese-unet-mobilenetv3": (
        SiameseUnetConfig(
            encoder_name="mobilenetv3_small_100", decoder_channels=(128, 64, 48, 32, 16), head_stride=2
        ),
        "damage, small",
    ),
}


def catalogue() -> list[dict[str, Any]]:
    """One entry per listed configuration, and the model in the box first where it is installed.

    Any timm encoder can stand in for those listed: `model.encoder_name` in a recipe.
    """
    entries = []
    try:
        card = load_card(BOX)
        entries.append(
            _entry(BOX, card.model.kind, load_model(BOX).model, f"{card.name}: the model in the box")
        )
    except ModelError:
        pass
    entries += [
        _entry(name, config.kind, build_model(config), text) for name, (config, text) in LISTED.items()
    ]
    return entries


def _entry(name: str, kind: str, model: DenseModel, description: str) -> dict[str, Any]:
    total = count_parameters(model)
    head = count_parameters(getattr(model, "head", model))
    return {
        "name": name,
        "kind": kind,
        "dates": model.dates,
        "classes": model.classes,
        "parameters": {"features": total - head, "head": head, "total": total},
        "description": description,
    }
