"""Geometry of a crop: steps from a scene to its crop, composed into one affine map and resampled once.

Coordinates are x = column and y = row, with pixel centres at whole numbers. Beyond the scene lies its mirror image
(without the outermost pixel doubled).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import cv2
import numpy as np

from aftermap.classes import IGNORE

MaskMode = Literal["nearest", "per-class", "truncated"]
"""How class masks are resampled; see `resample_mask`."""

MIRROR = cv2.BORDER_REFLECT_101
_PRIORITY = (
    1,
    4,
    3,
    2,
)  # of two classes that claim a pixel the later one gets it, as in the winner's targets


@dataclass(frozen=True, slots=True)
class Mirror:
    """Reverses the rows (`vertical`) or the columns (`horizontal`)."""

    direction: Literal["vertical", "horizontal"]


@dataclass(frozen=True, slots=True)
class Turn:
    """Turns counter-clockwise by quarters."""

    quarters: int


@dataclass(frozen=True, slots=True)
class Move:
    """Moves the content right and down, in pixels."""

    right: float
    down: float


@dataclass(frozen=True, slots=True)
class RotateAbout:
    """Rotates counter-clockwise and enlarges about the point (x, y)."""

    x: float
    y: float
    degrees: float
    scale: float


@dataclass(frozen=True, slots=True)
class Crop:
    """Takes the square window whose upper left pixel is (column, row) and brings it to `output_px` pixels a side.

    Attributes:
        side: of the window, in pixels.
        corners: the window's corners become the centres of the outer pixels; otherwise its edges become their edges.
    """

    column: float
    row: float
    side: float
    output_px: int
    corners: bool = False


Step = Mirror | Turn | Move | RotateAbout | Crop


@dataclass(frozen=True, slots=True)
class View:
    """A picture to be taken of a scene.

    Attributes:
        matrix: (3, 3), from (x, y, 1) of the view to that of the scene.
        height: rows of the view.
        width: columns of the view.
    """

    matrix: np.ndarray
    height: int
    width: int

    @classmethod
    def whole(cls, height: int, width: int) -> "View":
        """The scene as it is."""
        return cls(np.eye(3), height, width)

    def then(self, *steps: Step) -> "View":
        """The view after further steps."""
        view = self
        for step in steps:
            back, height, width = _back(step, view.height, view.width)
            view = View(view.matrix @ back, height, width)
        return view


def _back(step: Step, height: int, width: int) -> tuple[np.ndarray, int, int]:
    """Matrix from the coordinates after the step to those before it, and the size after it."""
    back = np.eye(3)
    match step:
        case Mirror(direction="vertical"):
            back[1] = 0, -1, height - 1
        case Mirror():
            back[0] = -1, 0, width - 1
        case Turn(quarters):
            for _ in range(quarters % 4):
                back = back @ np.array([[0, -1, width - 1], [1, 0, 0], [0, 0, 1]], float)
                height, width = width, height
        case Move(right, down):
            back[:2, 2] = -right, -down
        case RotateAbout(x, y, degrees, scale):
            back[:2] = cv2.invertAffineTransform(cv2.getRotationMatrix2D((x, y), degrees, scale))
        case Crop(column, row, side, output_px, corners):
            factor = side / max(output_px - 1, 1) if corners else side / output_px
            offset = 0.0 if corners else (factor - 1) / 2
            back[0] = factor, 0, column + offset
            back[1] = 0, factor, row + offset
            height = width = output_px
        case _:
            assert_never(step)
    return back, height, width


def resample(image: np.ndarray, view: View, *, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Take a view of an image (H, W, up to 4 bands) or (H, W), of uint8 or float32."""
    picture: np.ndarray = cv2.warpAffine(
        image,
        view.matrix[:2],
        (view.width, view.height),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=MIRROR,
    )
    return picture


def resample_mask(
    mask: np.ndarray, view: View, *, mode: MaskMode = "nearest", classes: int = 5
) -> np.ndarray:
    """Take a view of class indices uint8 (H, W); IGNORE is never blended with a class.

    Args:
        mask: classes 0 to `classes` - 1, and IGNORE.
        view: what is looked at.
        mode: `nearest` takes the class of the nearest pixel. `per-class` interpolates a plane for every class (0 and
            255) and keeps what is above 127; where none is, it is background. `truncated` interpolates the class
            numbers and drops the fraction.
        classes: number of classes with the background.
    """
    nearest = resample(mask, view, interpolation=cv2.INTER_NEAREST)
    match mode:
        case "nearest":
            return nearest
        case "per-class":
            planes = class_planes(mask, classes=classes)
            result = merge_planes([resample(plane, view) for plane in planes])
        case "truncated":
            known = np.where(mask == IGNORE, 0, mask).astype(np.float32)
            result = resample(known, view).astype(np.uint8)
        case _:
            assert_never(mode)
    result[nearest == IGNORE] = IGNORE
    return result


def class_planes(mask: np.ndarray, *, classes: int) -> list[np.ndarray]:
    """For every class but the background a uint8 plane (H, W), 255 where the mask holds it."""
    return [(mask == index).astype(np.uint8) * 255 for index in range(1, classes)]


def merge_planes(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Class indices uint8 (H, W) of planes for classes 1 and up: above 127 is in."""
    merged = np.zeros(planes[0].shape, np.uint8)
    order = [index for index in _PRIORITY if index <= len(planes)]
    for index in (*range(len(_PRIORITY) + 1, len(planes) + 1), *order):
        merged[planes[index - 1] > 127] = index
    return merged


def resample_in_steps(image: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    """Resample an image (H, W, up to 4 bands) or (H, W) after every single step, bilinearly.

    Slower and blurrier than `resample`, and mirrored at the frame of every step; the xView2 winner's way.
    """
    for step in steps:
        match step:
            case Mirror(direction="vertical"):
                image = image[::-1]
            case Mirror():
                image = image[:, ::-1]
            case Turn(quarters):
                image = np.rot90(image, quarters)
            case Crop(column, row, side, output_px):
                top, left, side = round(row), round(column), round(side)
                image = image[top : top + side, left : left + side]
                if image.shape[:2] != (output_px, output_px):
                    image = cv2.resize(image, (output_px, output_px), interpolation=cv2.INTER_LINEAR)
            case _:
                view = View.whole(*image.shape[:2]).then(step)
                image = resample(np.ascontiguousarray(image), view)
    return np.ascontiguousarray(image)


def best_window(weight: np.ndarray, windows: Sequence[tuple[int, int, int]]) -> int:
    """Which window holds the largest sum of weights; of equals the first.

    Args:
        weight: (H, W).
        windows: (column, row, side) in whole pixels.

    Source: xView2 first place.
    """
    best, largest = 0, -np.inf
    for number, (column, row, side) in enumerate(windows):
        total = float(weight[row : row + side, column : column + side].sum(dtype=np.float64))
        if total > largest:
            best, largest = number, total
    return best
