"""Soft labels on disk: class probabilities of a scene in 8 bits, georeferenced where the scene is."""

from pathlib import Path

import numpy as np
import rasterio

from aftermap.data.geotransform import to_grid
from aftermap.data.scene import Scene, SceneGrid
from aftermap.errors import DataError, RasterError
from aftermap.files import replacing
from aftermap.geo.grid import quiet_without_georeference
from aftermap.geo.opening.limits import GDAL_ERRORS, opened

SOFT_SCALE = 254
"""A stored value is the probability times this, rounded."""

SOFT_UNKNOWN = 255
"""Stored where nothing is said about a pixel."""


def write_soft(path: Path, probabilities: np.ndarray, grid: SceneGrid | None) -> Path:
    """Write soft labels as a tiled, deflated 8-bit GeoTIFF; whole or not at all.

    Args:
        path: the file.
        probabilities: float (K - 1, H, W) of the classes from 1 on, one band for buildings alone; NaN where unknown.
        grid: the scene's georeference; None leaves it out.

    Raises:
        OutputError: the file cannot be written.
    """
    count, height, width = probabilities.shape
    unknown = np.isnan(probabilities).any(axis=0)
    stored = np.rint(np.clip(np.nan_to_num(probabilities), 0, 1) * SOFT_SCALE).astype(np.uint8)
    stored[:, unknown] = SOFT_UNKNOWN
    profile: dict[str, object] = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": count,
        "height": height,
        "width": width,
        "nodata": SOFT_UNKNOWN,
        "compress": "deflate",
        "predictor": 2,
    }
    if grid is not None:
        place = to_grid(grid, height=height, width=width)
        profile |= {"crs": place.crs, "transform": place.transform}
    with (
        replacing(path, also=GDAL_ERRORS, parents=True, sync=False) as part,
        quiet_without_georeference(),
        rasterio.open(part, "w", **profile) as file,
    ):
        file.write(stored)
    return path


def read_soft(scene: Scene) -> np.ndarray:
    """Stored soft labels of a scene, uint8 (H, W, K - 1): probability times 254, 255 where unknown.

    Raises:
        DataError: the scene has none, or the file does not fit its image.
    """
    if scene.soft is None:
        raise DataError(f"scene {scene.name} has no soft labels")
    try:
        with opened(scene.soft) as file:
            if file.dtypes[0] != "uint8" or (file.height, file.width) != (scene.height, scene.width):
                raise DataError(
                    f"{scene.soft} has {file.width} x {file.height} pixels of {file.dtypes[0]}, expected "
                    f"{scene.width} x {scene.height} of uint8 as its image"
                )
            stored: np.ndarray = np.ascontiguousarray(file.read().transpose(1, 2, 0))
    except RasterError:
        raise DataError(f"{scene.soft} cannot be read: make the soft labels again") from None
    return stored


def class_probabilities(stored: np.ndarray) -> np.ndarray:
    """float32 (..., K, H, W), background first, of stored values (..., K - 1, H, W); all 0 where unknown."""
    known = (stored != SOFT_UNKNOWN).all(axis=-3, keepdims=True)
    others = np.where(known, stored.astype(np.float32) / SOFT_SCALE, np.float32(0))
    total = others.sum(axis=-3, keepdims=True)
    others = others / np.maximum(total, 1)  # rounding may bring several classes to a little more than 1
    background = np.where(known, 1 - others.sum(axis=-3, keepdims=True), np.float32(0))
    whole: np.ndarray = np.concatenate([background, others], axis=-3).astype(np.float32)
    return whole
