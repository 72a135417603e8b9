"""What a SegFormer can be."""

from pathlib import Path
from typing import Literal, NamedTuple

from aftermap.config import Config

REDUCTIONS = (8, 4, 2, 1)
"""How much coarser the keys of the four stages are than their queries, along each side."""


class MitSize(NamedTuple):
    """Widths and depths of the four stages of an encoder, and the width of its published decoder."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder_channels: int


SIZES = {
    "mit_b0": MitSize((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "mit_b1": MitSize((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "mit_b2": MitSize((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "mit_b3": MitSize((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "mit_b4": MitSize((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "mit_b5": MitSize((64, 128, 320, 512), (3, 6, 40, 3), 768),
}


class SegformerConfig(Config):
    """SegFormer for one date or for two (one encoder for both, hidden states side by side).

    Attributes:
        encoder_weights: `imagenet` or `ade20k` (where the published system starts from), a file or folder, or None.
            NVIDIA's weights are for research use only.
        decoder_channels: width of the decoder; None takes the published one of the encoder.
        internal_px: the image is resized to a square of this size and the logits back, as the published system does
            (512); None keeps the resolution.
        drop_path: rate of the last block; the rates rise linearly from 0.
        dropout: rate before the classes.
    """

    kind: Literal["segformer"] = "segformer"
    encoder_name: Literal["mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5"] = "mit_b0"
    encoder_weights: Literal["imagenet", "ade20k"] | Path | None = None
    dates: Literal[1, 2] = 1
    in_channels: int = 3
    classes: int = 2
    decoder_channels: int | None = None
    internal_px: int | None = None
    drop_path: float = 0.1
    dropout: float = 0.1
