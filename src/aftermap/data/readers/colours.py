"""Coloured label images: from the colours of a legend to class indices."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.preparing.class_image import ClassMask
from aftermap.errors import ReadingError
from aftermap.wording import counted

OffPalette = Literal["refuse", "nearest", "compat"]
TOLERANCE = 32.0
"""Distance in red, green and blue up to which `nearest` takes a colour for another."""

_SHOWN = 3


def decode_colours(
    image: np.ndarray,
    palette: Mapping[tuple[int, int, int], int],
    *,
    off_palette: OffPalette = "refuse",
    tolerance: float = TOLERANCE,
    name: str = "the label image",
) -> ClassMask:
    """Class indices of a coloured label image.

    Args:
        image: uint8 (H, W, 3), red, green, blue.
        palette: mask value of each colour.
        off_palette: what becomes of other colours. `refuse`: an error that says where they are. `nearest`: the colour of
            the palette at the smallest distance (the first of several), unknown where that is above `tolerance`.
            `compat`: class 0, as the original of MiB-CD decodes them.
        tolerance: see there.
        name: of the image, for messages.

    Raises:
        ReadingError: other colours, where these are refused.
    """
    codes = _codes(image)
    table = np.full(1 << 24, -1, np.int16)
    for (red, green, blue), value in palette.items():
        table[red << 16 | green << 8 | blue] = value
    found = table[codes]
    off = found < 0
    count = int(np.count_nonzero(off))
    if count and off_palette == "refuse":
        raise ReadingError(_refusal(image, off, count, name))
    if count and off_palette == "nearest":
        strange = np.unique(codes[off])
        table[strange] = _nearest(strange, palette, tolerance)
        found = table[codes]
    elif count:
        found[off] = 0
    return ClassMask(found.astype(np.uint8), count)


def _codes(image: np.ndarray) -> np.ndarray:
    codes: np.ndarray = image[..., 0].astype(np.int32)
    for band in (1, 2):
        codes <<= 8
        codes |= image[..., band]
    return codes


def _nearest(codes: np.ndarray, palette: Mapping[tuple[int, int, int], int], tolerance: float) -> np.ndarray:
    """Mask values (N) of the nearest colours of the palette; IGNORE for those too far from all."""
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.float64)
    distances = np.linalg.norm(colours[:, None] - np.array(list(palette), np.float64)[None], axis=2)
    values = np.array(list(palette.values()), np.int16)[distances.argmin(axis=1)]
    values[distances.min(axis=1) > tolerance] = IGNORE
    nearest: np.ndarray = values
    return nearest


def _refusal(image: np.ndarray, off: np.ndarray, count: int, name: str) -> str:
    places = np.argwhere(off)
    colours = np.unique(image[off], axis=0)
    shown = ", ".join(
        f"({', '.join(map(str, image[row, col].tolist()))}) at row {row}, column {col}"
        for row, col in places[:_SHOWN]
    )
    more = ", ..." if count > _SHOWN else ""
    kinds = counted(len(colours), "colour")
    return (
        f"{name} has {count} pixels of {kinds} that its legend does not list: {shown}{more}; mend them, choose another "
        "--legend, or pass --off-palette nearest"
    )
