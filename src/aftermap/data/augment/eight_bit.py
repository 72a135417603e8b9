"""The photometric operations of the xView2 winner in its own arithmetic.

Images are uint8 (H, W, 3) in the order blue, green, red, and so are the results; fractions are cut off, not rounded.

Source: xView2 first place, `augs.py`.
"""

import cv2
import numpy as np

NOISE_MEAN, NOISE_STD = 30.0, 30.0**0.5
_GRAY = np.array([0.114, 0.587, 0.299])


def shift_channels(image: np.ndarray, blue: int, green: int, red: int) -> np.ndarray:
    """Add a whole number to each band, clipped."""
    return _clip(image.astype(np.int16) + np.array([blue, green, red], np.int16))


def shift_hsv(image: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    """Add whole numbers to OpenCV's hue (0 to 179), saturation and value; all are clipped, the hue at 255 too."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16) + np.array(
        [hue, saturation, value], np.int16
    )
    shifted: np.ndarray = cv2.cvtColor(_clip(hsv), cv2.COLOR_HSV2BGR)
    return shifted


def equalize(image: np.ndarray, *, clip_limit: float = 2.0, grid: int = 5) -> np.ndarray:
    """Adaptive equalisation of the lightness, with blue taken for red."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    tiles = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(grid, grid))
    lab[..., 0] = tiles.apply(np.ascontiguousarray(lab[..., 0]))
    equal: np.ndarray = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return equal


def add_noise(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Add noise (H, W, 3) less its smallest value: it brightens.

    The winner draws the noise with `NOISE_MEAN` and `NOISE_STD`.
    """
    raised = (noise - noise.min()).astype(np.uint8)
    return _clip(image.astype(np.int16) + raised)


def blur_box(image: np.ndarray) -> np.ndarray:
    """Mean of 3 x 3 pixels."""
    blurred: np.ndarray = cv2.blur(image, (3, 3))
    return blurred


def change_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the grey image."""
    gray = (image * _GRAY).sum(axis=2, keepdims=True)
    return _clip(factor * image + (1 - factor) * gray)


def change_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black."""
    return _clip(factor * image.astype(np.float64))


def change_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the mean grey."""
    mean = (image * _GRAY).sum(axis=2).mean()
    return _clip(factor * image + (1 - factor) * mean)


def _clip(values: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(values, 0, 255).astype(np.uint8)
    return clipped
