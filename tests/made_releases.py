"""Small folders in the layouts of published datasets, made for tests from their public descriptions."""

import cv2
import numpy as np

from made_classes import noise, write_raster

SIZE = 8


def image(path, seed=0, bands=3, **options):
    """A random image; a PNG or JPEG of three bands, or a TIFF of any."""
    pixels = noise(seed, SIZE, SIZE, bands)
    if path.suffix == ".tif":
        write_raster(path, pixels, **options)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels.transpose(1, 2, 0))


def mask(path, *rows):
    """A mask whose rows repeat the values that are given, each row's from the left."""
    values = np.zeros((SIZE, SIZE), np.uint8)
    for number, row in enumerate(rows):
        values[number, : len(row)] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        write_raster(path, values[None])
    else:
        cv2.imwrite(str(path), values)
    return values


def drone_photographs(root, last=10):
    """RescueNet (`last` 10) or FloodNet (9): one image of each set."""
    for number, subset in enumerate(("train", "val", "test")):
        folder = root / subset
        image(folder / f"{subset}-org-img" / f"{10778 + number}.jpg", number)
        mask(folder / f"{subset}-label-img" / f"{10778 + number}_lab.png", [0, 2, 5], [last])
    return root


def flair(root):
    """FLAIR #1: an image of the training set and one of the test set, which is a folder of its own."""
    for subset, number in (("train", "000001"), ("test", "061713")):
        place = f"D0{12 + len(subset)}_2021/Z1_NN"
        image(root / f"flair_1_aerial_{subset}" / place / "img" / f"IMG_{number}.tif", bands=5)
        values = np.full((1, SIZE, SIZE), 12, np.uint8)
        values[0, 0, :3] = 1, 13, 19
        write_raster(root / f"flair_1_labels_{subset}" / place / "msk" / f"MSK_{number}.tif", values)
    return root


def change(root, folders, names=("1",), suffix=".png", changed=255):
    """Two dates with a mask of change."""
    before, after, label = folders
    for number, name in enumerate(names):
        image(root / before / f"{name}{suffix}", number)
        image(root / after / f"{name}{suffix}", number + 50)
        mask(root / label / f"{name}{suffix}", [0, changed, changed])
    return root


def bright(root, names=("bata-explosion_00000000", "ukraine-conflict_00000003")):
    """BRIGHT: three bands before, one of SAR after; the last pair lacks its image before."""
    for number, name in enumerate(names):
        if number + 1 < len(names) or len(names) == 1:
            image(root / "pre-event" / f"{name}_pre_disaster.tif", number)
        image(root / "post-event" / f"{name}_post_disaster.tif", number + 50, bands=1)
        mask(root / "target" / f"{name}_building_damage.tif", [0, 1, 2, 3])
    return root


def levels(root, masks="masks", ending="", both=True):
    """Ida-BD, or EBD: pairs with masks of 0 to 4."""
    image(root / "images" / "ida_0001_pre_disaster.png", 1)
    image(root / "images" / "ida_0001_post_disaster.png", 2)
    mask(root / masks / f"ida_0001_post_disaster{ending}.png", [0, 1, 2, 3, 4, 255])
    if both:
        mask(root / masks / f"ida_0001_pre_disaster{ending}.png", [0, 1, 1, 1, 1, 0])
    return root
