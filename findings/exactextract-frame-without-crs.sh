#!/usr/bin/env bash
# exactextract 0.3.0: polygons in a GeoDataFrame without a reference system end in an AttributeError, although the raster has
# none either and a list of GeoJSON features with the same polygons is taken. Grids of drone images and of images in pixels have no
# reference system, so both sides have to be given one, whichever, or the polygons have to go in as features.
#
# Seen: AttributeError: 'NoneType' object has no attribute 'to_wkt' for the frame, [4.0] for the feature.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet exactextract==0.3.0 geopandas==1.2.0 numpy==2.4.1
"$work/venv/bin/python" - <<'PY'
import sys

import geopandas
import numpy as np
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource

raster = NumPyRasterSource(np.ones((2, 2)), 0, 0, 2, 2)
square = shapely.box(0, 0, 2, 2)
feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(square)}
taken = exact_extract(raster, [feature], ["sum"])[0]["properties"]["sum"]
try:
    exact_extract(raster, geopandas.GeoDataFrame({"a": [1]}, geometry=[square]), ["sum"])
except AttributeError as error:
    print("feature:", taken, "frame:", error)
    sys.exit(0 if taken == 4 and "to_wkt" in str(error) else 1)
sys.exit("a frame without a reference system was taken: this finding is out of date")
PY
