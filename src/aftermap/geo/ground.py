"""What is ground and what is not: the one rule for maps, data sets, training and self-training.

A pixel is ground unless something says that nothing was seen there: an opacity band (ground from more than half of
its full value on), a mask beside the bands, a nodata value that all bands hold, a value that is not finite, or a
block that a sparse TIFF leaves out. Where several are given, each can take ground away. Mosaics often end in black,
white or a number that no sensor measures and say nothing about it; `rests` guesses that, and whoever uses the guess
tells the user.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from aftermap.errors import RasterError

Nodata = float | Literal["declared", "none"]
"""What a user says of missing ground: its value, `declared` for what the files say and no guess, or `none` where every
pixel is ground."""


def parse_nodata(text: str) -> Nodata:
    """What `--nodata` says.

    Raises:
        RasterError: neither a number nor one of the words.
    """
    match text.strip().lower():
        case "none":
            return "none"
        case "declared":
            return "declared"
    try:
        return float(text)
    except ValueError:
        raise RasterError(
            f"--nodata {text} is no value: pass the value of pixels without ground, such as 0, declared to believe "
            "the files and guess nothing, or none where every pixel is ground"
        ) from None


def check_nodata(value: float | None, dtype: str, name: object) -> None:
    """Refuse a value that the user gave and that no pixel of a type can have.

    Raises:
        RasterError: says which values it can have.
    """
    kind = np.dtype(dtype)
    if value is None or kind.kind == "f" or _in_type(value, dtype) is not None:
        return
    limits = np.iinfo(kind)
    raise RasterError(
        f"--nodata {value:g}: {name} holds {dtype} values, expected a whole number from {limits.min} to {limits.max}, "
        "declared or none"
    )


def band_nodata(declared: Sequence[float | None], dtype: str) -> tuple[float | None, ...] | None:
    """Nodata value of every band, None for bands whose values do not count; None where no band has one.

    A value that only some bands declare holds for the others too, unless the declared ones differ.
    """
    usable = [_in_type(value, dtype) for value in declared]
    known = {value for value in usable if value is not None}
    if not known:
        return None
    return (known.pop(),) * len(usable) if len(known) == 1 else tuple(usable)


def holds_nodata(array: np.ndarray, nodata: Sequence[float | None]) -> np.ndarray:
    """Pixels (H, W) of (C, H, W) where every band that has a nodata value holds it."""
    empty = np.ones(array.shape[1:], bool)
    for band, value in zip(array, nodata, strict=True):
        if value is not None:
            empty &= band == band.dtype.type(value)
    return empty


def opaque_value(samples: np.ndarray) -> float | None:
    """Full value of an opacity band, or None where the band is data.

    GDAL's writers call the fourth band of any 8-bit image alpha unless told otherwise, so near infrared often carries
    that name. Of the pixels that are not 0, at least half of an opacity band are at its full value, whatever that is.
    """
    values = (
        samples[np.isfinite(samples) & (samples > 0)] if samples.dtype.kind == "f" else samples[samples > 0]
    )
    if not values.size:
        return 0.0
    full = values.max()
    return float(full) if np.mean(values == full) >= 0.5 else None


def is_opaque(alpha: np.ndarray, full: float) -> np.ndarray:
    """Where an opacity band lets ground be seen: above half of its full value."""
    seen: np.ndarray = alpha.astype(np.float64) * 2 > full if full > 0 else np.zeros(alpha.shape, bool)
    return seen


def _in_type(value: float | None, dtype: str) -> float | None:
    """The value as pixels of a type hold it, or None where they cannot."""
    if value is None or np.isnan(value):
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return float(kind.type(value))
    limits = np.iinfo(kind)
    return float(value) if float(value).is_integer() and limits.min <= value <= limits.max else None
