"""The whole map as small pictures, gathered from the windows that are read for the model: no pixel is read twice."""

import math
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import cv2
import numpy as np

from aftermap.files import writing
from aftermap.geo.grid import Grid, Window
from aftermap.geo.resample import reduce_blocks
from aftermap.inference.tiling import Sample

OVERVIEW_PX = 8_000_000
"""Pixels of the images in `map.html`; larger scenes are reduced by the smallest whole number that suffices."""

_READ_PX = 2_000_000


class Overview:
    """Each date reduced to means of square blocks.

    Blocks at the right and lower edge may hold fewer pixels, so a picture may reach less than one of its own pixels
    beyond the map.

    Args:
        grid: of the map.
        pixels: the most there may be.

    Attributes:
        step: side of a block.
    """

    def __init__(self, grid: Grid, pixels: int = OVERVIEW_PX) -> None:
        self._grid, self.step = grid, block_px(grid, pixels)
        self._known = np.zeros((-(-grid.height // self.step), -(-grid.width // self.step)), bool)
        self._images: list[np.ndarray] = []  # (H, W, C), as they are shown
        self._folder: Path | None = None
        self._maps: list[mmap.mmap] = []
        # True where a date has no data; what is never written takes no memory
        self._missing: list[np.ndarray] = []

    def keep_in(self, folder: Path) -> None:
        """Gather the pictures in nameless files of a folder instead of memory, where the system has such."""
        self._folder = folder

    def rest(self) -> None:
        """Leave what was gathered to those files until it is asked for; without them nothing happens."""
        for held in self._maps:
            held.madvise(mmap.MADV_DONTNEED)

    def add(self, window: Window, sample: Sample) -> None:
        """Take the blocks that lie within a window of the map; those that are known come out the same again."""
        step, (height, width) = self.step, self._known.shape
        top, left = -(-window.row // step), -(-window.col // step)
        below, right = window.row + window.height, window.col + window.width
        bottom = height if below >= self._grid.height else below // step
        last = width if right >= self._grid.width else right // step
        if top >= bottom or left >= last or self._known[top:bottom, left:last].all():
            return
        rows = slice(top * step - window.row, min(bottom * step, self._grid.height) - window.row)
        cols = slice(left * step - window.col, min(last * step, self._grid.width) - window.col)
        if not self._images:
            shape = height, width, sample.images.shape[1]
            self._images = [self._blank(shape, sample.images.dtype) for _ in sample.images]
            self._missing = [np.zeros((height, width), bool) for _ in sample.images]
        for image, missing, pixels, mask in zip(
            self._images, self._missing, sample.images, sample.valid, strict=True
        ):
            means, seen = _reduced(pixels[:, rows, cols], mask[rows, cols], step)
            if not seen.all():
                missing[top:bottom, left:last] = ~seen
                means = np.where(seen, means, means.dtype.type(0))
            image[top:bottom, left:last] = means.transpose(1, 2, 0)
        self._known[top:bottom, left:last] = True

    def finished(self, read: Callable[[Window], Sample]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The pictures; what no window held is read now, as after a run that went on with one that was interrupted.

        Returns:
            each date (C, H, W), 0 where it has no data, and where it has, bool (H, W).
        """
        for window in self._gaps():
            self.add(window, read(window))
        return [image.transpose(2, 0, 1) for image in self._images], [~missing for missing in self._missing]

    def _blank(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Zeros, in a file where there is a folder for it: its pages can be given back while nobody looks."""
        size = math.prod(shape) * dtype.itemsize
        if self._folder is None or not (hasattr(os, "posix_fallocate") and hasattr(mmap, "MADV_DONTNEED")):
            return np.zeros(shape, dtype)
        with writing(self._folder, resumable=True), TemporaryFile(dir=self._folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk would else kill the process later
            held = mmap.mmap(file.fileno(), size)
        self._maps.append(held)
        return np.frombuffer(held, dtype).reshape(shape)

    def _gaps(self) -> Iterator[Window]:
        step, grid = self.step, self._grid
        rows = max(1, _READ_PX // (grid.width * step))
        for top in range(0, len(self._known), rows):
            if not self._known[top : top + rows].all():
                row = top * step
                yield Window(row, 0, min(rows * step, grid.height - row), grid.width)


def block_px(grid: Grid, pixels: int) -> int:
    """Side of the square blocks of a grid of which there are at most about so many."""
    return max(1, math.ceil(math.sqrt(grid.width * grid.height / pixels)))


def block_middles(length: int, step: int) -> np.ndarray:
    """The pixel that stands for each block along one direction, int (n,)."""
    middles: np.ndarray = np.minimum(np.arange(-(-length // step)) * step + step // 2, length - 1)
    return middles


def _reduced(image: np.ndarray, valid: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of blocks (C, H, W) over valid pixels, and where at least half of a block is valid (H, W)."""
    if step == 1:
        return image, valid
    down, right = -image.shape[1] % step, -image.shape[2] % step
    if down or right:
        image = np.pad(image, ((0, 0), (0, down), (0, right)), mode="edge")
        valid = np.pad(valid, ((0, down), (0, right)), mode="edge")
    height, width = valid.shape[0] // step, valid.shape[1] // step
    means = np.stack([cv2.resize(band, (width, height), interpolation=cv2.INTER_AREA) for band in image])
    if valid.all():
        return means, np.ones((height, width), bool)
    whole = valid.reshape(height, step, width, step).all(axis=(1, 3))
    partly, mask = reduce_blocks(image, valid, step, mean=True)
    return np.where(whole, means, partly), mask
