"""Samples of other libraries: mappings with an image, or two, and a mask."""
