"""A finished map counted by areas: cells, squares, polygons of the user, tiles of the images."""
