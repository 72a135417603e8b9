"""The one reader of vectors: footprints, areas of interest and training labels from a user's file.

    read_buildings(path, grid=grid)         outlines with the user's ids and columns
    read_footprints(path, grid=grid)        the outlines alone
    read_area_of_interest(path, grid=grid)  an area as the part of an image that lies in it
    read_marks(path, grid=grid)             points and polygons that somebody graded, with their columns
    part_layer(path)                        the file and the layer of FILE:LAYER
    plain_frame(frame)                      a table in memory as any file can hold it

`files` finds out what a file is and which layer is meant, `binary`, `geojson`, `kml` and `delimited` read it, `repair`
makes polygons of its geometries, `ids` names the buildings and `placing` lays them on the image.
"""

from aftermap.geo.vectors.binary import plain_frame
from aftermap.geo.vectors.files import FORMATS, check_vectors, names_area, part_layer
from aftermap.geo.vectors.footprints import (
    Footprints,
    read_area_of_interest,
    read_buildings,
    read_footprints,
)
from aftermap.geo.vectors.ids import ID_COLUMNS
from aftermap.geo.vectors.marks import Marks, read_marks

__all__ = [
    "FORMATS",
    "ID_COLUMNS",
    "Footprints",
    "Marks",
    "check_vectors",
    "names_area",
    "part_layer",
    "plain_frame",
    "read_area_of_interest",
    "read_buildings",
    "read_footprints",
    "read_marks",
]
