"""Batches of crops from a prepared dataset; batch number n is the same whenever and wherever it is asked for."""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Literal

import numpy as np
import torch

from aftermap.classes import IGNORE
from aftermap.config import Config
from aftermap.data.augment import Augment, AugmentConfig
from aftermap.data.batch import Batch
from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.errors import DataError

Target = Literal["building", "damage"]


class SamplingConfig(Config):
    """How crops are chosen.

    Attributes:
        crop_px: height and width of a crop.
        batch_size: crops per batch.
        class_share: share of the crops that are centred on a pixel of a drawn class; the rest lie anywhere.
        class_weights: relative chance of each class for those crops (background first); classes that no
            scene holds are left out.
        cache_mb: decoded scenes kept in memory.
        date_swap: localization only: chance that the post image stands in for the pre image.
    """

    crop_px: int = 256
    batch_size: int = 16
    class_share: float = 0.8
    class_weights: tuple[float, ...] = (1, 2, 2, 2, 2)
    cache_mb: int = 4000
    date_swap: float = 0.0


class CropSource:
    """Draws augmented, normalised crops; safe to ask for from one thread, reads ahead in others."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        target: Target,
        dates: int,
        sampling: SamplingConfig,
        augment: AugmentConfig | None,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        ahead: int = 2,
    ) -> None:
        """Plan the sampling.

        Args:
            scenes: the training scenes.
            target: which mask is learned.
            dates: images per crop.
            sampling: see `SamplingConfig`.
            augment: None leaves crops as they are.
            mean: per band, in units of the stored values (0..255).
            std: likewise.
            seed: all draws follow from it and the batch number.
            ahead: batches prepared in advance.

        Raises:
            DataError: no scene at all.
        """
        if not scenes:
            raise DataError("no training scenes: assign splits with 'aftermap data split'")
        self._scenes = list(scenes)
        self._target: Target = target
        self._dates = dates
        self._sampling = sampling
        self._augment = Augment(augment) if augment is not None else None
        self._mean = torch.tensor(mean).reshape(-1, 1, 1)
        self._std = torch.tensor(std).reshape(-1, 1, 1)
        self._seed = seed
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="crops")
        self._pending: dict[int, Future[tuple[np.ndarray, np.ndarray]]] = {}
        self._cache: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._cache_bytes = 0
        self._lock = Lock()
        self._scene_chance = self._chances()

    def batch(self, index: int) -> Batch:
        """Batch number `index`."""
        future = self._pending.pop(index, None) or self._pool.submit(self._crops, index)
        for following in range(index + 1, index + 1 + self._ahead):
            if following not in self._pending:
                self._pending[following] = self._pool.submit(self._crops, following)
        for stale in [i for i in self._pending if i < index]:
            self._pending.pop(stale).cancel()
        images, masks = future.result()
        image = torch.from_numpy(images).float() / 255
        mask = torch.from_numpy(masks).long()
        if self._augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self._seed * 7_368_787 + index)
                image, mask = self._augment(image, mask)
        return Batch((image * 255 - self._mean) / self._std, mask)

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _chances(self) -> np.ndarray:
        """(classes, scenes): chance of each scene when a crop of that class is wanted; rows of 0 are absent."""
        k = 2 if self._target == "building" else 5
        pixels = np.zeros((k, len(self._scenes)))
        for i, scene in enumerate(self._scenes):
            counts = list(scene.class_pixels)
            if len(counts) < k and scene.is_labelled:
                counts = np.bincount(self._read(i)[1].ravel(), minlength=256)[:k].tolist()
            if counts and self._target == "building":
                counts = [counts[0], sum(counts[1:])]
            pixels[: len(counts), i] = counts[:k]
        # a scene with four times the pixels is wanted twice as often
        chance = np.sqrt(pixels)
        total = chance.sum(axis=1, keepdims=True)
        chance /= np.where(total > 0, total, 1)
        return chance

    def _crops(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self._seed, index))
        pairs = [self._crop(rng) for _ in range(self._sampling.batch_size)]
        return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        s, size = self._sampling, self._sampling.crop_px
        chances = self._scene_chance
        weights = np.array(s.class_weights[: len(chances)], float) * (chances.sum(axis=1) > 0)
        centre: tuple[int, int] | None = None
        if weights.sum() > 0 and rng.random() < s.class_share:
            wanted = int(rng.choice(len(weights), p=weights / weights.sum()))
            i = int(rng.choice(len(self._scenes), p=chances[wanted]))
            images, mask = self._read(i)
            rows, cols = np.nonzero(mask[::4, ::4] == wanted)
            if len(rows):
                at = int(rng.integers(len(rows)))
                spread = size // 4
                jitter = rng.integers(-spread, spread + 1, 2)
                centre = int(rows[at]) * 4 + int(jitter[0]), int(cols[at]) * 4 + int(jitter[1])
        else:
            images, mask = self._read(int(rng.integers(len(self._scenes))))
        h, w = mask.shape
        if centre is None:
            centre = int(rng.integers(h)), int(rng.integers(w))
        row = int(np.clip(centre[0] - size // 2, 0, max(0, h - size)))
        col = int(np.clip(centre[1] - size // 2, 0, max(0, w - size)))
        if self._dates == 1 and len(images) == 2:
            swap = s.date_swap and rng.random() < s.date_swap
            images = images[1:] if swap else images[:1]
        image, label = (
            images[..., row : row + size, col : col + size],
            mask[row : row + size, col : col + size],
        )
        down, right = size - label.shape[0], size - label.shape[1]
        if down or right:
            image = np.pad(image, ((0, 0), (0, 0), (0, down), (0, right)), mode="symmetric")
            label = np.pad(label, ((0, down), (0, right)), constant_values=IGNORE)
        return image, label

    def _read(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (T, 3, H, W) and mask (H, W) of scene `i`, from memory where they are still there."""
        with self._lock:
            if i in self._cache:
                self._cache.move_to_end(i)
                return self._cache[i]
        scene = self._scenes[i]
        dates = 2 if self._dates == 2 or (self._sampling.date_swap and scene.post is not None) else 1
        entry = read_images(scene, dates=dates), read_mask(scene, target=self._target)
        if entry[0].shape[-2:] != entry[1].shape:
            raise DataError(
                f"{scene.name}: image {entry[0].shape[-2:]} and mask {entry[1].shape} differ in size"
            )
        with self._lock:
            self._cache[i] = entry
            self._cache_bytes += entry[0].nbytes + entry[1].nbytes
            while self._cache_bytes > self._sampling.cache_mb * 1_000_000 and len(self._cache) > 1:
                _, old = self._cache.popitem(last=False)
                self._cache_bytes -= old[0].nbytes + old[1].nbytes
        return entry
