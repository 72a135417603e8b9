"""What can be said about a network, as data: a class per kind, and the union of them. No torch here."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from aftermap.models.configs.libraries import CustomConfig, SmpConfig, TorchangeConfig
from aftermap.models.configs.networks import (
    DeeplabConfig,
    FpnEfficientnetConfig,
    LateFusionConfig,
    PseudoSiameseUnetConfig,
    ResidualUnetConfig,
    SegformerConfig,
    SiameseUnetConfig,
    UnetConfig,
    Xview2UnetConfig,
)

__all__ = [
    "MODEL_CONFIG",
    "AnyModelConfig",
    "CustomConfig",
    "DeeplabConfig",
    "FpnEfficientnetConfig",
    "LateFusionConfig",
    "ModelConfig",
    "PseudoSiameseUnetConfig",
    "ResidualUnetConfig",
    "SegformerConfig",
    "SiameseUnetConfig",
    "SmpConfig",
    "TorchangeConfig",
    "UnetConfig",
    "Xview2UnetConfig",
]

AnyModelConfig = (
    UnetConfig
    | SiameseUnetConfig
    | PseudoSiameseUnetConfig
    | LateFusionConfig
    | Xview2UnetConfig
    | SegformerConfig
    | SmpConfig
    | TorchangeConfig
    | FpnEfficientnetConfig
    | ResidualUnetConfig
    | DeeplabConfig
    | CustomConfig
)  # fmt: skip
ModelConfig = Annotated[AnyModelConfig, Field(discriminator="kind")]
MODEL_CONFIG: TypeAdapter[AnyModelConfig] = TypeAdapter(ModelConfig)
