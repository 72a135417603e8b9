"""Masks as PNG: written so that they are quickly read again; plain ones are read with nothing but a decoder."""

from pathlib import Path

import cv2
import numpy as np

from aftermap.geo.opening.complete import is_complete

_OPTIONS = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 2),
    # choosing a filter for every row takes longer than packing it, and masks repeat the row above
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
)
_COUNTED_AT_ONCE = 1 << 24  # OpenCV tells counts in float32
_PLAIN = b"\x08\0\0\0\0"  # 8 bits of grey, not interlaced


def encode_mask(mask: np.ndarray) -> bytes:
    """The PNG of a mask uint8 (H, W), or of its colours (H, W, 3) in the order blue, green, red."""
    return cv2.imencode(".png", mask, _OPTIONS)[1].tobytes()


def decode_mask(data: bytes) -> np.ndarray | None:
    """The mask uint8 (H, W) of a PNG of 8-bit grey that is all there; None of any other file."""
    if data[12:16] != b"IHDR" or data[24:29] != _PLAIN or not is_complete(data):
        return None
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return mask if mask is not None and mask.ndim == 2 and mask.dtype == np.uint8 else None


def read_plain(path: Path) -> np.ndarray | None:
    """`decode_mask` of a file; None also where it cannot be read, so that another reader says why."""
    try:
        return decode_mask(path.read_bytes())
    except OSError:
        return None


def count_values(mask: np.ndarray) -> np.ndarray:
    """How many pixels of a mask uint8 (H, W) have each value, int64 (256,)."""
    counts = np.zeros(256, np.int64)
    rows = max(1, _COUNTED_AT_ONCE // max(1, mask.shape[1]))
    for row in range(0, mask.shape[0], rows):
        part = cv2.calcHist([mask[row : row + rows]], [0], None, [256], [0, 256])
        counts += part.ravel().astype(np.int64)
    return counts
