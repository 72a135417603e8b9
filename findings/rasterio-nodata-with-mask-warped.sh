#!/usr/bin/env bash
# rasterio 1.4.4 with the GDAL 3.10.3 of its wheel: a GeoTIFF with a nodata value and an internal mask is read by the one and
# warped by the other, so that `dataset_mask()` and a WarpedVRT of the same file call different pixels valid.
#
# Both are legal together, and mosaics that were cut to a footprint have them: nodata for holes in the imagery, a mask for the
# cut. The dataset reports mask flags `per_dataset` and its masks follow the internal mask alone: holes are valid. A WarpedVRT
# onto the same grid follows nodata alone: what the mask hides is valid. Neither warns. Who wants both has to read both.
#
# Seen: dataset_mask: nodata rows hidden 0 %, masked columns hidden 100 %; WarpedVRT: 100 %, 0 %.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet rasterio==1.4.4 numpy==2.4.1
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

pixels = np.full((3, 8, 8), 100, np.uint8)
pixels[:, :2] = 0  # two rows without imagery
mask = np.full((8, 8), 255, np.uint8)
mask[:, 6:] = 0  # two columns cut away
place = {"crs": "EPSG:32615", "transform": Affine(1, 0, 500000, 0, -1, 4000000)}
with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
    with rasterio.open("both.tif", "w", driver="GTiff", width=8, height=8, count=3, dtype="uint8", nodata=0, **place) as file:
        file.write(pixels)
        file.write_mask(mask)


def hidden(valid):
    return float((valid[:2, :6] == 0).mean()), float((valid[2:, 6:] == 0).mean())


with rasterio.open("both.tif") as file:
    assert file.nodata == 0 and file.mask_flag_enums[0] == [rasterio.enums.MaskFlags.per_dataset]
    read = hidden(file.dataset_mask())
    with WarpedVRT(file, crs=file.crs) as warped:
        turned = hidden(warped.dataset_mask())
print(f"rasterio {rasterio.__version__}, GDAL {rasterio.__gdal_version__}")
print(f"dataset_mask: nodata rows hidden {read[0]:.0%}, masked columns hidden {read[1]:.0%}")
print(f"WarpedVRT:    nodata rows hidden {turned[0]:.0%}, masked columns hidden {turned[1]:.0%}")
assert read == (0.0, 1.0) and turned == (1.0, 0.0), "they agree now, or differ otherwise: the finding is out of date"
PY
