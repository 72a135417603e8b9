"""Where an encoder's weights come from, and how they take more bands than they were trained on."""

from pathlib import Path
from typing import Literal

EncoderWeights = Literal["imagenet"] | Path | None
"""`imagenet` for the published weights of the encoder, a path for a local file or folder, None for random ones."""

ExtraBands = Literal["red", "mean", "timm"]
"""How the first convolution starts on the bands behind the first three: each as a copy of the first one (red), as
the mean of the three, or as timm does: red, green, blue in turn, and all of it scaled by 3 / bands."""
