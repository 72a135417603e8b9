"""Pictures of what a model sees: pre, post, truth and prediction side by side."""

from pathlib import Path

import cv2
import numpy as np

from aftermap.classes import BUILDING, DAMAGE, IGNORE, ClassScheme
from aftermap.data.scene import Scene, read_mask

SIDE_PX = 512


def write_sample(path: Path, scene: Scene, images: np.ndarray, probabilities: np.ndarray) -> None:
    """Write a strip of images (T, 3, H, W), truth and most likely class of probabilities (K, H, W)."""
    damage = len(probabilities) == len(DAMAGE)
    scheme = DAMAGE if damage else BUILDING
    truth = read_mask(scene, target="damage" if damage else "building")
    predicted = probabilities.argmax(axis=0).astype(np.uint8)
    backdrop = images[-1].transpose(1, 2, 0)
    panels = [image.transpose(1, 2, 0) for image in images]
    panels += [paint(backdrop, mask, scheme) for mask in (truth, predicted)]
    height, width = truth.shape
    scale = min(1.0, SIDE_PX / max(height, width))
    size = round(width * scale), round(height * scale)
    strip = np.hstack([cv2.resize(panel, size, interpolation=cv2.INTER_AREA) for panel in panels])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(strip[..., ::-1]))


def paint(image: np.ndarray, mask: np.ndarray, scheme: ClassScheme, opacity: float = 0.6) -> np.ndarray:
    """Image uint8 (H, W, 3) with the classes of mask (H, W) laid over it; background and IGNORE stay clear."""
    palette = np.zeros((256, 3), np.float32)
    for index, colour in enumerate(scheme.colours):
        palette[index] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    covered = (mask != IGNORE) & (mask != (scheme.background if scheme.background is not None else IGNORE))
    mixed = image * (1 - opacity) + palette[mask] * opacity
    return np.where(covered[..., None], mixed, image).astype(np.uint8)
