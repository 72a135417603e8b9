"""What every model of ours looks like: images of one or two dates in, class logits per pixel out."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class DenseModel(nn.Module, ABC):
    """Dense prediction: `forward_features` then `forward_head`.

    Attributes:
        dates: 1 (one image) or 2 (pre and post).
        classes: number of logits per pixel.
        stride: height and width of the input must be multiples of it.
        trunk: starts of the weight names that a model must share with the one it is grown from.
        encoder_parts, head_parts: dotted names of the parts that are an encoder, or a head of class logits.
    """

    dates: int
    classes: int
    stride: int
    trunk: ClassVar[tuple[str, ...]] = ("encoder.",)
    encoder_parts: ClassVar[tuple[str, ...]] = ("encoder",)
    head_parts: ClassVar[tuple[str, ...]] = ("head",)

    @abstractmethod
    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of images (B, T, C, H, W)."""

    @abstractmethod
    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W) of features, at `size` = (H, W)."""

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of normalised images (B, T, C, H, W)."""
        return self.forward_head(self.forward_features(image), (image.shape[-2], image.shape[-1]))

    def direct(self, image: Tensor) -> Tensor:
        """The same logits for a graph, where nobody asks for the features: a model may save their gathering."""
        logits: Tensor = self(image)
        return logits


def count_parameters(module: nn.Module) -> int:
    """Number of parameters; buffers are not counted."""
    return sum(p.numel() for p in module.parameters())
