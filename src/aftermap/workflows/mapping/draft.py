"""The small pictures that a draft of a map keeps of its images, for the page of the map that it is merged into."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from aftermap.errors import InputError
from aftermap.files import write_bytes
from aftermap.products.view import View

PICTURE_PX = 512
"""Longest side of the pictures that are kept."""

_NAMES = ("before", "after")
_QUALITY = 90

FILES = tuple(f"{name}{ending}" for name in _NAMES for ending in (".jpg", "-seen.png"))
"""What `keep_pictures` writes."""


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
        share = min(1.0, PICTURE_PX / max(rgb.shape[:2]))
        size = (max(1, round(rgb.shape[1] * share)), max(1, round(rgb.shape[0] * share)))
        pixels = np.ascontiguousarray(rgb[:, :, ::-1])
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if share < 1 else pixels
        packed = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1].tobytes()
        write_bytes(folder / f"{name}.jpg", packed, sync=False)
        seen = cv2.resize(valid.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
        write_bytes(folder / f"{name}-seen.png", cv2.imencode(".png", seen)[1].tobytes(), sync=False)


def read_pictures(folder: Path) -> Pictures:
    """What `keep_pictures` wrote.

    Raises:
        InputError: it cannot be read.
    """
    return Pictures(*(_read(folder, name) for name in _NAMES))


def _read(folder: Path, name: str) -> np.ndarray:
    pixels = cv2.imread(str(folder / f"{name}.jpg"))
    seen = cv2.imread(str(folder / f"{name}-seen.png"), cv2.IMREAD_GRAYSCALE)
    if pixels is None or seen is None:
        raise InputError(f"the pictures in {folder} cannot be read")
    return np.dstack([cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), seen])
