"""Test-time augmentation: the views of an image that a model is shown, and the way back for its outputs."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from aftermap.errors import ModelError

Tta = Literal["none", "half-turn", "flips", "rotations", "full"]
"""`half-turn`: as it is and turned by 180 degrees; `flips`: four mirrorings (rows, columns, both); `rotations`: four
quarter turns; `full`: all eight."""

_VIEWS: dict[str, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "half-turn": ((0, False), (2, False)),
    "flips": ((0, False), (2, True), (0, True), (2, False)),
    "rotations": tuple((turns, False) for turns in range(4)),
    "full": tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4)),
}
_LEAST_SCALE, _LARGEST_SCALE = 0.25, 4.0


@dataclass(frozen=True, slots=True)
class View:
    """One view of an image: scaled, then mirrored left to right, then turned counter-clockwise.

    Attributes:
        turns: quarter turns, 0 to 3.
        mirrored: whether columns are reversed first.
        scale: factor of the size, which then comes to the nearest multiple that the model takes.
    """

    turns: int = 0
    mirrored: bool = False
    scale: float = 1.0

    def show(self, images: Tensor, *, multiple: int) -> Tensor:
        """The view of images (B, T, C, H, W)."""
        if self.scale != 1.0:
            size = [
                max(multiple, round(side * self.scale / multiple) * multiple) for side in images.shape[-2:]
            ]
            dates = images.flatten(0, 1)  # (B * T, C, H, W)
            images = _resized(dates, (size[0], size[1])).reshape(*images.shape[:3], *size)
        if self.mirrored:
            images = images.flip(-1)
        return torch.rot90(images, self.turns, (-2, -1)) if self.turns else images

    def undo(self, outputs: Tensor, size: tuple[int, int]) -> Tensor:
        """Outputs (B, K, h, w) of the view, laid over the image of `size` (H, W) again."""
        if self.turns:
            outputs = torch.rot90(outputs, -self.turns, (-2, -1))
        if self.mirrored:
            outputs = outputs.flip(-1)
        return _resized(outputs, size)


def views(tta: Tta, scales: tuple[float, ...] = (1.0,)) -> tuple[View, ...]:
    """The views of a kind of augmentation, at every scale.

    Raises:
        ModelError: no such kind, or a scale that makes no sense.
    """
    if tta not in get_args(Tta):
        raise ModelError(f"no test-time augmentation {tta!r}: use one of {', '.join(get_args(Tta))}")
    if not scales or any(not _LEAST_SCALE <= scale <= _LARGEST_SCALE for scale in scales):
        raise ModelError(
            f"scales {', '.join(f'{s:g}' for s in scales) or '(none)'}: expected one or more numbers from "
            f"{_LEAST_SCALE:g} to {_LARGEST_SCALE:g}, such as 0.75,1,1.25"
        )
    return tuple(View(turns, mirrored, scale) for scale in scales for turns, mirrored in _VIEWS[tta])


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, smoothing where it shrinks; pixel centres stay where they are on the ground.

    Whole numbers, as a network takes them that normalises by itself, are rounded.
    """
    if tuple(images.shape[-2:]) == size:
        return images
    if not images.is_floating_point():
        return _resized(images.float(), size).round_().to(images.dtype)
    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
