"""Overviews: whole scenes reduced to a size that a page or a figure can show, and outlines to draw on them."""

import cv2
import geopandas as gpd
import numpy as np
import shapely
from PIL import Image

from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.products.cog import probability_colormap

_ROWS_AT_ONCE = 256
_OVER_IMAGE = 0.8
_GREY = 0.75


def as_image(
    rgb: np.ndarray, grid: Grid, max_side_px: int, *, valid: np.ndarray | None = None
) -> Image.Image:
    """An overview as a picture of at most `max_side_px`, transparent where it is not valid.

    Args:
        rgb: uint8 (H, W, 3) or (3, H, W), showing the whole grid.
        grid: the grid it shows, of the same proportions.
        max_side_px: larger images are reduced.
        valid: bool (H, W), or None where all of it is.

    Raises:
        ValueError: another type or shape, or proportions that are not the grid's.
    """
    pixels = as_pixels(rgb, grid)
    image = Image.fromarray(pixels)
    if valid is not None and not valid.all():
        if valid.shape != pixels.shape[:2]:
            raise ValueError(f"the mask of {valid.shape} does not fit the overview of {pixels.shape[:2]}")
        image.putalpha(Image.fromarray(valid.astype(np.uint8) * 255))
    if max(image.size) > max_side_px:
        image.thumbnail((max_side_px, max_side_px), Image.Resampling.BOX)
    return image


def as_pixels(rgb: np.ndarray, grid: Grid) -> np.ndarray:
    """An overview as uint8 (H, W, 3), in one piece of memory; see `as_image`."""
    if rgb.ndim == 3 and rgb.shape[0] == 3 and rgb.shape[2] != 3 and rgb.dtype == np.uint8:
        rgb = cv2.merge(list(rgb))  # thirty times as fast as a copy of a transposed view
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"the overview is {rgb.dtype} {rgb.shape}, expected uint8 (H, W, 3) or (3, H, W)")
    height, width = rgb.shape[:2]
    # A reduced side is rounded to whole pixels, hence the slack of one pixel.
    if (
        abs(width * grid.height - height * grid.width)
        > max(grid.width, grid.height) + 0.01 * width * grid.height
    ):
        raise ValueError(
            f"an overview of {width} x {height} does not show a grid of {grid.width} x {grid.height}"
        )
    return np.ascontiguousarray(rgb)


def heat(rgb: np.ndarray, probability: np.ndarray, *, levels: int) -> np.ndarray:
    """A probability in its colours over a dimmed grey image.

    Args:
        rgb: uint8 (3, H, W).
        probability: uint8 (H, W), `levels` where it is 1; larger values are not known and show the image alone.
        levels: see there.

    Returns:
        uint8 (3, H, W).
    """
    table = np.zeros((256, 4), np.float32)
    for value, colour in probability_colormap(levels).items():
        table[value] = colour
    mixed = np.empty_like(rgb)
    for top in range(0, rgb.shape[1], _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        grey = 0.6 * rgb[:, rows].astype(np.float32).mean(axis=0)
        shown = table[probability[rows]].transpose(2, 0, 1)
        share = shown[3] / 255 * 0.85
        mixed[:, rows] = np.rint(grey * (1 - share) + shown[:3] * share)
    return mixed


def paint(rgb: np.ndarray, classes: np.ndarray, colours: dict[int, str]) -> np.ndarray:
    """Classes in their colours over a grey image, uint8 (3, H, W); what has no colour shows the image alone.

    Args:
        rgb: uint8 (3, H, W).
        classes: uint8 (H, W).
        colours: `#rrggbb` by class index.
    """
    table, share = np.zeros((256, 3), np.float32), np.zeros(256, np.float32)
    for index, colour in colours.items():
        table[index] = tuple(bytes.fromhex(colour.removeprefix("#")))
        share[index] = _OVER_IMAGE
    grey = _GREY * rgb.astype(np.float32).mean(axis=0)
    weight = share[classes]
    mixed: np.ndarray = np.rint(grey * (1 - weight) + table[classes].transpose(2, 0, 1) * weight).astype(
        np.uint8
    )
    return mixed


def in_pixels(frame: gpd.GeoDataFrame, grid: Grid) -> np.ndarray:
    """The frame's polygons in pixels of the grid; shells turn one way, holes the other."""
    shapes = frame.geometry
    if frame.crs is not None and grid.crs is not None and frame.crs != grid.crs:
        with transforming():
            shapes = shapes.to_crs(grid.crs)
    t = ~grid.transform
    matrix, offset = np.array([[t.a, t.b], [t.d, t.e]]), np.array([t.c, t.f])
    moved = shapely.transform(shapes.to_numpy(), lambda xy: xy @ matrix.T + offset)
    oriented: np.ndarray = shapely.orient_polygons(moved)
    return oriented
