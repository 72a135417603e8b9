#!/usr/bin/env bash
# GDAL's PMTiles driver (GDAL 3.12.4 in the wheel of pyogrio 0.13.0) cannot write a layer without features: it fails with
# "Invalid bounds", while FlatGeobuf, GeoPackage and GeoJSON write the same empty layer. Whoever publishes a layer of what was
# found has to leave the tiles out, or another driver has to write them, on the day that nothing was found.
#
# Seen: DataSourceError with "Invalid bounds"; the other three drivers write a file.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyogrio==0.13.0 geopandas==1.2.0 numpy==2.4.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import geopandas
import pyogrio
import shapely

empty = geopandas.GeoDataFrame({"damage": ["none"]}, geometry=[shapely.box(14, 40, 14.1, 40.1)], crs=4326)[:0]
for driver, name in (("FlatGeobuf", "a.fgb"), ("GPKG", "a.gpkg"), ("GeoJSON", "a.geojson")):
    pyogrio.write_dataframe(empty, name, driver=driver, geometry_type="Polygon")
try:
    pyogrio.write_dataframe(empty, "a.pmtiles", driver="PMTiles", geometry_type="Polygon")
except Exception as error:
    print("GDAL", pyogrio.__gdal_version__, type(error).__name__, error)
    sys.exit(0 if "Invalid bounds" in str(error) else 1)
sys.exit("an empty layer was written as PMTiles: this finding is out of date")
PY
