"""Masks in the colours of their classes, alone or over an image."""

from collections.abc import Sequence

import numpy as np

from aftermap.classes import IGNORE, ClassScheme
from aftermap.data.legends import rgb

UNKNOWN = "#ff00c8"
_STRIPES = ((255, 255, 255), (190, 190, 190))


def palette(colours: Sequence[str], rest: str = "#000000") -> np.ndarray:
    """Colours by class, uint8 (256, 3); `rest` where there is no class."""
    table = np.full((256, 3), rgb(rest), np.uint8)
    table[: len(colours)] = [rgb(colour) for colour in colours]
    return table


def painted(mask: np.ndarray, scheme: ClassScheme) -> np.ndarray:
    """A mask (H, W) in the colours of its classes, uint8 (H, W, 3); unknown pixels in grey stripes.

    Raises:
        ValueError: it holds a value that is no class.
    """
    strange = (mask >= len(scheme)) & (mask != IGNORE)
    if strange.any():
        raise ValueError(
            f"the mask holds {mask[strange].max()}, expected 0 to {len(scheme) - 1}, or {IGNORE} where unknown"
        )
    image: np.ndarray = palette(scheme.colours)[mask]
    rows, cols = np.nonzero(mask == IGNORE)
    spacing = max(1, min(mask.shape) // 40)
    image[rows, cols] = np.array(_STRIPES, np.uint8)[(rows + cols) // spacing % 2]
    return image


def overlay(
    image: np.ndarray, mask: np.ndarray, scheme: ClassScheme, *, opacity: float = 0.6, striped: bool = False
) -> np.ndarray:
    """Image uint8 (H, W, 3) with the classes of a mask (H, W) laid over it; the background stays clear.

    Unknown pixels stay clear too, or are striped.
    """
    table = palette(scheme.colours, rest=UNKNOWN)
    covered = (mask != IGNORE) & (mask != (scheme.background if scheme.background is not None else IGNORE))
    if striped:
        rows, cols = np.indices(mask.shape)
        spacing = max(2, min(mask.shape) // 24)
        covered |= (mask == IGNORE) & ((rows + cols) % (2 * spacing) < spacing)
    mixed = image * (1 - opacity) + table[mask].astype(np.float32) * opacity
    return np.where(covered[..., None], mixed, image).astype(np.uint8)
