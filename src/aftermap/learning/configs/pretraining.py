"""What an encoder can learn from images without labels, as data."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from aftermap.config import Config
from aftermap.learning.configs.mean_teacher import StrongConfig


class MaskedImageConfig(Config):
    """Hidden squares of an image are guessed from the rest of it.

    Attributes:
        patch_px: side of the squares; a multiple of the encoder's deepest stride.
        share: of the image that is hidden.

    Source: Xie et al. 2022 (SimMIM): what is hidden is emptied, one linear layer guesses, the error is absolute.
    """

    kind: Literal["masked-image"] = "masked-image"
    patch_px: int = Field(default=32, ge=1)
    share: Annotated[float, Field(gt=0, lt=1)] = 0.6


class VicregConfig(Config):
    """Two versions of an image in other light look alike at every place, and places differ from each other.

    Attributes:
        width: of the embeddings that are compared.
        invariance, variance, covariance: weights of the loss's three terms.
        strong: how the two versions differ.

    Source: Bardes et al. 2022, in the form of the library pytorch-metric-learning; here at each cell of the deepest
    features and not for the image as a whole.
    """

    kind: Literal["vicreg"] = "vicreg"
    width: int = Field(default=256, ge=2)
    invariance: float = Field(default=25.0, ge=0)
    variance: float = Field(default=25.0, ge=0)
    covariance: float = Field(default=1.0, ge=0)
    strong: StrongConfig = StrongConfig(contrast=0.6, brightness=0.5, blur=0.5, cutout=0.0)


def _kind(value: Any) -> str:
    unsaid = "masked-image"
    return str(value.get("kind", unsaid) if isinstance(value, dict) else getattr(value, "kind", unsaid))


PretrainingConfig = Annotated[
    Annotated[MaskedImageConfig, Tag("masked-image")] | Annotated[VicregConfig, Tag("vicreg")],
    Discriminator(_kind),
]
