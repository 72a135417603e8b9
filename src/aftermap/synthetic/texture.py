"""Noise at several scales: what keeps painted ground, roofs and water from being flat."""

from dataclasses import dataclass

import cv2
import numpy as np

FINE, GRAIN, MID, COARSE, BROAD, PATCH = range(6)
"""Channels of a noise bank, from single pixels to hundreds of metres; PATCH is a second, independent middle scale."""


def value_noise(rng: np.random.Generator, size_px: int, cell_px: float) -> np.ndarray:
    """Smooth noise of unit variance whose features are about `cell_px` wide; float32 (size, size)."""
    count = int(np.ceil(size_px / cell_px)) + 4
    grid = rng.standard_normal((count, count), dtype=np.float32)
    wide = max(int(np.ceil(count * cell_px)), size_px + 2)
    if cell_px <= 1:
        return grid[:size_px, :size_px]
    large: np.ndarray = cv2.resize(grid, (wide, wide), interpolation=cv2.INTER_CUBIC)
    row, col = rng.integers(0, wide - size_px, 2)
    cut = large[row : row + size_px, col : col + size_px]
    scaled: np.ndarray = cut / max(float(cut[::4, ::4].std()), 1e-3)
    return scaled


def fractal_noise(
    rng: np.random.Generator, size_px: int, cell_px: float, octaves: int, gain: float
) -> np.ndarray:
    """Sum of `octaves` noises, each half as wide and `gain` times as strong as the one before; unit variance."""
    total = np.zeros((size_px, size_px), np.float32)
    weight, power = 1.0, 0.0
    for octave in range(octaves):
        cell = cell_px / 2**octave
        if cell < 1:
            break
        total += weight * value_noise(rng, size_px, cell)
        power += weight**2
        weight *= gain
    total *= 1 / np.sqrt(max(power, 1e-6))
    return total


@dataclass(frozen=True)
class NoiseBank:
    """The noises of one scene.

    Attributes:
        layers: float32 (6, size, size), unit variance, in the order of the channel constants.
    """

    layers: np.ndarray

    @classmethod
    def make(cls, rng: np.random.Generator, size_px: int, gsd_m: float) -> "NoiseBank":
        """Draw a bank whose scales are fixed on the ground, so that texture follows the resolution."""
        fine = rng.standard_normal((size_px, size_px), dtype=np.float32)
        grain = fractal_noise(rng, size_px, max(2.2 / gsd_m, 2.0), 2, 0.8)
        mid = fractal_noise(rng, size_px, rng.uniform(7, 14) / gsd_m, 3, 0.7)
        coarse = fractal_noise(rng, size_px, rng.uniform(30, 60) / gsd_m, 4, rng.uniform(0.5, 0.75))
        broad = fractal_noise(rng, size_px, rng.uniform(110, 260) / gsd_m, 3, 0.5)
        patch = fractal_noise(rng, size_px, rng.uniform(10, 25) / gsd_m, 4, rng.uniform(0.55, 0.8))
        return cls(np.stack([fine, grain, mid, coarse, broad, patch]))

    def later(self, change: float) -> "NoiseBank":
        """The textures of another date: `change` is the share (0..1) of the variance that is new at small scales."""
        new = self.layers[:, ::-1, ::-1]
        share = np.array([1.0, change, change, change * 0.7, change * 0.3, change], np.float32)[:, None, None]
        return NoiseBank(np.sqrt(1 - share) * self.layers + np.sqrt(share) * new)

    def crop(self, channel: int, rows: slice, cols: slice) -> np.ndarray:
        """A window of one channel."""
        cut: np.ndarray = self.layers[channel, rows, cols]
        return cut


def stripes(
    shape: tuple[int, int], origin: tuple[float, float], angle: float, period_px: float
) -> np.ndarray:
    """Parallel waves between -1 and 1 (crop rows, corrugation), float32 of `shape`; `origin` is (col, row)."""
    cols = np.arange(shape[1], dtype=np.float32) + np.float32(origin[0])
    rows = np.arange(shape[0], dtype=np.float32) + np.float32(origin[1])
    phase = cols[None, :] * np.float32(np.cos(angle)) + rows[:, None] * np.float32(np.sin(angle))
    wave: np.ndarray = np.sin(phase * np.float32(2 * np.pi / period_px))
    return wave
