"""A stored answer: what a graph says of a made-up image, kept with it, so that a runtime that computes wrongly is seen.

A runtime compiles a graph anew on every machine, and a compiler can be wrong. The image is made of waves, the same
everywhere; of the answer every eighth pixel is kept. Two images at once, as some faults show only in batches.
"""

import numpy as np

from aftermap.config import Config

PROBE_PX = 64
MOST_DEVIATION = 0.1
"""Mean difference to the stored answer, as a share of its own spread, that rounding may make; faults are far beyond."""

_STRIDE = 8


class Answer(Config):
    """What a graph said of the probe.

    Attributes:
        size_px: height and width of the probe.
        shape: of the kept logits: batch, classes, rows and columns.
        logits: row by row.
    """

    size_px: int
    shape: tuple[int, int, int, int]
    logits: tuple[float, ...]

    @classmethod
    def of(cls, logits: np.ndarray, size_px: int) -> "Answer":
        """The answer to keep, of logits (B, K, H, W)."""
        kept = logits[..., ::_STRIDE, ::_STRIDE].astype(np.float64)
        batch, classes, rows, columns = kept.shape
        values = tuple(round(float(value), 3) for value in kept.ravel())
        return cls(size_px=size_px, shape=(batch, classes, rows, columns), logits=values)

    def deviation(self, logits: np.ndarray) -> float:
        """Mean absolute difference of other logits (B, K, H, W) of the probe, as a share of the answer's spread."""
        kept = logits[..., ::_STRIDE, ::_STRIDE].astype(np.float64)
        if kept.shape != self.shape:
            return np.inf
        own = np.array(self.logits).reshape(self.shape)
        return float(np.abs(kept - own).mean() / max(own.std(), 1e-6))


def probe_size(multiple: int, least_px: int) -> int:
    """The smallest size that a graph takes, from PROBE_PX on."""
    return -(-max(PROBE_PX, least_px) // multiple) * multiple


def probe(dates: int, bands: int, size_px: int) -> np.ndarray:
    """Two made-up images, uint8 (2, dates, bands, size_px, size_px): waves of other lengths in every band and date."""
    row, column = np.mgrid[:size_px, :size_px]
    planes = [
        127.5
        + 55 * np.sin(row / (3 + 2 * band + 5 * image) + date)
        + 55 * np.cos(column / (4 + band + 3 * date) - image)
        for image in range(2)
        for date in range(dates)
        for band in range(bands)
    ]
    return np.rint(planes).astype(np.uint8).reshape(2, dates, bands, size_px, size_px)
