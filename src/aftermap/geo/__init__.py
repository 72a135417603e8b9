"""Geometry: grids, windows, rasters, alignment of two dates, polygons. No torch here."""

from aftermap.lazily import import_without

import_without("rasterio.session", "boto3")  # for addresses of S3, and a tenth of what a map takes to start
