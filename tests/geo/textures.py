"""Random images with structure to align and resample."""

from functools import lru_cache

import cv2
import numpy as np


def texture(height: int, width: int, *, seed: int = 0, bands: int = 3) -> np.ndarray:
    """A smooth random image with structure at several scales, uint8 (bands, H, W); made once, and copied."""
    return _made(height, width, seed, bands).copy()


@lru_cache(maxsize=16)
def _made(height: int, width: int, seed: int, bands: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(bands):
        total = np.zeros((height, width))
        for sigma in (1.2, 3.0, 8.0):
            layer = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigma)
            total += layer / layer.std()
        layers.append(total)
    image = np.stack(layers)
    return np.clip(128 + 25 * image, 1, 255).astype(np.uint8)
