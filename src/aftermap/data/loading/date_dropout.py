"""Training samples that lack a date, so that one model maps from one image as well as from two.

What a missing date is replaced by is the same in training and in a map: the other image, pixel for pixel. Two real images
are never equal, so the network can tell; a grey image instead would be like nothing that normalisation layers, pretrained
encoders and the ranges of 8-bit graphs know.
"""

from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from aftermap.classes import OneDate
from aftermap.config import Config

if TYPE_CHECKING:
    from torch import Tensor


BOTH, POST_ONLY, PRE_ONLY = range(3)
"""Which dates a sample shows."""


class DateDropout(Config):
    """Chances that a training sample lacks a date; the other image then stands in its place, pixel for pixel.

    Attributes:
        pre: that the image from before is missing: buildings are learned, and destroyed against not.
        post: that the image from after is missing: buildings alone are learned.
    """

    pre: float = Field(default=0.0, ge=0, le=1)
    post: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _one_date_is_left(self) -> Self:
        if self.pre + self.post > 1:
            raise ValueError(f"pre and post are chances of one draw, {self.pre + self.post:g} is more than 1")
        return self

    def __bool__(self) -> bool:
        """Whether any sample lacks a date."""
        return self.pre > 0 or self.post > 0

    @property
    def modes(self) -> tuple[OneDate, ...]:
        """The ways to map from one date that are learned, for the card."""
        modes: list[tuple[OneDate, float]] = [("post-only", self.pre), ("pre-only", self.post)]
        return tuple(mode for mode, chance in modes if chance > 0)

    def draw(self, rng: np.random.Generator, samples: int) -> np.ndarray | None:
        """BOTH, POST_ONLY or PRE_ONLY for each sample, int64 (samples,); None, and no draw, where none lacks a date."""
        if not self:
            return None
        drawn = rng.random(samples)
        return np.select([drawn < self.pre, drawn < self.pre + self.post], [POST_ONLY, PRE_ONLY], BOTH)


def put_other_date(image: "Tensor", dates: np.ndarray | None) -> "Tensor | None":
    """Put the image that is there in the place of the one that is missing.

    Args:
        image: (B, 2, C, H, W), changed in place.
        dates: what each sample shows (B,), as drawn.

    Returns:
        The same on the image's device.
    """
    if dates is None:
        return None
    for shown, missing in ((POST_ONLY, 0), (PRE_ONLY, 1)):
        samples = (dates == shown).nonzero()[0]
        image[samples, missing] = image[samples, 1 - missing]
    return image.new_tensor(dates).long()
