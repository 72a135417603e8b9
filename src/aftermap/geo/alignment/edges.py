"""Edges of an image as complex numbers: how strong the brightness changes, and which way."""

import cv2
import numpy as np

_OFFSETS = np.arange(-4.0, 5.0)
_BLUR = np.exp(-(_OFFSETS**2) / 2) / np.exp(-(_OFFSETS**2) / 2).sum()
_SLOPE = _OFFSETS * _BLUR


def edge_field(image: np.ndarray) -> np.ndarray:
    """Gradient of the brightness of (C, H, W) as complex numbers (H, W), of length below 1: typical edges 1/2."""
    field = slopes(image.astype(np.float64).mean(axis=0))
    length = np.abs(field)
    usual = float(length[length > 0].mean()) if (length > 0).any() else 1.0
    damped: np.ndarray = field / (length + usual)
    return damped


def slopes(values: np.ndarray) -> np.ndarray:
    """Derivatives of float64 (H, W) after a Gaussian blur of one pixel, complex: across, and down."""
    pairs = ((_SLOPE, _BLUR), (_BLUR, _SLOPE))
    across, down = (
        cv2.sepFilter2D(values, cv2.CV_64F, x, y, borderType=cv2.BORDER_REFLECT) for x, y in pairs
    )
    found: np.ndarray = across + 1j * down
    return found
