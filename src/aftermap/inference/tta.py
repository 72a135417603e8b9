"""Test-time augmentation: the views of an image that a model is shown, and the way back for its outputs."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np

from aftermap.artefacts.arrays import A, float32
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
Flip = Literal[0, 2, 3, 23]
"""Names of mirrorings in the Open Cities runs: none, rows, columns, both."""

_FLIPS: dict[int, tuple[int, bool]] = {0: (0, False), 2: (2, True), 3: (0, True), 23: (2, False)}
_LEAST_SCALE, _LARGEST_SCALE = 0.25, 4.0


@dataclass(frozen=True, slots=True)
class View:
    """One view of an image: scaled, then mirrored left to right, then turned counter-clockwise.

    Attributes:
        turns: quarter turns, 0 to 3.
        mirrored: whether columns are reversed first.
        scale: factor of the size, which then comes to the nearest multiple that the model takes.
        compat_transpose: undo a transposition of mirrored images in the wrong order, which leaves the outputs turned
            by 180 degrees.
    """

    turns: int = 0
    mirrored: bool = False
    scale: float = 1.0
    compat_transpose: bool = False

    @classmethod
    def of_flip(cls, flip: Flip, *, transpose: bool = False, compat_transpose: bool = False) -> Self:
        """A view as Open Cities' third place named them: mirrored, then transposed.

        Args:
            flip: 0 none, 2 rows, 3 columns, 23 both.
            transpose: exchange rows and columns afterwards.
            compat_transpose: it undid the two in the order in which it had done them, which is wrong where exactly
                one axis is mirrored.
        """
        turns, mirrored = _FLIPS[flip]
        if (
            transpose
        ):  # a transposition mirrors columns, then turns once; so the turns before it change their sense
            turns, mirrored = (1 - turns) % 4, not mirrored
        return cls(turns, mirrored, compat_transpose=compat_transpose and transpose and flip in (2, 3))

    def show(self, images: A, *, multiple: int) -> A:
        """The view of images (B, T, C, H, W)."""
        if self.scale != 1.0:
            size: list[int] = [
                max(multiple, round(side * self.scale / multiple) * multiple) for side in images.shape[-2:]
            ]
            dates = images.reshape((-1, *images.shape[2:]))  # (B * T, C, H, W)
            images = _resized(dates, (size[0], size[1])).reshape((*images.shape[:3], *size))
        if self.mirrored:
            images = _mirrored(images)
        return _turned(images, self.turns)

    def undo(self, outputs: A, size: tuple[int, int]) -> A:
        """Outputs (B, K, h, w) of the view, laid over the image of `size` (H, W) again."""
        outputs = _turned(outputs, -self.turns)
        if self.mirrored:
            outputs = _mirrored(outputs)
        if self.compat_transpose:
            outputs = _turned(outputs, 2)
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


def _mirrored(images: A) -> A:
    """Columns reversed."""
    return images[..., ::-1] if isinstance(images, np.ndarray) else images.flip(-1)


def _turned(images: A, turns: int) -> A:
    """Turned counter-clockwise by quarters."""
    if not turns:
        return images
    if isinstance(images, np.ndarray):
        return np.rot90(images, turns, (-2, -1))
    return images.rot90(turns, (-2, -1))


def _resized(images: A, size: tuple[int, int]) -> A:
    """Images (B, C, H, W): bilinear, smoothing where it shrinks; pixel centres stay where they are on the ground.

    Whole numbers, as a network takes them that normalises by itself, are rounded.
    """
    if tuple(images.shape[-2:]) == size:
        return images
    if isinstance(images, np.ndarray):
        if images.dtype.kind in "iu":
            return _resized_floats(float32(images), size).round().astype(images.dtype)
        return _resized_floats(float32(images), size)
    from torch.nn.functional import interpolate

    if not images.is_floating_point():
        return _resized(images.float(), size).round_().to(images.dtype)
    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _resized_floats(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 (B, C, H, W) by Pillow, whose filter is the one that PyTorch has taken over."""
    from PIL import Image

    height, width = size
    result = np.empty((*images.shape[:2], height, width), np.float32)
    for index in np.ndindex(*images.shape[:2]):
        band = Image.fromarray(np.ascontiguousarray(images[index]))
        result[index] = band.resize((width, height), Image.Resampling.BILINEAR)
    return result
