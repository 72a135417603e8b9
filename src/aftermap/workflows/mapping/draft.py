"""The small pictures that a draft of a map keeps of its images, for the page of the map that it is merged into."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from aftermap.files import write_bytes
from aftermap.products.view import View

PICTURE_PX = 512
"""Longest side of the pictures that are kept."""

_NAMES = ("before.png", "after.png")


@dataclass(frozen=True)
class Pictures:
    """Both dates, reduced: uint8 (H, W, 4), red, green, blue and 255 where there is data."""

    before: np.ndarray
    after: np.ndarray


def keep_pictures(view: View, folder: Path) -> None:
    """Write the two pictures of a map, at most `PICTURE_PX` wide and high.

    Raises:
        OutputError: they cannot be written.
    """
    for name, picture in zip(_NAMES, view.pictures, strict=True):
        rgb = picture.rgb if picture.rgb.shape[-1] == 3 else np.moveaxis(picture.rgb, 0, -1)
        valid = np.ones(rgb.shape[:2], bool) if picture.valid is None else picture.valid
        pixels = np.dstack([rgb[:, :, ::-1], np.where(valid, np.uint8(255), np.uint8(0))])
        share = min(1.0, PICTURE_PX / max(pixels.shape[:2]))
        size = (max(1, round(pixels.shape[1] * share)), max(1, round(pixels.shape[0] * share)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if share < 1 else pixels
        packed = cv2.imencode(".png", small, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()
        write_bytes(folder / name, packed, sync=False)


def read_pictures(folder: Path) -> Pictures:
    """What `keep_pictures` wrote."""
    first, second = (
        cv2.cvtColor(cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
        for name in _NAMES
    )
    return Pictures(first, second)
