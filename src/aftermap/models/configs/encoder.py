"""Where an encoder's weights come from, and how they take more bands than they were trained on."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from aftermap.config import Config

EncoderWeights = Literal["imagenet"] | Path | None
"""`imagenet` for the published weights of the encoder, a path for a local file or folder, None for random ones."""

ExtraBands = Literal["red", "mean", "timm"]
"""How the first convolution starts on the bands behind the first three: each as a copy of the first one (red), as
the mean of the three, or as timm does: red, green, blue in turn, and all of it scaled by 3 / bands."""


class EncoderRecord(Config):
    """A file of encoder weights that a model was trained from.

    Attributes:
        name: of the encoder.
        file: its name.
        sha256: of the file.
        licence: as the recipe, or the file itself, says.
    """

    name: str
    file: str
    sha256: str
    licence: str


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NO_OPTIONS = frozenset(
    {
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
        "scriptable",
        "exportable",
        "no_jit",
        "encoder_weights",
        "weights",
    }
)


def _plain_name(name: str) -> str:
    """A name of an architecture, and not of a place: timm also takes `hf-hub:` and `local-dir:`."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of an encoder: letters, digits, points, dashes and underscores are (weights come "
            "from encoder_weights)"
        )
    return name


def _shape_only(options: dict[str, Any]) -> dict[str, Any]:
    """Options that shape a network, none that say where files come from."""
    if wrong := sorted(_NO_OPTIONS & options.keys()):
        raise ValueError(f"{', '.join(wrong)} cannot be set here: weights come from encoder_weights")
    return options


EncoderName = Annotated[str, AfterValidator(_plain_name)]
"""A model of timm (or of segmentation_models_pytorch) by its plain name."""

EncoderOptions = Annotated[dict[str, Any], AfterValidator(_shape_only)]
"""Further arguments of a network's constructor; cards from elsewhere hold them too, so they cannot name files."""
