"""A tiny set like that of ISPRS: two cities of 64 px tiles, every class a colour of its own, no background."""

import cv2
import numpy as np

from aftermap.data.legends import LEGENDS
from aftermap.data.scene import Manifest, Scene, Tile

COLOURS = ((120, 120, 120), (200, 60, 50), (150, 200, 90), (30, 110, 40), (240, 220, 60), (150, 60, 180))
"""Of impervious surfaces, buildings, low vegetation, trees, cars and clutter in the images."""

SIDE = 64


def draw_tile(rng, *, classes=(1, 2, 3, 4, 5)):
    """Image uint8 (64, 64, 3) and mask (64, 64): squares of the given classes on impervious ground."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    places = [(r, c) for r in (2, 23, 44) for c in (2, 23, 44)]
    for label, place in zip(classes, rng.permutation(len(places)), strict=False):
        row, col = places[place]
        height, width = rng.integers(12, 19, 2)
        mask[row : row + height, col : col + width] = label
    image = np.array(COLOURS, np.int16)[mask] + rng.integers(-12, 13, (SIDE, SIDE, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def make_cities(folder, *, tiles=8, seed=0, classes=(1, 2, 3, 4, 5)):
    """Prepared tiles of two cities: `tiles` of each, three quarters for training, the rest validation and test.

    Tiles of a city are cut from one large image without overlap.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    scenes = []
    for city in ("easton", "weston"):
        for n in range(tiles):
            image, mask = draw_tile(rng, classes=classes)
            name = f"{city}_{n:02d}"
            cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
            cv2.imwrite(str(folder / f"{name}_mask.png"), mask)
            split = "train" if n < tiles * 3 // 4 else "validation" if n % 2 == 0 else "test"
            scenes.append(
                Scene(
                    name=name,
                    event=city,
                    split=split,
                    pre=folder / f"{name}.png",
                    class_mask=folder / f"{name}_mask.png",
                    tile=Tile(source=city, row=0, col=SIDE * n, height=SIDE, width=SIDE * tiles),
                    width=SIDE,
                    height=SIDE,
                    class_pixels=np.bincount(mask.ravel(), minlength=6).tolist(),
                )
            )
    legend = LEGENDS["isprs"]
    Manifest(kind="folder", scheme=legend.name, legend=legend, scenes=scenes).save(folder)
    return folder
