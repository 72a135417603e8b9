"""Windows over a scene: square tiles with a halo, and weights that blend their overlaps."""

from dataclasses import dataclass

import numpy as np

from aftermap.geo.grid import Window


@dataclass(frozen=True, slots=True)
class Tile:
    """One step of a tiled pass.

    Attributes:
        core: the pixels that this tile alone is responsible for; the cores partition the scene.
        padded: `core` with a halo on every side, always `size` x `size`; it may reach beyond the scene.
    """

    core: Window
    padded: Window


def cover(height: int, width: int, *, size: int, halo: int) -> list[Tile]:
    """Tiles that cover a scene of `height` x `width` pixels, in row order.

    Args:
        height: rows of the scene.
        width: columns of the scene.
        size: side of the padded windows in pixels.
        halo: pixels around each core; neighbouring padded windows overlap by twice as much.

    Raises:
        ValueError: an empty scene, a negative halo, or `size < 4 * halo` (three windows would overlap).
    """
    if height < 1 or width < 1:
        raise ValueError(f"a scene of {height} x {width} pixels cannot be tiled")
    if halo < 0 or size < 1 or size < 4 * halo:
        raise ValueError(
            f"size {size} with halo {halo}: the halo must lie between 0 and a quarter of the size"
        )
    step = size - 2 * halo
    return [
        Tile(
            core=Window(row, col, min(step, height - row), min(step, width - col)),
            padded=Window(row - halo, col - halo, size, size),
        )
        for row in range(0, height, step)
        for col in range(0, width, step)
    ]


def blend_weights(tile: Tile, height: int, width: int) -> np.ndarray:
    """Weights of a tile's padded window, float32 (size, size).

    Over all tiles of one `cover` of a `height` x `width` scene the weights of every pixel sum to 1, at the
    scene's edges and corners too. Pixels beyond the scene weigh 0. The weights are products of a ramp along
    rows and one along columns, linear across each overlap of two windows.
    """
    core, padded = tile.core, tile.padded
    rows = _ramp(core.row, core.height, padded.row, padded.height, height)
    cols = _ramp(core.col, core.width, padded.col, padded.width, width)
    return np.outer(rows, cols).astype(np.float32)


def _ramp(core_start: int, core_length: int, start: int, size: int, length: int) -> np.ndarray:
    """Weights along one axis, float64 (size,)."""
    halo = core_start - start
    weights = np.ones(size)
    if halo:
        rise = (np.arange(2 * halo) + 0.5) / (2 * halo)
        if core_start > 0:
            weights[: 2 * halo] = rise
        if core_start + core_length < length:
            weights[size - 2 * halo :] = 1.0 - rise
    position = start + np.arange(size)
    weights[(position < 0) | (position >= length)] = 0.0
    return weights
