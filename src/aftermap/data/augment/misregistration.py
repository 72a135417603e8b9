"""One date that lies beside the other: the operation, as a recipe says it."""

from typing import Literal

from pydantic import Field

from aftermap.config import Config


class Misregistration(Config):
    """Moves one date against the mask and the other: dates that do not fit, and a view from the side.

    Attributes:
        dates: which is moved. Outlines are drawn on the image from before, so the one from after by default.
        shift_px: everything moves up to so far right or left, and up or down.
        lean_px: buildings of the mask move up to so far more, all of a crop one way, as roofs do in a slanted view; what
            they uncover keeps its pixels, as a wall in the roof's colours.
    """

    op: Literal["misregistration"] = "misregistration"
    p: float = Field(default=1.0, ge=0, le=1)
    dates: Literal["pre", "post"] = "post"
    shift_px: float = Field(default=3.0, ge=0)
    lean_px: float = Field(default=0.0, ge=0)
