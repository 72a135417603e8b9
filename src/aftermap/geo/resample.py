"""Resampling of pixels with a validity mask: block means and warps."""

from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from aftermap.errors import RasterError
from aftermap.geo.grid import Grid
from aftermap.geo.lattice import short_name
from aftermap.geo.limits import GDAL_ERRORS, GDAL_OPTIONS, one_line

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
