"""What a SegFormer can be."""

from pathlib import Path
from typing import Literal

from aftermap.config import Config


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
