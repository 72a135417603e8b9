"""Small georeferenced images made in the test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

UTM = "EPSG:32615"

WriteTif = Callable[..., Path]


@pytest.fixture
def write_tif(tmp_path: Path) -> WriteTif:
    """Write an array (C, H, W) as a GeoTIFF below the test's folder; 1 m pixels in UTM 15N unless told otherwise."""

    def write(name: str, array: np.ndarray, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {
            "driver": "GTiff",
            "count": array.shape[0],
            "height": array.shape[1],
            "width": array.shape[2],
            "dtype": array.dtype.name,
            "crs": UTM,
            "transform": from_origin(367000, 4104000, 1, 1),
        } | options
        mask = profile.pop("mask", None)
        colorinterp = profile.pop("colorinterp", None)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
            dataset.write(array)
            if mask is not None:
                dataset.write_mask(mask)
            if colorinterp is not None:
                dataset.colorinterp = colorinterp
        return path

    return write
