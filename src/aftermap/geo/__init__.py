"""Geometry: grids, windows, rasters, alignment of two dates, polygons. No torch here."""
