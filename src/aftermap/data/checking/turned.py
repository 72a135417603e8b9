"""Whether a mask lies on the pixels of a photo as they are stored, or on the view that EXIF wants to be shown."""

import cv2
import numpy as np

_CLEARLY = 1.5
_FEWEST_PX = 32


def to_shown(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (H, W) as EXIF wants them to be shown.

    Source: EXIF 2.3, tag 0x0112: where the first row and column lie.
    """
    match orientation:
        case 2:
            return stored[:, ::-1]
        case 3:
            return stored[::-1, ::-1]
        case 4:
            return stored[::-1]
        case 5:
            return stored.T
        case 6:
            return np.rot90(stored, -1)
        case 7:
            return stored[::-1, ::-1].T
        case 8:
            return np.rot90(stored)
    return stored


def lies_on_shown(grey: np.ndarray, mask: np.ndarray, orientation: int) -> bool:
    """Whether the outlines of a mask follow the edges of the shown view, and not those of the stored pixels.

    Args:
        grey: the stored image (H, W).
        mask: as its file holds it, of any size.
        orientation: by EXIF.

    Returns:
        True where edges are half as strong again, or more, on the outlines of the mask in the shown view. False where
        the mask has the size of the stored pixels alone, or next to no outlines.
    """
    shown = to_shown(grey, orientation)
    if mask.shape != shown.shape or mask.shape != grey.shape:
        return False
    flat = mask.astype(np.uint8)
    outlines = cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) != 0
    if outlines.sum() < _FEWEST_PX:
        return False
    here, there = (float(_edges(view)[outlines].mean()) for view in (grey, shown))
    return there > _CLEARLY * here


def _edges(grey: np.ndarray) -> np.ndarray:
    """How much each pixel differs from its neighbours."""
    view = np.ascontiguousarray(grey, np.float32)
    edges: np.ndarray = np.hypot(cv2.Sobel(view, cv2.CV_32F, 1, 0), cv2.Sobel(view, cv2.CV_32F, 0, 1))
    return edges
