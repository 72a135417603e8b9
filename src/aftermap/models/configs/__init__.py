"""What can be said about a network, as data: a module per kind, and the union of them. No torch here."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from aftermap.models.configs.custom import CustomConfig
from aftermap.models.configs.fpn import FpnEfficientnetConfig
from aftermap.models.configs.residual_unet import ResidualUnetConfig
from aftermap.models.configs.segformer import SegformerConfig
from aftermap.models.configs.smp import SmpConfig
from aftermap.models.configs.torchange import TorchangeConfig
from aftermap.models.configs.unet import SiameseUnetConfig, UnetConfig
from aftermap.models.configs.xview2 import Xview2UnetConfig

__all__ = [
    "MODEL_CONFIG",
    "AnyModelConfig",
    "CustomConfig",
    "FpnEfficientnetConfig",
    "ModelConfig",
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
    | Xview2UnetConfig
    | SegformerConfig
    | SmpConfig
    | TorchangeConfig
    | FpnEfficientnetConfig
    | ResidualUnetConfig
    | CustomConfig
)  # fmt: skip
ModelConfig = Annotated[AnyModelConfig, Field(discriminator="kind")]
MODEL_CONFIG: TypeAdapter[AnyModelConfig] = TypeAdapter(ModelConfig)
