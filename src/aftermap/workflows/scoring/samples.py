"""Pictures of what a model sees: pre, post, truth and prediction side by side."""

from pathlib import Path

import cv2
import numpy as np

from aftermap.classes import BUILDING, DAMAGE
from aftermap.data.scene import Scene, read_mask
from aftermap.products.figures.painting import overlay

SIDE_PX = 512


def write_sample(path: Path, scene: Scene, images: np.ndarray, probabilities: np.ndarray) -> None:
    """Write a strip of images (T, 3, H, W), truth and most likely class of probabilities (K, H, W)."""
    damage = len(probabilities) == len(DAMAGE)
    scheme = DAMAGE if damage else BUILDING
    truth = read_mask(scene, target="damage" if damage else "building")
    predicted = probabilities.argmax(axis=0).astype(np.uint8)
    backdrop = images[-1].transpose(1, 2, 0)
    panels = [image.transpose(1, 2, 0) for image in images]
    panels += [overlay(backdrop, mask, scheme) for mask in (truth, predicted)]
    height, width = truth.shape
    scale = min(1.0, SIDE_PX / max(height, width))
    size = round(width * scale), round(height * scale)
    strip = np.hstack([cv2.resize(panel, size, interpolation=cv2.INTER_AREA) for panel in panels])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(strip[..., ::-1]))
