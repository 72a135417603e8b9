"""An encoder alone as a model: what is pretrained without labels."""

from torch import Tensor

from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.encoders import Encoder


class EncoderModel(DenseModel):
    """The deepest features of one image; it tells no classes.

    Attributes:
        encoder: of timm.
        channels: of the deepest features.
    """

    dates, classes = 1, 0

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.channels, self.stride = encoder.channels[-1], encoder.strides[-1]

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of images (B, 1, C, H, W)."""
        features: Tensor = self.encoder(image[:, 0])[-1]
        return features

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The features as they are."""
        return features
