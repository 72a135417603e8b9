"""Resampling of pixels with a validity mask: block means and warps."""

from typing import Any, Literal

import cv2
import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from aftermap.errors import RasterError
from aftermap.geo.grid import Grid
from aftermap.geo.lattice import short_name
from aftermap.geo.opening.limits import GDAL_ERRORS, GDAL_OPTIONS, one_line

MOVABLE = ("uint8", "uint16", "int16", "float32")
"""Types of pixels that `moved` takes."""

Interpolation = Literal["bilinear", "nearest"]

_PLANE = CRS.from_epsg(3857)
"""Stands for "no reference system" on both sides of a warp between pixel grids."""

_LARGEST_SMALL_STEP = 128  # blocks of 16-bit values whose sum is below 2**31


def reduce_blocks(
    array: np.ndarray, valid: np.ndarray, step: int, *, mean: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the valid pixels of every `step` x `step` block, or its middle pixel."""
    if not mean:
        middle = step // 2
        return array[:, middle::step, middle::step], valid[middle::step, middle::step]
    number = _block_sums(valid[None], step, np.int32)[0]
    # Sums of whole numbers are exact; invalid pixels hold 0.
    small = array.dtype.itemsize <= 2 and step <= _LARGEST_SMALL_STEP
    whole = array.dtype.kind in "iu" and array.dtype.itemsize < 8
    kind = np.int32 if whole and small else np.int64 if whole else np.float64
    average = _block_sums(array, step, kind) / np.maximum(number, 1)
    if array.dtype.kind in "iu":
        average = np.rint(average)
    # As in a warp: at least half of the area has to hold data.
    return average.astype(array.dtype), 2 * number >= step * step


def _block_sums(array: np.ndarray, step: int, kind: type[np.number[Any]]) -> np.ndarray:
    """Sum of every `step` x `step` block of (C, H, W), rows first, which lie together in memory."""
    count, height, width = array.shape[0], array.shape[1] // step, array.shape[2] // step
    rows = np.zeros((count, height, array.shape[2]), kind)
    for offset in range(step):
        rows += array[:, offset::step]
    total = np.zeros((count, height, width), kind)
    for offset in range(step):
        total += rows[:, :, offset::step]
    return total


def moved(array: np.ndarray, valid: np.ndarray, down: float, right: float) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear interpolation between pixels, by the same part of a pixel everywhere; only valid pixels contribute.

    What `warp` gives for a grid that lies beside the source's by less than a pixel, a grey level here and there apart,
    in a fifth of its time: pixels are valid where the nearest one is.

    Args:
        array: (C, H + 1, W + 1) of at most 16 bits or float32, 0 where not valid.
        valid: (H + 1, W + 1).
        down: share of the next row, 0 to 1.
        right: share of the next column.

    Returns:
        (C, H, W) and (H, W).
    """
    rows, cols = np.array([1 - down, down]), np.array([1 - right, right])

    def mixed(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.sepFilter2D(values, cv2.CV_32F, cols, rows, anchor=(0, 0))[:-1, :-1])

    height, width = valid.shape[0] - 1, valid.shape[1] - 1
    row, col = int(down >= 0.5), int(right >= 0.5)
    mask = valid[row : row + height, col : col + width].copy()
    share = None if valid.all() else mixed(valid.view(np.uint8))
    pixels = np.empty((len(array), *mask.shape), array.dtype)
    for band, values in zip(pixels, array, strict=True):
        mean = mixed(values)
        if share is not None:
            mean = np.divide(mean, share, out=np.zeros_like(mean), where=mask)  # at least a quarter there
        if array.dtype.kind in "iu":
            mean += np.float32(0.5)
            np.floor(mean, out=mean)
        band[:] = mean
    return pixels, mask


def warp(
    array: np.ndarray,
    valid: np.ndarray,
    source: Grid,
    target: Grid,
    resampling: Interpolation,
    scale: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Resample (array, valid) from one grid onto another; only valid pixels contribute."""
    dtype = array.dtype
    kind = {"int8": "int16", "int64": "float64", "uint64": "float64", "float16": "float32"}.get(
        dtype.name, dtype.name
    )
    opaque = 255  # an opacity band carries the mask, so that GDAL weighs pixels by it
    stack = np.concatenate([array.astype(kind), (valid * opaque).astype(kind)[None]])
    result = np.zeros((len(stack), *target.shape), kind)
    alpha = len(stack)
    try:
        with rasterio.Env(**GDAL_OPTIONS):
            reproject(
                stack,
                result,
                src_transform=source.transform,
                src_crs=source.crs or _PLANE,
                dst_transform=target.transform,
                dst_crs=target.crs or _PLANE,
                src_alpha=alpha,
                dst_alpha=alpha,
                resampling=Resampling[resampling],
                SRC_ALPHA_MAX=opaque,
                DST_ALPHA_MAX=opaque,
                XSCALE=min(1.0, 1 / scale[0]),
                YSCALE=min(1.0, 1 / scale[1]),
            )
    except GDAL_ERRORS as error:
        raise RasterError(
            f"resampling to {short_name(target.crs or _PLANE)} failed: {one_line(error)}"
        ) from None
    mask = result[-1] >= opaque / 2
    pixels = result[:-1].astype(dtype)
    pixels[:, ~mask] = 0
    return pixels, mask
