"""Crops per second of the augmentation, beside a plain per-sample OpenCV version that warps whole scenes.

    python bench/augment.py --rounds 5

Two recipes: the xView2 winner's ResNet-50 for damage (512 px, both dates) and MetaDamageNet's ResNet-34 for localization
(736 px). Both sides get the same decoded scenes of 1024 px, have two threads, and end with a normalised float batch; they
take turns, and the ratio is that of the medians. `--decode` reads the PNG files for every crop as well.
"""

import argparse
import json
import random
import re
import statistics
import tempfile
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

from aftermap.config import Config, build_config
from aftermap.data.augment import eight_bit, operations
from aftermap.data.loading.loader import CropSource
from aftermap.data.loading.sampling import ClassSampling, SamplingConfig
from aftermap.data.scene import Scene
from aftermap.synthetic import make_pair

SIDE, BATCH, THREADS = 1024, 16, 2


class Recipe(Config):
    """The part of a training recipe that this is about."""

    augment: operations.Operations = operations.DEFAULT
    sampling: SamplingConfig = ClassSampling()


def examples() -> list[Recipe]:
    """The two recipes that the vocabulary's own documentation writes out."""
    blocks = re.findall(r"\n\n((?:    .*\n|\n)+)", operations.__doc__ or "")
    return [build_config(Recipe, yaml.safe_load(textwrap.dedent(block))) for block in blocks]


def write_scenes(folder: Path, count: int) -> list[Scene]:
    scenes = []
    for number in range(count):
        pair = make_pair(number, size_px=SIDE, kind="wind")
        files = {key: folder / f"{number}_{key}.png" for key in ("pre", "post", "damage_mask")}
        for key in ("pre", "post"):
            cv2.imwrite(str(files[key]), getattr(pair, key)[::-1].transpose(1, 2, 0))
        cv2.imwrite(str(files["damage_mask"]), pair.damage_mask)
        counts = np.bincount(pair.damage_mask.ravel(), minlength=5)[:5].tolist()
        scenes.append(
            Scene(name=str(number), event="e", width=SIDE, height=SIDE, class_pixels=counts, **files)
        )
    return scenes


# --- the plain version: every step on the whole scene, one sample after the other ---

Picture = np.ndarray


def warp(image: Picture, matrix: np.ndarray) -> Picture:
    return cv2.warpAffine(
        image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def jitter(image: Picture, most: float, sigma: float) -> Picture:
    height, width = image.shape[:2]
    noise = (np.random.rand(2, height, width).astype(np.float32) * 2 - 1) * most
    if sigma > 0.5:
        noise = np.stack([cv2.GaussianBlur(plane, (63, 63), sigma) for plane in noise])
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(image, x + noise[0], y + noise[1], cv2.INTER_CUBIC)


def plain_geometry(
    images: list[Picture],
    masks: list[Picture],
    shift: Callable[[], tuple[int, int]],
    gates: tuple[float, ...],
) -> tuple[list[Picture], list[Picture]]:
    flip, turn, move, rotate = (random.random() < gate for gate in gates)
    pictures = [*images, *masks]
    if flip:
        pictures = [picture[::-1] for picture in pictures]
    if turn:
        quarters = random.randrange(4)
        pictures = [np.rot90(picture, quarters) for picture in pictures]
    if move:
        dx, dy = shift()
        pictures = [warp(np.ascontiguousarray(p), np.float32([[1, 0, dx], [0, 1, dy]])) for p in pictures]
    if rotate:
        centre = SIDE / 2 + random.randint(-320, 320), SIDE / 2 + random.randint(-320, 320)
        matrix = cv2.getRotationMatrix2D(centre, random.randint(-10, 10), random.uniform(0.9, 1.1))
        pictures = [warp(np.ascontiguousarray(picture), matrix) for picture in pictures]
    return pictures[: len(images)], pictures[len(images) :]


def plain_crop(
    pictures: list[Picture], weight: Picture, sizes: Callable[[], int], tries: int, crop: int
) -> list[Picture]:
    best, largest = (0, 0, crop), -1.0
    for _ in range(tries):
        side = sizes()
        column, row = random.randint(0, SIDE - side), random.randint(0, SIDE - side)
        score = float(weight[row : row + side, column : column + side].sum()) / side**2
        if score > largest:
            best, largest = (column, row, side), score
    column, row, side = best
    return [
        cv2.resize(np.ascontiguousarray(p[row : row + side, column : column + side]), (crop, crop))
        for p in pictures
    ]


def chain(image: Picture, outer: tuple[float, float], inner: float) -> Picture:
    def noise(image: Picture) -> Picture:
        return eight_bit.add_noise(image, np.random.normal(30, 30**0.5, image.shape))

    def factor() -> float:
        return random.uniform(0.9, 1.1)

    first = (eight_bit.equalize, noise, eight_bit.blur_box)
    second = (
        lambda i: eight_bit.change_saturation(i, factor()),
        lambda i: eight_bit.change_brightness(i, factor()),
        lambda i: eight_bit.change_contrast(i, factor()),
    )
    for gate, members in zip(outer, (first, second), strict=True):
        if random.random() < gate:
            for member in members:
                if random.random() < inner:
                    return member(image)
            return image
    return image


def shifted(image: Picture, change: Callable[..., Picture], most: int) -> Picture:
    return change(image, *(random.randint(-most, most) for _ in range(3)))


def plain_damage(pre: Picture, post: Picture, mask: Picture) -> tuple[list[Picture], Picture]:
    planes = [(mask == c).astype(np.uint8) * 255 for c in range(1, 5)]
    images, planes = plain_geometry(
        [pre, post],
        planes,
        lambda: (random.randint(-320, 320), random.randint(-320, 320)),
        (0.5, 0.95, 0.2, 0.8),
    )
    side = random.randint(445, 602) if random.random() < 0.9 else 512
    weight = planes[0] + 5.0 * planes[1] + 5.0 * planes[2] + 2.0 * planes[3]
    *images, a, b, c, d = plain_crop([*images, *planes], weight, lambda: side, random.randint(1, 10), 512)
    classes = np.zeros((512, 512), np.uint8)
    for index, plane in ((1, a), (4, d), (3, c), (2, b)):
        classes[plane > 127] = index
    for change in (eight_bit.shift_channels, eight_bit.shift_hsv):
        for date in (0, 1):
            if random.random() < 0.04:
                images[date] = shifted(images[date], change, 5)
                break
    images = [chain(image, (0.1, 0.1), 0.04) for image in images]
    images = [jitter(i, random.uniform(0.25, 1.2), 0) if random.random() < 0.04 else i for i in images]
    return images, classes


def plain_localization(pre: Picture, post: Picture, mask: Picture) -> tuple[list[Picture], Picture]:
    image = post if random.random() < 0.015 else pre
    (image,), (plane,) = plain_geometry(
        [image],
        [(mask > 0).astype(np.uint8) * 255],
        lambda: (random.randint(205, 819), random.randint(205, 819)),
        (0.5, 0.95, 0.2, 0.8),
    )
    image, plane = plain_crop([image, plane], plane, lambda: int(random.uniform(0.6, 0.9) * SIDE), 5, 736)
    for change in (eight_bit.shift_channels, eight_bit.shift_hsv):
        if random.random() < 0.03:
            image = shifted(image, change, 3)
            break
    image = chain(image, (0.07, 0.07), 0.03)
    if random.random() < 0.03:
        image = jitter(image, 184, 10)
    return [image], (plane > 127).astype(np.uint8)


class Plain:
    """Batches of the plain version, its samples made by two threads."""

    def __init__(
        self, scenes: list[Scene], sample: Callable[..., tuple[list[Picture], Picture]], *, decode: bool
    ):
        self._scenes, self._sample = scenes, sample
        self._held = None if decode else [self._decode(scene) for scene in scenes]
        self._pool = ThreadPoolExecutor(THREADS)

    def _decode(self, scene: Scene) -> tuple[Picture, Picture, Picture]:
        assert scene.post is not None and scene.damage_mask is not None
        mask = cv2.imread(str(scene.damage_mask), cv2.IMREAD_UNCHANGED)
        dates = [
            cv2.imread(str(path)) for path in (scene.pre, scene.post)[: 1 + (self._sample is plain_damage)]
        ]
        return dates[0], dates[-1], mask

    def _one(self, _: int) -> tuple[Picture, Picture]:
        number = random.randrange(len(self._scenes))
        scene = self._decode(self._scenes[number]) if self._held is None else self._held[number]
        images, mask = self._sample(*scene)
        return np.stack(images).transpose(0, 3, 1, 2), mask

    def batch(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        samples = list(self._pool.map(self._one, range(BATCH)))
        image = torch.from_numpy(np.stack([s[0] for s in samples])).float()
        return image.div_(127).sub_(1), torch.from_numpy(np.stack([s[1] for s in samples])).long()


def ours(recipe: Recipe, scenes: list[Scene], *, damage: bool, decode: bool) -> CropSource:
    sampling = recipe.sampling.model_copy(update={"batch_size": BATCH} | ({"cache_mb": 0} if decode else {}))
    return CropSource(
        scenes,
        target="damage" if damage else "building",
        dates=2 if damage else 1,
        sampling=sampling,
        augment=recipe.augment,
        mean=(127,) * 3,
        std=(127,) * 3,
        seed=0,
        bands=("blue", "green", "red"),
        workers=THREADS,
    )


def measure(source: CropSource | Plain, first: int, batches: int) -> tuple[float, float]:
    """Crops per second, and per second of processor time; nothing is made before, nothing beyond."""
    wall, processor = time.perf_counter(), time.process_time()
    for index in range(first, first + batches):
        if isinstance(source, CropSource):
            source.ahead = min(THREADS, first + batches - 1 - index)
        source.batch(index)
    crops = batches * BATCH
    return crops / (time.perf_counter() - wall), crops / (time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # the workers are the threads; more would only wait for each other
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        scenes = write_scenes(Path(folder), arguments.scenes)
        winner, meta = examples()
        for name, recipe, plain in (
            ("xView2 winner, ResNet-50 damage", winner, plain_damage),
            ("MetaDamageNet, ResNet-34 localization", meta, plain_localization),
        ):
            sides = {
                "ours": ours(recipe, scenes, damage=plain is plain_damage, decode=arguments.decode),
                "plain": Plain(scenes, plain, decode=arguments.decode),
            }
            found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for source in sides.values():
                measure(source, 0, 2)
            for number in range(arguments.rounds):
                for side, source in sides.items():
                    found[side].append(measure(source, 2 + number * arguments.batches, arguments.batches))
            sides["ours"].close()  # type: ignore[union-attr]
            rates = {
                side: [round(statistics.median(column), 1) for column in zip(*pairs, strict=True)]
                for side, pairs in found.items()
            }
            results[name] = {
                "crops_per_second": {side: rate[0] for side, rate in rates.items()},
                "crops_per_processor_second": {side: rate[1] for side, rate in rates.items()},
                "ratio": round(rates["ours"][0] / rates["plain"][0], 2),
                "ratio_processor": round(rates["ours"][1] / rates["plain"][1], 2),
            }
            print(name, json.dumps(results[name]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
