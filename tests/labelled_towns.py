"""Tiny datasets of one town with labels of different classes: buildings alone, or roads and water without them."""

import cv2
import numpy as np

from aftermap.data.legends import Legend
from aftermap.data.scene import Manifest, Scene, Tile

GROUNDS = Legend(
    name="grounds",
    names=("other", "road", "water"),
    colours=("#000000", "#ffff00", "#0000ff"),
    background=0,
)
COLOURS = ((120, 120, 120), (200, 60, 50), (240, 220, 60), (40, 60, 200))
"""Of ground, buildings, roads and water in the images."""


def make_towns(folder, *, legend=None, seed=0, tiles=6, name="tile", bands=None):
    """Images of buildings, roads and water; masks tell buildings alone, or all but buildings where there is a legend."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    scenes = []
    for n in range(tiles):
        truth = np.zeros((64, 64), np.uint8)
        for label, (row, col) in zip(
            (1, 2, 3), rng.permutation([(2, 2), (2, 36), (36, 2), (36, 36)]), strict=False
        ):
            truth[row : row + 24, col : col + 24] = label
        image = np.array(COLOURS, np.int16)[truth] + rng.integers(-12, 13, (64, 64, 3))
        mask = np.uint8(truth == 1) if legend is None else np.array([0, 0, 1, 2], np.uint8)[truth]
        cv2.imwrite(str(folder / f"{n}.png"), np.clip(image, 0, 255).astype(np.uint8)[..., ::-1])
        cv2.imwrite(str(folder / f"{n}_mask.png"), mask)
        options = {"building_mask" if legend is None else "class_mask": folder / f"{n}_mask.png"}
        if bands:
            options["bands"] = bands
        scenes.append(
            Scene(
                name=f"{name}_{n}",
                event=f"{folder.name}-{n}",
                split="train" if n < tiles - 2 else "validation" if n == tiles - 2 else "test",
                pre=folder / f"{n}.png",
                tile=Tile(source=f"{name}_{n}", row=0, col=0, height=64, width=64),
                width=64,
                height=64,
                class_pixels=np.bincount(mask.ravel(), minlength=2 if legend is None else 3).tolist(),
                **options,
            )
        )
    scheme = "building" if legend is None else legend.name
    Manifest(kind="folder", scheme=scheme, legend=legend, scenes=scenes).save(folder)
    return folder
