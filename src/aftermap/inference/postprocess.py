"""From probabilities to what is stored: damage classes, 8-bit probabilities, reasons for gaps."""

from enum import IntEnum

import numpy as np

from aftermap.classes import DAMAGE, IGNORE

SCALE = 254
"""Probabilities are stored as `round(SCALE * p)`: a step of 0.004, far below what a model knows, in a quarter
of the bytes of float32; 255 stays free for nodata."""


class Missing(IntEnum):
    """Why a pixel is not assessed; 0 where it is."""

    ASSESSED = 0
    PRE = 1
    POST = 2
    CLOUD = 3
    OUTSIDE = 4


REASONS = {
    Missing.PRE: "no data before",
    Missing.POST: "no data after",
    Missing.CLOUD: "cloud",
    Missing.OUTSIDE: "outside",
}
"""Words for `Missing` in the buildings' `reason` column."""


def damage_classes(
    probabilities: np.ndarray, missing: np.ndarray, *, building_threshold: float
) -> np.ndarray:
    """Class of every pixel.

    Args:
        probabilities: (5, H, W) of background and the four damage levels.
        missing: (H, W), 0 where a pixel is assessed.
        building_threshold: a pixel is a building where 1 - p(background) is above this.

    Returns:
        uint8 (H, W): 0 background, 1 to 4 the most probable damage level, 255 not assessed.
    """
    if probabilities.shape[0] == 0:  # nothing of the scene was assessed so far
        return np.full(missing.shape, IGNORE, np.uint8)
    if probabilities.shape[0] != len(DAMAGE):
        raise ValueError(f"{probabilities.shape[0]} classes, expected the {len(DAMAGE)} of {DAMAGE.name}")
    level: np.ndarray = probabilities[1:].argmax(axis=0).astype(np.uint8) + np.uint8(1)
    level[1 - probabilities[0] <= building_threshold] = 0
    level[missing != 0] = IGNORE
    return level


def to_bytes(probabilities: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Probabilities (5, H, W) as uint8, 255 where a pixel is not assessed."""
    if probabilities.shape[0] == 0:
        return np.full((len(DAMAGE), *missing.shape), IGNORE, np.uint8)
    stored: np.ndarray = np.rint(np.clip(probabilities, 0, 1) * np.float32(SCALE)).astype(np.uint8)
    stored[:, missing != 0] = IGNORE
    return stored


def from_bytes(stored: np.ndarray) -> np.ndarray:
    """Probabilities float32 (5, H, W) from `to_bytes`; 0 where a pixel is not assessed."""
    values = stored.astype(np.float32) / np.float32(SCALE)
    values[stored == IGNORE] = 0
    return values
