"""Geometry of a crop: steps from a scene to its crop, composed into one affine map and resampled once.

Coordinates are x = column and y = row, with pixel centres at whole numbers. Beyond the scene lies its mirror image
(without the outermost pixel doubled).
"""

import math
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
    """Take a view of an image (H, W, C) or (H, W), of uint8 or float32."""
    if image.ndim == 3 and image.shape[2] > 4:  # more than OpenCV takes at once
        parts = [image[..., first : first + 4] for first in range(0, image.shape[2], 4)]
        taken = [resample(np.ascontiguousarray(part), view, interpolation=interpolation) for part in parts]
        return np.concatenate([part.reshape(view.height, view.width, -1) for part in taken], axis=2)
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
    match mode:
        case "nearest":
            return resample(mask, view, interpolation=cv2.INTER_NEAREST)
        case "per-class":
            # absent classes stay empty: most scenes hold few
            empty = np.zeros((view.height, view.width), np.uint8)
            planes = [
                resample(plane, view) if cv2.countNonZero(plane) else empty
                for plane in class_planes(mask, classes=classes)
            ]
            result = merge_planes(planes)
        case "truncated":
            # in 16 bits, which are faster than floats and still tell 0.9999 from 1
            step = 65535 // max(classes - 1, 1)
            table = np.zeros(256, np.uint16)
            table[:classes] = np.arange(classes) * step
            numbers = resample(cv2.LUT(mask, table), view)
            result = (numbers // step).astype(np.uint8)
        case _:
            assert_never(mode)
    if mask.max(initial=0) == IGNORE:
        result[resample(mask, view, interpolation=cv2.INTER_NEAREST) == IGNORE] = IGNORE
    return result


def class_planes(mask: np.ndarray, *, classes: int) -> list[np.ndarray]:
    """For every class but the background a uint8 plane (H, W), 255 where the mask holds it."""
    return [cv2.compare(mask, index, cv2.CMP_EQ) for index in range(1, classes)]


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


def best_window(weight: np.ndarray, windows: Sequence[Crop]) -> int:
    """Which window has the largest mean weight; of equals the first.

    Args:
        weight: (H, W).
        windows: inside it; of pixels that a window cuts, the part inside counts.

    Source: xView2 first place, whose windows are of one size and whole pixels.
    """
    best, largest = 0, -np.inf
    for number, window in enumerate(windows):
        mean = _sum(weight, window) / window.side**2
        if mean > largest:
            best, largest = number, mean
    return best


def _sum(weight: np.ndarray, window: Crop) -> float:
    """Sum over a window; the outer pixels count by the share of them that lies inside."""
    (top, bottom, above, below) = _cut(window.row, window.side, weight.shape[0])
    (left, right, before, behind) = _cut(window.column, window.side, weight.shape[1])
    inside = weight[top:bottom, left:right]
    total = float(cv2.sumElems(inside)[0])
    rows, columns = ((0, above), (-1, below)), ((0, before), (-1, behind))
    total -= sum(lost * float(cv2.sumElems(inside[row])[0]) for row, lost in rows if lost)
    total -= sum(lost * float(cv2.sumElems(inside[:, column])[0]) for column, lost in columns if lost)
    corners = [(row, column, a * b) for row, a in rows for column, b in columns if a * b]
    return total + sum(lost * float(inside[row, column]) for row, column, lost in corners)


def _cut(first: float, side: float, limit: int) -> tuple[int, int, float, float]:
    """Pixels that a window touches on one axis, half-open, and what the outer two lie outside of it by."""
    low, high = math.floor(first), min(math.ceil(first + side), limit)
    return low, high, first - low, max(high - first - side, 0.0)
