#!/usr/bin/env bash
# rasterio 1.4.4: GDAL_CACHEMAX given to rasterio.Env is a number of bytes, in the environment (and everywhere in GDAL's own
# documentation) a small number is megabytes. `rasterio.Env(GDAL_CACHEMAX=128)` therefore leaves a block cache of 128 bytes:
# nothing fails, but of a PNG every window is decoded from the first row on, again and again. Words such as "128MB" or "5%",
# which GDAL takes, end in "TypeError: an integer is required".
#
# Seen: reading the right end of 16 rows whose left end was just read, 900 rows down a 1024 px PNG: with 128 about 70 times
# the processor seconds that it takes with 128 * 2**20 (asserted: 5 times over 20 such rows); get_gdal_config says 128.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet rasterio==1.4.4 numpy==2.4.1
cd "$work"
venv/bin/python - <<'PY'
import time
import warnings

import numpy as np
import rasterio
from rasterio._env import get_gdal_config

warnings.simplefilter("ignore")
pixels = np.random.default_rng(0).integers(0, 256, (3, 1024, 1024), dtype=np.uint8)
with rasterio.open("noise.png", "w", driver="PNG", width=1024, height=1024, count=3, dtype="uint8") as file:
    file.write(pixels)


def seconds(cache):
    spent = 0.0
    with rasterio.Env(GDAL_CACHEMAX=cache), rasterio.open("noise.png") as file:
        print(f"rasterio.Env(GDAL_CACHEMAX={cache}): GDAL says {get_gdal_config('GDAL_CACHEMAX')}", end=", ")
        for row in range(600, 1000, 20):
            file.read(window=((row, row + 16), (0, 16)))
            begun = time.process_time()
            file.read(window=((row, row + 16), (1008, 1024)))
            spent += time.process_time() - begun
    print(f"{spent:.4f} s for 20 windows beside ones just read")
    return spent


few, many = seconds(128), seconds(128 * 2**20)
assert few > 5 * many, "128 is no longer a cache of 128 bytes"
try:
    with rasterio.Env(GDAL_CACHEMAX="128MB"):
        raise SystemExit("words are taken now: the finding is out of date")
except TypeError as error:
    print(f'rasterio.Env(GDAL_CACHEMAX="128MB"): TypeError: {error}')
PY
