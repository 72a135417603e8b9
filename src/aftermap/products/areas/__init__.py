"""A map by areas: layers for GIS, a table, a page that opens offline and a picture."""
