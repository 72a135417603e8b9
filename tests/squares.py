"""A tiny data set: grey squares before, squares in the colour of their damage after."""

import cv2
import numpy as np

from aftermap.data.scene import Manifest, Scene

COLOURS = {1: (60, 160, 60), 2: (200, 200, 60), 3: (220, 120, 40), 4: (200, 40, 60)}


def make_dataset(folder, *, scenes=6, seed=0):
    """64 px scenes: grey squares before, squares in the colour of their damage after."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    made = []
    for n in range(scenes):
        pre = rng.integers(90, 120, (64, 64, 3), np.uint8)
        post, mask = pre.copy(), np.zeros((64, 64), np.uint8)
        for k, damage in enumerate(rng.permutation([1, 2, 3, 4])):
            r, c = 6 + 30 * (k // 2), 6 + 30 * (k % 2)
            pre[r : r + 18, c : c + 18] = 230
            post[r : r + 18, c : c + 18] = COLOURS[int(damage)]
            mask[r : r + 18, c : c + 18] = damage
        paths = {k: folder / f"{n}_{k}.png" for k in ("pre", "post", "building_mask", "damage_mask")}
        for key, array in {
            "pre": pre[..., ::-1],
            "post": post[..., ::-1],
            "damage_mask": mask,
            "building_mask": np.uint8(mask > 0),
        }.items():
            cv2.imwrite(str(paths[key]), array)
        made.append(
            Scene(
                name=f"squares_{n:08d}",
                event="squares",
                split="train" if n < scenes - 2 else "validation",
                width=64,
                height=64,
                class_pixels=np.bincount(mask.ravel(), minlength=5).tolist(),
                **paths,
            )
        )
    Manifest(kind="folder", scheme="joint-damage-scale", options={"split": "random"}, scenes=made).save(
        folder
    )
    return folder
