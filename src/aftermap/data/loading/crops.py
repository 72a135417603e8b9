"""One sample: the steps from a scene to its crop, the choice of the window, and the pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.augment.geometric import draw_steps
from aftermap.data.augment.operations import Geometric
from aftermap.data.loading.geometry import (
    Crop,
    MaskMode,
    Step,
    View,
    best_window,
    class_planes,
    merge_planes,
    resample,
    resample_in_steps,
    resample_mask,
)
from aftermap.data.loading.sampling import BestCrop, ClassSampling, EpochSampling, draw_windows
from aftermap.data.soft_labels import SOFT_UNKNOWN


@dataclass(frozen=True, slots=True)
class Sample:
    """A crop.

    Attributes:
        images: uint8 (T, S, S, 3), red, green, blue.
        mask: uint8 (S, S), classes and IGNORE.
        soft: stored soft labels uint8 (S, S, K - 1), see `data.soft`; None where the scene has none.
        zoom: scene pixels per crop pixel.
    """

    images: np.ndarray
    mask: np.ndarray
    soft: np.ndarray | None = None
    zoom: float = 1.0


def crop_around(
    images: Sequence[np.ndarray],
    mask: np.ndarray,
    *,
    wanted: int | None,
    sampling: ClassSampling,
    geometry: Sequence[Geometric],
    classes: int,
    rng: np.random.Generator,
    soft: np.ndarray | None = None,
) -> Sample:
    """Crop about a pixel of a class, or about any, and augment the crop; what it turns in comes from the scene.

    Args:
        images: of each date, uint8 (H, W, 3).
        mask: uint8 (H, W).
        wanted: the class; None for any pixel, which is also taken where the mask does not hold the class.
        sampling: size of the crop.
        geometry: operations about the crop's own frame.
        classes: number of classes with the background.
        rng: all draws come from it.
        soft: stored soft labels uint8 (H, W, K - 1), cropped alike.
    """
    size = sampling.crop_px
    height, width = mask.shape
    row, column = int(rng.integers(height)), int(rng.integers(width))
    if wanted is not None:
        rows, columns = np.nonzero(mask[::4, ::4] == wanted)
        if len(rows):
            at, spread = int(rng.integers(len(rows))), size // 4
            down, right = (int(step) for step in rng.integers(-spread, spread + 1, 2))
            row, column = int(rows[at]) * 4 + down, int(columns[at]) * 4 + right
    top = min(max(row - size // 2, 0), max(0, height - size))
    left = min(max(column - size // 2, 0), max(0, width - size))
    images, mask, soft = _padded(images, mask, soft, size)
    window = Crop(left, top, size, size)
    steps: list[Step] = [window, *draw_steps(geometry, rng, height=size, width=size)]
    if sampling.compat_steps:
        planes = [resample_in_steps(plane, steps) for plane in class_planes(mask, classes=classes)]
        view = View.whole(*mask.shape).then(*steps)
        return Sample(_in_steps(images, steps), _merged(planes, mask, steps), _soft(soft, view), _zoom(view))
    return take(images, mask, steps, mode=sampling.compat_mask or "nearest", classes=classes, soft=soft)


def crop_best(
    images: Sequence[np.ndarray],
    mask: np.ndarray,
    *,
    sampling: EpochSampling,
    geometry: Sequence[Geometric],
    classes: int,
    rng: np.random.Generator,
    soft: np.ndarray | None = None,
) -> Sample:
    """Augment a scene and crop the best window of it; see `BestCrop` and, for the arguments, `crop_around`."""
    height, width = mask.shape
    steps = draw_steps(geometry, rng, height=height, width=width)
    frame = View.whole(height, width).then(*steps)
    windows = draw_windows(sampling.crop, sampling.crop_px, rng, height=frame.height, width=frame.width)
    if sampling.compat_steps:
        planes = [resample_in_steps(plane, steps) for plane in class_planes(mask, classes=classes)]
        weight = sum(
            (w * plane.astype(np.float64) for w, plane in _weighted(sampling.crop, planes)), np.zeros(())
        )
        weight = np.broadcast_to(weight, (frame.height, frame.width))
        window = windows[best_window(weight, windows)]
        cropped = [resample_in_steps(plane, [window]) for plane in planes]
        view = frame.then(window)
        whole = [*steps, window]
        return Sample(_in_steps(images, whole), _merged(cropped, mask, whole), _soft(soft, view), _zoom(view))
    mode: MaskMode = sampling.compat_mask or "nearest"
    window = windows[choose_window(mask, frame, windows, sampling.crop, mode=mode)]
    return take(images, mask, [*steps, window], mode=mode, classes=classes, soft=soft)


def choose_window(
    mask: np.ndarray, frame: View, windows: Sequence[Crop], config: BestCrop, *, mode: MaskMode
) -> int:
    """Which window shows most of the weighty classes; of equals the first.

    Args:
        mask: uint8 (H, W), classes and IGNORE, which counts nothing.
        frame: the augmented scene that the windows lie in.
        windows: one or more.
        config: weights of the classes.
        mode: how the mask will be resampled.
    """
    if len(windows) == 1 or (config.class_weights[0] == 0 and not cv2.countNonZero(mask)):
        return 0
    weight = _weight(mask, config.class_weights)
    interpolation = cv2.INTER_NEAREST if mode == "nearest" else cv2.INTER_LINEAR
    return best_window(resample(weight, frame, interpolation=interpolation), windows)


def _weight(mask: np.ndarray, class_weights: Sequence[float]) -> np.ndarray:
    """What every pixel counts (H, W): bytes, which are faster, where they can tell the weights apart exactly."""
    weights = np.zeros(256)
    weights[: len(class_weights)] = class_weights
    weights[IGNORE] = 0
    steps = weights * (255 / max(weights.max(), 1e-9))
    exact = weights.min() >= 0 and np.allclose(steps, np.round(steps))
    table = np.round(steps).astype(np.uint8) if exact else weights.astype(np.float32)
    weight: np.ndarray = cv2.LUT(mask, table)
    return weight


def take(
    images: Sequence[np.ndarray],
    mask: np.ndarray,
    steps: Sequence[Step],
    *,
    mode: MaskMode,
    classes: int,
    soft: np.ndarray | None = None,
) -> Sample:
    """The crop that the steps lead to, resampled once."""
    view = View.whole(*mask.shape).then(*steps)
    pictures = np.stack([resample(image, view) for image in images])
    return Sample(
        pictures, resample_mask(mask, view, mode=mode, classes=classes), _soft(soft, view), _zoom(view)
    )


def _soft(soft: np.ndarray | None, view: View) -> np.ndarray | None:
    """Soft labels by the nearest pixel: what is unknown must not be blended with what is known."""
    if soft is None:
        return None
    taken = resample(soft, view, interpolation=cv2.INTER_NEAREST)
    return taken.reshape(view.height, view.width, soft.shape[2])


def _zoom(view: View) -> float:
    return float(np.sqrt(abs(np.linalg.det(view.matrix[:2, :2]))))


def _weighted(config: BestCrop, planes: Sequence[np.ndarray]) -> list[tuple[float, np.ndarray]]:
    return list(zip(config.class_weights[1:], planes, strict=False))


def _in_steps(images: Sequence[np.ndarray], steps: Sequence[Step]) -> np.ndarray:
    return np.stack([resample_in_steps(image, steps) for image in images])


def _merged(planes: Sequence[np.ndarray], mask: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    merged = merge_planes(planes)
    if (mask == IGNORE).any():
        merged[resample_in_steps((mask == IGNORE).astype(np.uint8) * 255, steps) > 127] = IGNORE
    return merged


def _padded(
    images: Sequence[np.ndarray], mask: np.ndarray, soft: np.ndarray | None, size: int
) -> tuple[Sequence[np.ndarray], np.ndarray, np.ndarray | None]:
    """Scenes smaller than a crop: mirrored images, and unknown pixels in the mask and the soft labels."""
    down, right = max(0, size - mask.shape[0]), max(0, size - mask.shape[1])
    if not down and not right:
        return images, mask, soft
    edges = ((0, down), (0, right))
    grown = [np.pad(image, (*edges, (0, 0)), mode="symmetric") for image in images]
    if soft is not None:
        soft = np.pad(soft, (*edges, (0, 0)), constant_values=SOFT_UNKNOWN)
    return grown, np.pad(mask, edges, constant_values=IGNORE), soft
